"""The threads that answer requests."""

from __future__ import annotations

from collections import deque
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Crew:
    """Threads that answer one request after the other, in the order in which these are handed to them.

    The standard library's executor makes a future for each, whose result nobody asks for, and its queue wakes a second
    thread for nothing. Here the thread that has rested least is woken: what it needs is in the processor's caches, and
    with little to do only few threads contend for the interpreter.
    """

    def __init__(self, size: int, answer: Callable[[Any], None]) -> None:
        """Have `answer` called with each connection that is handed over."""
        self._answer = answer
        self._lock = Lock()
        self._resting: list[_Bed] = []
        self._waiting: deque[Any] = deque()
        for number in range(size):
            # Whoever ends the process has waited for them for as long as it wanted to.
            Thread(target=self._work, name=f"request-{number}", daemon=True).start()

    def hand_over(self, conn: Any) -> None:
        """Let the first that is free answer the request on `conn`."""
        with self._lock:
            bed = self._resting.pop() if self._resting else None
            if bed is None:
                self._waiting.append(conn)
        if bed is not None:
            bed.wake(conn)

    def _work(self) -> None:
        bed = _Bed()
        while True:
            with self._lock:
                conn = self._waiting.popleft() if self._waiting else None
                if conn is None:
                    self._resting.append(bed)
            self._answer(bed.rest() if conn is None else conn)


class _Bed:
    """Where one thread rests until there is something to do."""

    __slots__ = ("_conn", "_lock")

    def __init__(self) -> None:
        self._conn: Any = None
        self._lock = Lock()
        self._lock.acquire()

    def rest(self) -> Any:
        """Wait for the connection that `wake` is called with."""
        self._lock.acquire()
        conn, self._conn = self._conn, None
        return conn

    def wake(self, conn: Any) -> None:
        """End the rest."""
        self._conn = conn
        self._lock.release()
