"""Reads of statements that are ready for the driver: on a pooled connection in autocommit, past SQLAlchemy's layers.

A read is one round trip. Where the connection turns out to have been dropped, such as by a restart of the server, the
read is sent once more on another one: it changes nothing, and so can be repeated.
"""

from __future__ import annotations

import time
from collections import namedtuple
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import psycopg2
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.core.database.engine import connection_for_reads
from api.core.database.failures import as_sqlalchemy, raise_meaning
from api.core.database.statements import count_statement

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Engine

_SOON = 1.0
"""Seconds. Of a connection that fails later than this, the server was slow, and would be so again."""
_TEXTS = 1024


class ReadConnection:
    """`with ReadConnection(engine) as connection:` has `exec_driver_sql`, as SQLAlchemy's connection has it.

    What the driver raises in the block is turned into an `APIError` where it has a meaning for a client.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool: Any = engine.pool
        self._lent: Any = None
        self._taken: Any = None
        self.connection: Any = None
        """The driver's connection."""

    def __enter__(self) -> Self:
        try:
            self._take()
        except (DBAPIError, PoolTimeoutError) as error:
            raise_meaning(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()
        if isinstance(error, DBAPIError | PoolTimeoutError):
            raise_meaning(error)

    def get_execution_options(self) -> Any:
        """The engine's."""
        return self._engine.get_execution_options()

    def exec_driver_sql(self, text: str, parameters: dict[str, Any] | None = None) -> Result:
        """Send a statement in the driver's own form.

        Raises:
            DBAPIError: as SQLAlchemy does.
            PoolTimeoutError: where the connection was dropped, and there is no other one.
        """
        count_statement(text)
        began = time.monotonic()
        try:
            return self._sent(text, parameters)
        except psycopg2.Error as error:
            is_lost = bool(self.connection.closed)
            if not is_lost:
                raise as_sqlalchemy(text, error, lost=False) from error
            (self._lent or self._taken).invalidate(error)
            if time.monotonic() - began > _SOON:
                raise as_sqlalchemy(text, error, lost=True) from error
        self._give_back()
        self._take(again=True)
        try:
            return self._sent(text, parameters)
        except psycopg2.Error as error:
            raise as_sqlalchemy(text, error, lost=bool(self.connection.closed)) from error

    def _take(self, *, again: bool = False) -> None:
        try:
            self._lent = None if again else self._pool.lend()
            if self._lent is not None:
                self.connection = self._lent.dbapi_connection
                return
            # Where one has been dropped, so may be others that answered a moment ago: the second one is asked first.
            self._taken = self._engine.raw_connection() if again else connection_for_reads(self._engine)
        except psycopg2.Error as error:
            raise as_sqlalchemy(None, error, lost=False) from error
        self.connection = self._taken.dbapi_connection
        self.connection.autocommit = True

    def _give_back(self) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            self._pool.take_back(lent)
            return
        taken, self._taken = self._taken, None
        if taken is None:
            # Another one could not be had.
            return
        if taken.is_valid and not self.connection.closed:
            self.connection.autocommit = False
        taken.close()

    def _sent(self, text: str, parameters: dict[str, Any] | None) -> Result:
        with self.connection.cursor() as cursor:
            if parameters is None:
                cursor.execute(text)
            else:
                cursor.read(text, parameters)
            if cursor.description is None:
                return Result((), [])
            return Result(tuple([column.name for column in cursor.description]), cursor.fetchall())


class Result:
    """All rows of a read."""

    __slots__ = ("_names", "_rows")

    def __init__(self, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        self._names = names
        self._rows = rows

    def one_or_none(self) -> Any:
        """The row, by the names of its columns; None where there is none.

        Raises:
            MultipleResultsFound: where there are more.
        """
        if len(self._rows) > 1:
            raise MultipleResultsFound("a read of one row has found more")
        return _row_type(self._names)._make(self._rows[0]) if self._rows else None

    def one(self) -> Any:
        """The row, by the names of its columns.

        Raises:
            NoResultFound: where there is none.
            MultipleResultsFound: where there are more.
        """
        row = self.one_or_none()
        if row is None:
            raise NoResultFound("a read of one row has found none")
        return row

    def all(self) -> list[tuple[Any, ...]]:
        """The rows, by the places of their columns."""
        return self._rows

    def scalar_one(self) -> Any:
        """The first column of `one`."""
        return self.one()[0]


@lru_cache(_TEXTS)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)  # noqa: PYI024 - its fields are a query's
