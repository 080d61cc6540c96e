"""Who is acting, in which request, and which rows they may touch: told to the database with what is sent to it.

A thread or task says it once, with `acting_as()` or `identify()`; whatever goes to the database then, through the ORM,
Core or the driver, bears it. The settings are local to a transaction, so they hold behind PgBouncer in transaction
mode, and nobody inherits them from a pooled connection. They travel in front of the transaction's first statement, in
the same message, and cost no round trip. So they do in front of a read in autocommit, with which they are one
transaction (PostgreSQL documentation, 54.2.2.1: several statements in a simple query); but only where it needs them:
where it names a table of which not everybody may see every row, or where there is a credential to be checked.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2
from psycopg2.extensions import cursor as DriverCursor  # noqa: N812 - a class, whatever its name
from psycopg2.sql import Composable

from api.core.database.prepared import MISTAKEN, SIZE, prepared
from api.core.database.watchdog import PING, WatchedCursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.core.database.connection import AttributedConnection
    from api.core.database.prepared import Prepared

EVERYTHING = "*"
"""`Acting.unrestricted` of whoever may touch all rows of all tables."""
ACTOR, REQUEST_ID, USER_ID, UNRESTRICTED = "app.actor", "app.request_id", "app.user_id", "app.unrestricted"
"""The names of the settings."""

# Not set_config(): a query has to be planned, and answers with a row.
_ROLE = "SET LOCAL ROLE %s"
_ROWS = f"SET LOCAL {USER_ID} = %s; SET LOCAL {UNRESTRICTED} = %s"
_WRITER = f"SET LOCAL {ACTOR} = %s; SET LOCAL {REQUEST_ID} = %s"
# What else there is cannot run in a transaction, such as VACUUM, or touches no rows.
_TOUCHES_ROWS = re.compile(r"[\s(]*(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|TABLE|VALUES|EXPLAIN)\b", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_PLACEHOLDER = re.compile(r"%\(\w+\)s")
_TEXTS = 1024
_ATTEMPTS = 3
"""Messages for one read that may find the server to have prepared other statements, before it is sent as it is."""


class Credential(NamedTuple):
    """What proves who is acting: an SQL expression that raises where it does not hold any more, and its values."""

    check: str
    values: tuple[Any, ...]


class Acting(NamedTuple):
    """Who writes (such as `user:17` or `cli:seed`), and the id of the request in which; None where there is none.

    In tables with row security they touch the rows of `user_id`, and every row of those tables that `unrestricted`
    names, separated by commas.
    """

    actor: str | None = None
    request_id: str | None = None
    credential: Credential | None = None
    user_id: int | None = None
    unrestricted: str = EVERYTHING


_SERVICE = Acting()
_CURRENT: ContextVar[Acting] = ContextVar("acting", default=_SERVICE)
_CHECKED: ContextVar[bool] = ContextVar("credential_checked", default=True)
_secured_tables: dict[str, str] = {}


def secure(table: str, whole: str) -> None:
    """Tell the database who is acting in front of each read that names `table`, which has row security.

    All of its rows may be touched by whoever may touch all rows of `whole`, which its rows are parts of, or itself.
    """
    _secured_tables[table] = whole
    _needs_telling.cache_clear()


@contextmanager
def acting_as(actor: str | None, request_id: str | None = None) -> Iterator[None]:
    """Attribute what the block writes to `actor` and `request_id`; which rows may be touched does not change."""
    with _acting(_CURRENT.get()._replace(actor=actor, request_id=request_id)):
        yield


@contextmanager
def acting_as_service() -> Iterator[None]:
    """Let the block touch all rows, for what the service has to know whoever asks: at a login, whose name it is."""
    with _acting(_CURRENT.get()._replace(unrestricted=EVERYTHING)):
        yield


@contextmanager
def _acting(acting: Acting) -> Iterator[None]:
    before = _CURRENT.get()
    _CURRENT.set(acting)
    try:
        yield
    finally:
        _CURRENT.set(before)


def begin_request(request_id: str) -> None:
    """Attribute what follows to this request, whose sender is not known yet, and who has no rows."""
    _CURRENT.set(Acting(None, request_id, unrestricted=""))
    _CHECKED.set(True)


def identify(
    actor: str | None, credential: Credential | None = None, *, user_id: int | None = None, unrestricted: str = ""
) -> None:
    """Attribute what follows in the current request to `actor`; called once it is known who sends it.

    They touch the rows of `user_id`, and every row of the tables that `unrestricted` names, separated by commas.
    """
    _CHECKED.set(credential is None)
    _CURRENT.set(Acting(actor, _CURRENT.get().request_id, credential, user_id, unrestricted))


def is_credential_unchecked() -> bool:
    """Whether the current request has come with a credential, and nothing has been sent that has it checked."""
    return not _CHECKED.get()


def current_request_id() -> str | None:
    """The id of the request that is being answered; None outside of one."""
    return _CURRENT.get().request_id


def end_request() -> None:
    """Attribute what follows to nobody."""
    _CURRENT.set(_SERVICE)


class AttributedCursor(WatchedCursor):
    """A cursor that tells the database who is acting, where the transaction does not know it yet."""

    connection: AttributedConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name for it
        """Run a statement, in the same round trip behind what has to be told."""
        if isinstance(query, Composable):
            query = query.as_string(self)
        undoes = isinstance(query, str) and query.startswith("ROLLBACK TO")
        if undoes:
            # It was given within the savepoint: each statement takes along what has been waiting.
            self.connection.waiting.clear()
        waiting = [*self.connection.waiting]
        if self.name is not None:
            self.connection.leave_to_driver()
            if self._has_news(query):
                self._tell()
        else:
            query = self._behind_news(query, has_values=vars is not None)
        self._send(query, vars, waiting)
        if undoes:
            # What was told within the savepoint has been forgotten.
            self.connection.told = None

    def _send(self, query: str | bytes, values: Any, waiting: list[bytes]) -> None:
        connection = self.connection
        try:
            super().execute(query, values)
        except psycopg2.Error:
            if connection.has_failed_to_begin:
                # Of a message with a mistake in its grammar nothing has been done, also not what was in front.
                connection.leave_to_driver()
                connection.told = None
                connection.waiting[:] = waiting
            raise

    def read(self, text: str, parameters: dict[str, Any]) -> None:
        """Run a read in autocommit, planned once for this connection where its parameters have clear types.

        Raises:
            psycopg2.Error: as `execute` does.
        """
        known, statement = self.connection.prepared, prepared(text, parameters.get(SIZE))
        attempts = _ATTEMPTS if self.connection.is_preparing else 0
        for _ in range(attempts):
            if statement.name in known.unfit:
                break
            if self._learns(statement, self._told_first(text) + known.message(statement), parameters):
                return
        self.execute(text, parameters)

    def _learns(self, statement: Prepared, message: str, parameters: dict[str, Any] | None = None) -> bool:
        """Send a message with a prepared statement; False where the server refuses it for a reason of preparing."""
        known = self.connection.prepared
        try:
            super().execute(message, parameters)
        except psycopg2.Error as error:
            if error.pgcode not in MISTAKEN:
                raise
            known.learn(statement, error.pgcode)
            return False
        known.names.add(statement.name)
        return True

    def _told_first(self, text: str) -> str:
        """What a read in autocommit has to be told, as the beginning of its message."""
        acting, needs = _CURRENT.get(), _needs_telling(text)
        if not needs.check or not (needs.tables or acting.credential):
            return ""
        known = self.connection.prepared
        # Most of what is told is told again and again.
        key = (needs, acting.user_id, acting.unrestricted, acting.credential)
        told = known.tellings.get(key)
        if told is None:
            parts, values = self._rows(acting, needs.tables)
            if acting.credential:
                parts.append(self._check(acting.credential))
                values += acting.credential.values
            told = self.mogrify("; ".join(parts), values).decode().replace("%", "%%") + ";\n"
            known.keep_telling(key, told)
        if acting.credential:
            _CHECKED.set(True)
        return told

    def _check(self, credential: Credential) -> str:
        """What has a credential checked: planned once, where the server process is nobody else's."""
        connection, plain = self.connection, f"SELECT {credential.check}"
        if not (connection.is_preparing and connection.is_direct):
            return plain
        statement = prepared(_numbered(plain))
        known = connection.prepared
        known.checks.add(statement.name)
        if statement.name not in known.names:
            self._learns(statement, statement.prepare.replace("%%", "%"))
        return _PLACEHOLDER.sub("%s", statement.execute) if statement.name in known.names else plain

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Run a statement many times."""
        if self.connection.autocommit:
            # Each is a transaction of its own.
            for values in vars_list:
                self.execute(query, values)
            return
        if self._has_news(query):
            self._tell()
        super().executemany(query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a COPY statement; in autocommit, it touches no rows of tables with row security."""
        if self.connection.autocommit or self._has_news(sql):
            self._tell()
        super().copy_expert(sql, file, size)

    def _has_news(self, query: str | bytes) -> bool:
        return bool(self.connection.waiting) or self._is_untold(query)

    def _is_untold(self, query: str | bytes) -> bool:
        connection = self.connection
        if not connection.autocommit:
            return connection.told != _CURRENT.get()
        if query == PING:
            return False
        needs = _needs_telling(_text(query))
        return bool(needs.tables) or (needs.check and _CURRENT.get().credential is not None)

    def _behind_news(self, query: str | bytes, *, has_values: bool) -> str | bytes:
        """`query` behind what has to be told for it, and what has been waiting."""
        if not self._has_news(query):
            return query
        news = self._news(query)
        if self.connection.begin():
            news = b"BEGIN;\n" + news
        if isinstance(query, bytes):
            return news + b";\n" + query
        text = news.decode()
        return f"{text.replace('%', '%%') if has_values else text};\n{query}"

    def _news(self, query: str | bytes = "") -> bytes:
        """What goes in front of a query."""
        told = [self._telling(query)] if self._is_untold(query) else []
        parts = [*self.connection.waiting, *told]
        self.connection.waiting.clear()
        self._note_check()
        return b";\n".join(parts)

    def _wait(self, statement: bytes) -> None:
        """Let a statement of a transaction wait for the next one, with who is acting now."""
        if self._is_untold(statement):
            self.connection.waiting.append(self._telling(statement))
        self.connection.waiting.append(statement)

    def _note_check(self) -> None:
        """What is sent now has the credential checked, if there is one."""
        if _CURRENT.get().credential is not None:
            _CHECKED.set(True)

    def _telling(self, query: str | bytes) -> bytes:
        """The statements that tell the transaction; in autocommit, all that this query has to be told."""
        acting = _CURRENT.get()
        if self.connection.autocommit:
            parts, values = self._rows(acting, _needs_telling(_text(query)).tables)
        else:
            self.connection.told = acting
            parts, values = self._rows(acting, frozenset(_secured_tables.values()))
            parts.append(_WRITER)
            values += [acting.actor or "", acting.request_id or ""]
        if acting.credential is not None:
            parts.append(f"SELECT {acting.credential.check}")
            values += acting.credential.values
        told: bytes = self.mogrify("; ".join(parts), values)
        return told

    def _rows(self, acting: Acting, tables: frozenset[str]) -> tuple[list[str], list[Any]]:
        """What tells which rows of these tables may be touched.

        Where all of them may, in a role that no policy holds for: the planner may then use indexes that it must not use
        before a row is known to be in sight, such as those for searches.
        """
        role = self.connection.all_rows_role
        if self.connection.autocommit and not tables:
            return [], []
        if role is not None and (acting.unrestricted == EVERYTHING or tables <= {*acting.unrestricted.split(",")}):
            return ([_ROLE, _ROWS], [role, *_of(acting)]) if not self.connection.autocommit else ([_ROLE], [role])
        if role is None or self.connection.autocommit:
            return [_ROWS], _of(acting)
        return [_ROLE, _ROWS], ["none", *_of(acting)]

    def _tell(self) -> None:
        with self.connection.cursor(cursor_factory=DriverCursor) as cursor:
            # In autocommit it is for what follows, which may touch any row.
            cursor.execute(self._news() or self._telling(""))


def _of(acting: Acting) -> list[Any]:
    return ["" if acting.user_id is None else str(acting.user_id), acting.unrestricted]


@lru_cache(_TEXTS)
def _numbered(text: str) -> str:
    """`text` with names for its placeholders, which have none."""
    pieces = text.split("%s")
    return "".join(f"{piece}%(v{number})s" for number, piece in enumerate(pieces[:-1])) + pieces[-1]


def _text(query: str | bytes) -> str:
    return query if isinstance(query, str) else query.decode(errors="replace")


class _Needs(NamedTuple):
    """What a statement in autocommit needs: to be told which rows of these may be touched; a credential's check."""

    tables: frozenset[str]
    check: bool


@lru_cache(_TEXTS)
def _needs_telling(query: str) -> _Needs:
    """Judged by the words in it: one that names no secured table may be told, too, but none is overlooked.

    A table behind a view or a function is not seen, and no rows of it are.
    """
    touches_rows = _TOUCHES_ROWS.match(query) is not None
    words = _secured_tables.keys() & set(_WORD.findall(query)) if touches_rows else ()
    return _Needs(frozenset(_secured_tables[word] for word in words), touches_rows)
