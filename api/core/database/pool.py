"""SQLAlchemy's pool, which also lends its connections for single reads, without what a transaction needs around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy.pool import QueuePool
from sqlalchemy.util.queue import Queue

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

    from api.core.database.connection import AttributedConnection


class LendingPool(QueuePool):
    """A pool of `AttributedConnection`s.

    What SQLAlchemy hands out is a proxy that rolls back when it is closed, or forgotten; it takes 47 calls of functions
    to make one and to take it back. A read in autocommit leaves nothing to be rolled back.
    """

    # SQLAlchemy names its loggers by it; whoever sets that of `sqlalchemy.pool` means this pool, too.
    __module__ = QueuePool.__module__

    _pool: Queue[ConnectionPoolEntry]

    def lend(self) -> Any | None:
        """The place in the pool of an idle connection that has answered lately, in autocommit, until `take_back`.

        None where there is none, or where somebody listens for connections being taken: then `connect()` has to be
        called.
        """
        if self.dispatch.checkout or self.dispatch.checkin:
            return None
        idle = self._pool
        with idle.mutex:
            if not idle.queue:
                return None
            entry: Any = idle.queue.pop()
        connection: AttributedConnection | None = entry.dbapi_connection
        try:
            # SQLAlchemy makes another one where this one is too old.
            if connection is not None and connection.has_answered_lately and entry.get_connection() is connection:
                connection.autocommit = True
                return entry
        except BaseException:
            self.take_back(entry)
            raise
        self._return_conn(entry)
        return None

    def take_back(self, entry: Any) -> None:
        """Let others have what was lent; a connection that still waits for an answer is closed."""
        connection: AttributedConnection | None = entry.dbapi_connection
        if connection is not None:
            if connection.closed or connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                entry.invalidate()
            else:
                connection.autocommit = False
        # Most find room; the pool's own way there, which also closes what is too many, takes six calls more.
        idle = self._pool
        with idle.mutex:
            if len(idle.queue) < idle.maxsize:
                idle.queue.append(entry)
                idle.not_empty.notify()
                return
        self._return_conn(entry)
