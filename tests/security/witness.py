"""Watches what an attack does: the statements that are sent, the answers, the schema of the database."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from api.core.database.context import AttributedCursor
from api.extensions import db
from tests.security.payloads import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from werkzeug.test import TestResponse

# PostgreSQL's literals as they are written with standard_conforming_strings, and with backslashes behind an E.
_LITERAL = re.compile(r"(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'", re.DOTALL)
_LEAKS = re.compile(
    r"psycopg|sqlalchemy|Traceback|werkzeug|\.py\b|LINE \d+:|syntax error|relation \"|column \"|DETAIL:|"
    r"CONTEXT:|HINT:|UndefinedTable|InvalidTextRepresentation|SQLSTATE|unterminated|set_config\('app|SET LOCAL|"
    r"FROM public\.|<class '|0x[0-9a-f]{8}",
    re.IGNORECASE,
)
_SCHEMA = text(
    "SELECT md5(string_agg(line, chr(10) ORDER BY line)) FROM ("
    " SELECT format('%s.%s.%s %s', table_schema, table_name, column_name, data_type) AS line"
    " FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    " UNION ALL SELECT oid::regprocedure::text || md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    " UNION ALL SELECT rolname || rolsuper FROM pg_roles"
    " UNION ALL SELECT polname::text FROM pg_policy"
    " UNION ALL SELECT tgname::text FROM pg_trigger) AS lines"
)


def outside_of_literals(statement: str) -> str:
    """What of an SQL statement is code, and no value."""
    return _LITERAL.sub("''", statement)


class Statements:
    """The statements that the driver has sent, with all values in them."""

    def __init__(self) -> None:
        self.count = 0
        self.with_mark = 0
        """Of these, how many held a payload: what was tried has come so far."""
        self.suspicious: list[str] = []

    def note(self, sent: str | bytes | None) -> None:
        """Look at a statement."""
        statement = sent.decode(errors="replace") if isinstance(sent, bytes) else str(sent)
        self.count += 1
        if MARK in statement.lower():
            self.with_mark += 1
            if MARK in outside_of_literals(statement).lower():
                self.suspicious.append(statement)


@contextmanager
def watching(patch: pytest.MonkeyPatch) -> Iterator[Statements]:
    """Note every statement of the block as it is sent, below whatever has built it."""
    seen = Statements()
    execute, copy = AttributedCursor.execute, AttributedCursor.copy_expert

    def noted_execute(cursor: AttributedCursor, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name for it
        try:
            execute(cursor, query, vars)
        finally:
            seen.note(cursor.query)

    def noted_copy(cursor: AttributedCursor, sql: Any, *args: Any, **kwargs: Any) -> None:
        seen.note(sql)
        copy(cursor, sql, *args, **kwargs)

    with patch.context() as patched:
        patched.setattr(AttributedCursor, "execute", noted_execute)
        patched.setattr(AttributedCursor, "copy_expert", noted_copy)
        yield seen


def leaks(answer: TestResponse, *sent: str) -> list[str]:
    """What an answer tells of the inside; what was sent may be said back."""
    body = answer.get_data(as_text=True) if answer.status_code >= 400 else ""
    said = " ".join(sent).lower()
    found = [match.group() for match in _LEAKS.finditer(body) if match.group().lower() not in said]
    return [*found, *(name for name in answer.headers.keys() if name.lower() == "x-injected")]  # noqa: SIM118 - its keys


def schema_digest() -> str:
    """The same as long as nobody has changed tables, functions, roles, triggers or policies."""
    with db.engine.connect() as connection:
        return str(connection.scalar(_SCHEMA))
