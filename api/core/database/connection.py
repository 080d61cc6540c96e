"""A connection that knows what its transaction has been told, and whose transactions begin with their first message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import STATUS_READY, TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as DriverConnection  # noqa: N812 - a class, whatever its name

from api.core.database.pooler import check_settings
from api.core.database.prepared import Known
from api.core.database.watchdog import WatchedConnection, WatchedCursor

if TYPE_CHECKING:
    from api.core.database.context import Acting

ALL_ROWS = "_all_rows"
"""What stands behind the name of the API's role in that of the role from which no row is hidden."""
_RIGHTS = (
    "SELECT (SELECT rolname FROM pg_roles WHERE rolname = session_user || %s "
    "AND pg_has_role(session_user, oid, 'MEMBER') AND NOT pg_has_role(session_user, oid, 'USAGE')), "
    "EXISTS (SELECT FROM pg_class WHERE relrowsecurity AND pg_has_role(session_user, relowner, 'USAGE')), "
    "pg_backend_pid()"
)
_NO_OPTIONS = (None, None, None)
_driver_commits = DriverConnection.autocommit.__get__  # type: ignore[attr-defined]  # one of C
_let_driver_commit = DriverConnection.autocommit.__set__  # type: ignore[attr-defined]


class AttributedConnection(WatchedConnection):
    """A connection that knows what its transaction has been told; None where that is nothing, or not sure."""

    told: Acting | None = None
    all_rows_role: str | None = None
    """The role that it may become, from which no row is hidden."""
    is_preparing: bool = True
    """Whether its reads are planned once."""
    is_owner: bool = False
    """Whether its role owns tables with row security, which hides nothing from it."""
    is_direct: bool = False
    """Whether it has a server process of its own, and not one from a pooler, which answers with a number it made up."""
    is_begun: bool = False
    """Whether a message has begun the transaction, and not the driver."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared = Known()
        self.waiting: list[bytes] = []
        """Statements that go in front of the next one."""
        self.autocommit = True
        with self.cursor(cursor_factory=WatchedCursor) as cursor:
            cursor.execute(_RIGHTS, [ALL_ROWS])
            self.all_rows_role, self.is_owner, process = cursor.fetchone() or (None, False, None)
        self.is_direct = process == self.get_backend_pid()
        if not self.is_direct:
            check_settings(self)
        self.autocommit = False

    @property
    def autocommit(self) -> bool:
        """Whether each message is a transaction; the driver takes it for so, too, in one that a message has begun."""
        return not self.is_begun and _driver_commits(self)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if self.is_begun:
            raise psycopg2.ProgrammingError("autocommit cannot be changed inside a transaction")
        _let_driver_commit(self, value)

    def set_isolation_level(self, level: Any) -> None:
        """Set the isolation of the next transaction; the one that is open is rolled back, as the driver does it."""
        if self.is_begun:
            self.rollback()
        super().set_isolation_level(level)

    def begin(self) -> bool:
        """Whether the first message has to begin the transaction; the driver would send one more for it."""
        options = (self.isolation_level, self.readonly, self.deferrable)
        if self.autocommit or self.status != STATUS_READY or self.is_begun or options != _NO_OPTIONS:
            return False
        _let_driver_commit(self, True)
        self.is_begun = True
        return True

    @property
    def has_failed_to_begin(self) -> bool:
        """Whether the server knows nothing of the transaction that a message was to begin."""
        return self.is_begun and not self.closed and self.get_transaction_status() == TRANSACTION_STATUS_IDLE

    def leave_to_driver(self) -> None:
        """Let the driver know of a transaction that a message has begun, as some of what it does asks for one.

        It begins another one with its next statement, of which the server just remarks that there is one.
        """
        if self.is_begun:
            self.is_begun = False
            _let_driver_commit(self, False)

    def commit(self) -> None:
        """Commit the transaction with what has been waiting, and with it end its settings."""
        if self.is_begun:
            self._send(b";\n".join([*self.waiting, b"COMMIT"]))
            self.leave_to_driver()
        else:
            if self.waiting:
                self._send(b";\n".join(self.waiting))
            super().commit()
        self.waiting.clear()
        self.told = None

    def rollback(self) -> None:
        """Roll the transaction back, and with it its settings; the pool does it to what it has handed out for one."""
        if self.status != STATUS_READY or self.closed:
            super().rollback()
        elif self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self._send(b"ROLLBACK")
        if not self.closed:
            self.leave_to_driver()
        self.told = None
        self.waiting.clear()

    def _send(self, message: bytes) -> None:
        with self.cursor(cursor_factory=WatchedCursor) as cursor:
            cursor.execute(message)


class UnpreparingConnection(AttributedConnection):
    """One that has each statement planned anew."""

    is_preparing = False
