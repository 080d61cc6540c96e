"""How long a request may take in all."""

from __future__ import annotations

import ctypes
import math
import time
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.core.http.server.sockets import PatientSocket


class OutOfTimeError(BaseException):
    """The request has taken longer than it may. No `Exception`, so that nothing which handles those goes on with it."""


class TimeLimit:
    """The requests that threads are answering, and when each has to be done."""

    def __init__(self, seconds: float) -> None:
        """Allow each request so many seconds, unless it asks for more."""
        self._seconds = seconds
        self._running: dict[int, PatientSocket] = {}
        self._lock = Lock()

    def begin(self, sock: PatientSocket) -> None:
        """The calling thread answers a request on `sock` from now on."""
        sock.deadline = time.monotonic() + self._seconds
        self._running[get_ident()] = sock

    def end(self) -> None:
        """The calling thread has answered its request."""
        with self._lock:
            self._running.pop(get_ident(), None)

    def interrupt_overdue(self) -> int:
        """Raise `OutOfTimeError` in the threads whose time is over; how many there are.

        It is raised when the thread runs Python next: when the database, which has limits of its own, has answered.
        """
        now = time.monotonic()
        # Usually there is nothing to do, and the lock would make threads wait.
        if not any(sock.deadline <= now for sock in [*self._running.values()]):
            return 0
        with self._lock:
            overdue = [ident for ident, sock in self._running.items() if sock.deadline <= now]
            for ident in overdue:
                del self._running[ident]
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(OutOfTimeError))
        return len(overdue)


def allow_time(environ: Mapping[str, Any], seconds: float) -> None:
    """Let this request take so many seconds from now on, 0 for any time; where the server has no limit, do nothing."""
    sock = environ.get("gunicorn.socket")
    if sock is not None and hasattr(sock, "deadline"):
        sock.deadline = time.monotonic() + (seconds or math.inf)
