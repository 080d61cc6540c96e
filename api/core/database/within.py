"""Statements that are ready for the driver, sent within a session's transaction past SQLAlchemy's layers.

They are prepared once for each connection, and cost a third of what `Connection.execute` takes of a worker's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy.orm import scoped_session

from api.core.database.failures import as_sqlalchemy
from api.core.database.reading import Result
from api.core.database.session import kept
from api.core.database.statements import count_statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Dialect
    from sqlalchemy.orm import Mapper, Session, SessionTransaction


def connection_of(session: Session, mapper: Mapper[Any] | None = None) -> SessionConnection | Connection:
    """The connection of the session's transaction, to the database of `mapper` where that is another one."""
    session = plain(session)
    connections = kept(session)
    engine = session.get_bind(mapper)
    known = connections.get(engine)
    # A savepoint is made when the session is asked for its connection within it.
    if known is not None and known[0] is _innermost(session):
        found: SessionConnection | Connection = known[1]
        return found
    connection = session.connection({} if mapper is None else {"mapper": mapper})
    # Past SQLAlchemy's layers, its echo would not tell of them.
    found = connection if connection.engine.echo else SessionConnection(connection)
    connections[engine] = _innermost(session), found
    return found


def plain(session: Session | scoped_session[Any]) -> Session:
    """The session itself, also where it is that of whichever context asks."""
    return session() if isinstance(session, scoped_session) else session


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


class SessionConnection:
    """A connection of a session's transaction; has `exec_driver_sql`, as SQLAlchemy's connection has it."""

    __slots__ = ("_connection", "_driver")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver: Any = connection.connection.dbapi_connection

    @property
    def beneath(self) -> Connection:
        """SQLAlchemy's."""
        return self._connection

    @property
    def dialect(self) -> Dialect:
        """The engine's."""
        return self._connection.dialect

    @property
    def connection(self) -> Any:
        """The pool's connection, as SQLAlchemy's bears it."""
        return self._connection.connection

    @property
    def answered(self) -> float | None:
        """When it has last answered, by the monotonic clock; None where something waits to be sent."""
        return None if self._driver.waiting else self._driver.answered

    def get_execution_options(self) -> Any:
        """The connection's."""
        return self._connection.get_execution_options()

    def exec_driver_sql(self, text: str, parameters: dict[str, Any] | None = None) -> Result:
        """Send a statement in the driver's own form; raises as `send` does."""
        description, rows = self.send(text, parameters)
        return Result(tuple(column.name for column in description), rows)

    def send(self, text: str, parameters: dict[str, Any] | None = None) -> tuple[Sequence[Any], list[tuple[Any, ...]]]:
        """Send a statement in the driver's own form; the driver's description of the columns, and the rows.

        Raises:
            DBAPIError: as SQLAlchemy does.
            TransactionConflictError: where the statement has become outdated; the transaction can be tried again.
        """
        count_statement(text)
        with self._driver.cursor() as cursor:
            try:
                if parameters is None:
                    cursor.execute(text)
                else:
                    cursor.run(text, parameters)
                return ((), []) if cursor.description is None else (cursor.description, cursor.fetchall())
            except psycopg2.Error as error:
                raise self._told(text, error) from error

    def run_later(self, text: str, parameters: dict[str, Any]) -> None:
        """Send a statement in one message with the next one, which raises what is wrong with it; no result is seen.

        Raises:
            DBAPIError: as SQLAlchemy does.
        """
        count_statement(text)
        with self._driver.cursor() as cursor:
            try:
                cursor.run_later(text, parameters)
            except psycopg2.Error as error:
                raise self._told(text, error) from error

    def _told(self, text: str, error: psycopg2.Error) -> BaseException:
        """The error as SQLAlchemy tells it."""
        is_lost = bool(self._driver.closed)
        if is_lost:
            self._connection.invalidate(error)
        return as_sqlalchemy(text, error, lost=is_lost)


def run_later(session: Session, text: str, parameters: dict[str, Any]) -> None:
    """`SessionConnection.run_later`; where there is none, the statement is run at once."""
    connection = connection_of(session)
    if isinstance(connection, SessionConnection):
        connection.run_later(text, parameters)
    else:
        connection.exec_driver_sql(text, parameters)
