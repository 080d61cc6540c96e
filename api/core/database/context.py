"""Who writes, and in which request: told to the database with the transaction, for its history.

A thread or task says it once, with `acting_as()`; whatever it writes then, through the ORM, Core or the driver, bears
it. The settings are local to a transaction, so they hold behind PgBouncer in transaction mode, and nobody inherits
them from a pooled connection. They travel in front of the transaction's first statement and cost no round trip.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2.extensions import cursor as DriverCursor  # noqa: N812 - a class, whatever its name

from api.core.database.watchdog import WatchedConnection, WatchedCursor

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = "SELECT set_config('app.actor', %s, true), set_config('app.request_id', %s, true)"


class Credential(NamedTuple):
    """What proves who is acting: an SQL expression that raises where it does not hold any more, and its values."""

    check: str
    values: tuple[Any, ...]


class Acting(NamedTuple):
    """Who writes (such as `user:17` or `cli:seed`), and the id of the request in which; None where there is none."""

    actor: str | None = None
    request_id: str | None = None
    credential: Credential | None = None


_NOBODY = Acting()
_CURRENT: ContextVar[Acting] = ContextVar("acting", default=_NOBODY)


@contextmanager
def acting_as(actor: str | None, request_id: str | None = None) -> Iterator[None]:
    """Attribute what the block writes to `actor` and `request_id`."""
    before = _CURRENT.get()
    _CURRENT.set(Acting(actor, request_id))
    try:
        yield
    finally:
        _CURRENT.set(before)


def begin_request(request_id: str) -> None:
    """Attribute what follows to this request, whose sender is not known yet."""
    _CURRENT.set(Acting(None, request_id))


def identify(actor: str, credential: Credential | None = None) -> None:
    """Attribute what follows in the current request to `actor`; called once it is known who sends it."""
    _CURRENT.set(_CURRENT.get()._replace(actor=actor, credential=credential))


def end_request() -> None:
    """Attribute what follows to nobody."""
    _CURRENT.set(_NOBODY)


class AttributedConnection(WatchedConnection):
    """A connection that knows what its transaction has been told; None where that is not sure."""

    told: Acting | None = _NOBODY

    def commit(self) -> None:
        """Commit the transaction, and with it end its settings."""
        super().commit()
        self.told = _NOBODY

    def rollback(self) -> None:
        """Roll the transaction back, and with it its settings."""
        super().rollback()
        self.told = _NOBODY


class AttributedCursor(WatchedCursor):
    """A cursor that tells the database who is acting, where the transaction does not know it yet."""

    connection: AttributedConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name for it
        """Run a statement, in the same round trip behind what has to be told."""
        if self._is_untold():
            if self.name is None and isinstance(query, str):
                settings = self.mogrify(_SETTINGS, self._news()).decode()
                query = f"{settings if vars is None else settings.replace('%', '%%')};\n{query}"
            else:
                self._tell()
        super().execute(query, vars)
        if isinstance(query, str) and query.startswith("ROLLBACK TO"):
            # What was told within the savepoint has been forgotten.
            self.connection.told = None

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Run a statement many times."""
        if self._is_untold():
            self._tell()
        super().executemany(query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a COPY statement."""
        if self._is_untold():
            self._tell()
        super().copy_expert(sql, file, size)

    def _is_untold(self) -> bool:
        connection = self.connection
        # What is local to a transaction has no meaning in autocommit.
        return connection.told != _CURRENT.get() and not connection.autocommit

    def _news(self) -> tuple[str, str]:
        """The settings that the transaction is told, noted as told."""
        self.connection.told = acting = _CURRENT.get()
        return acting.actor or "", acting.request_id or ""

    def _tell(self) -> None:
        with self.connection.cursor(cursor_factory=DriverCursor) as cursor:
            cursor.execute(_SETTINGS, self._news())
