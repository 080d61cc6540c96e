"""Gives up on a server that does not answer at all: frozen, or cut off in a way that the network does not tell.

`statement_timeout` is the server's own clock and stops with it, and the kernel of a frozen machine still acknowledges
every packet. So while a request waits for the database, its socket is watched, and shut down when the answer is
overdue; the driver then reports a lost connection. Only requests are watched: a migration or a script may wait as long
as it likes.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

from psycopg2 import Error, OperationalError
from psycopg2.extensions import connection as DriverConnection  # noqa: N812 - a class, whatever its name
from psycopg2.extensions import cursor as DriverCursor  # noqa: N812

if TYPE_CHECKING:
    from collections.abc import Iterator

PING = "SELECT 1"
"""What SQLAlchemy asks a pooled connection before it is used."""


class Patience(NamedTuple):
    """Seconds that the server may take: to tell that it is there, and to answer a statement (None for any time)."""

    ping: float
    statement: float | None


ENDLESS = Patience(math.inf, None)
PATIENCE: ContextVar[Patience] = ContextVar("patience", default=ENDLESS)
"""How long to wait in the current context."""

FRESH = 1.0
"""Seconds after an answer for which a connection counts as alive."""
_CHECK_INTERVAL = 0.5
_log = logging.getLogger(__name__)


class Sampled(Protocol):
    """Something whose state is looked at every now and then."""

    def sample(self) -> None:
        """Look at it."""


SAMPLED: WeakSet[Sampled] = WeakSet()
"""Looked at every half second, in each process that has asked the database for anything in a request."""


class _Watchdog:
    """Deadlines of the sockets that wait for an answer, and the thread that enforces them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[object, tuple[float, int]] = {}
        self._thread: threading.Thread | None = None

    def begin(self, entry: object, connection: DriverConnection, deadline: float) -> None:
        """Shut the socket of `connection` down at that monotonic time, unless `end(entry)` comes before."""
        self._deadlines[entry] = (deadline, connection.fileno())
        if self._thread is None:
            self._start()

    def end(self, entry: object) -> None:
        """What has begun has been answered."""
        # Under the lock, so that no socket is shut down whose number has been given to another one meanwhile.
        with self._lock:
            del self._deadlines[entry]

    @contextmanager
    def watching(self, connection: DriverConnection, seconds: float) -> Iterator[None]:
        """Shut the connection's socket down when the block takes longer than `seconds`."""
        entry = object()
        self.begin(entry, connection, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.end(entry)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="database-watchdog", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(_CHECK_INTERVAL)
            now = time.monotonic()
            with self._lock:
                for deadline, number in [*self._deadlines.values()]:
                    if deadline < now:
                        _shut_down(number)
            for each in [*SAMPLED]:
                try:
                    each.sample()
                except Exception:  # noqa: BLE001 - the sockets have to be watched all the same
                    _log.exception("A sample could not be taken")


def _shut_down(number: int) -> None:
    with socket.socket(fileno=os.dup(number)) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Shut down already, a moment ago, and the driver has not noticed yet.
            return


_watchdog = _Watchdog()


def _forget() -> None:
    """Start anew in a forked process, which inherits neither the thread nor what its parent waits for."""
    global _watchdog  # noqa: PLW0603 - one for each process
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_forget)


def hang_up(connection: DriverConnection) -> None:
    """Shut the socket of `connection` down, from any thread: whoever waits for an answer on it gets an error."""
    if not connection.closed:
        _shut_down(connection.fileno())


@contextmanager
def waiting(seconds: float | None) -> Iterator[None]:
    """Let a statement of the block take so many seconds, or any time; of a request, that is, for others may anyway."""
    before = PATIENCE.get()
    if before.statement is not None:
        PATIENCE.set(before._replace(statement=seconds))
    try:
        yield
    finally:
        PATIENCE.set(before)


class DroppedError(OperationalError):
    """A connection that was not asked before turns out to have been dropped: nothing has been done on it."""


class WatchedCursor(DriverCursor):
    """A cursor whose answers may be overdue."""

    connection: WatchedConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name for it
        """Run a statement."""
        patience = PATIENCE.get()
        seconds = patience.ping if query == PING and patience.statement else patience.statement
        connection, began = self.connection, time.monotonic()
        try:
            if seconds is None:
                super().execute(query, vars)
            else:
                _watchdog.begin(self, connection, began + seconds)
                try:
                    super().execute(query, vars)
                finally:
                    _watchdog.end(self)
        except Error as error:
            is_repeatable = connection.is_unasked and not connection.autocommit
            if is_repeatable and connection.closed and time.monotonic() - began < FRESH:
                raise DroppedError(*error.args) from error
            raise
        connection.answered = time.monotonic()
        connection.is_unasked = False

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Run a statement many times."""
        super().executemany(query, vars_list)
        self.connection.answered = time.monotonic()

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a COPY; what a request copies in is a statement like others, what it copies out is watched chunkwise."""
        with _watched(self.connection):
            super().copy_expert(sql, file, size)
        self.connection.answered = time.monotonic()


class WatchedConnection(DriverConnection):
    """A connection whose commits and rollbacks may be overdue."""

    answered = -math.inf
    """When it has answered a statement, by the monotonic clock."""
    is_unasked = False
    """Whether it was taken from the pool without a ping, and has been sent nothing since."""

    @property
    def has_answered_lately(self) -> bool:
        """Whether it needs no ping: should it have been dropped since, the statement itself finds out."""
        return time.monotonic() - self.answered < FRESH

    def commit(self) -> None:
        """Commit the transaction."""
        with _watched(self):
            super().commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        with _watched(self):
            super().rollback()


@contextmanager
def _watched(connection: DriverConnection) -> Iterator[None]:
    seconds = PATIENCE.get().statement
    if seconds is None or connection.closed:
        yield
    else:
        with _watchdog.watching(connection, seconds):
            yield
