"""Statements that are planned once for each connection, and not each time that they are sent.

`PREPARE` and `EXECUTE` go as text in the one message of a read. The name of a prepared statement is made of its text,
so that it is the same for whoever shares a server connection behind PgBouncer; whether the server knows it, where
another connection may have taken its place, its answer tells. After five executions a generic plan is taken, unless
plans for the values at hand are cheaper (PostgreSQL documentation, PREPARE).
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")
SIZE = "size"
"""A parameter that is part of a read's text: for an unknown number of rows, a tenth of the table is assumed."""
_TEXTS = 1024
_PREPARED_MAX = 200
"""Statements kept by one connection; then it begins anew."""

UNKNOWN, EXISTS, CHANGED = "26000", "42P05", "0A000"
_UNDECIDED = frozenset({"42P08", "42P18", "42804", "42883", "42725", "42601"})
"""SQLSTATE of what cannot be prepared: no query, or one whose parameters have no clear types without their values."""
MISTAKEN = frozenset({UNKNOWN, EXISTS, CHANGED}) | _UNDECIDED

SYNTAX = "42601"
"""Of the whole message, of which nothing has been done."""
_PREPARABLE = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES)\b", re.IGNORECASE)
"""PostgreSQL documentation, PREPARE."""
_SAVEPOINT = "preparing"
UNDO_PREPARATION = f"ROLLBACK TO {_SAVEPOINT}; RELEASE {_SAVEPOINT}"
"""What brings a transaction back in which `Known.preparation` has failed."""


class Prepared(NamedTuple):
    """A statement in its two parts; `parameters` are those of the second."""

    name: str
    prepare: str
    execute: str


@lru_cache(_TEXTS)
def _template(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The text between its parameters, and their names."""
    pieces, names, end = [], [], 0
    for found in _PLACEHOLDER.finditer(text):
        if found[1] is None:
            continue
        pieces.append(text[end : found.start()])
        names.append(found[1])
        end = found.end()
    return tuple(piece.replace("%%", "%") for piece in (*pieces, text[end:])), tuple(names)


def is_preparable(text: str) -> bool:
    """Whether it is a query by its first word."""
    return _PREPARABLE.match(text) is not None


@lru_cache(_TEXTS)
def prepared(text: str, size: int | None = None) -> Prepared:
    """`text` with placeholders such as `%(key)s`, to be prepared and executed.

    With `size`, that of the page, it is for this one; without, the size is a parameter as any other.
    """
    pieces, names = _template(text)
    places = {} if size is None else {SIZE: str(int(size))}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(n for n in names if n not in places), 1)}
    places |= {name: f"${number}" for name, number in numbers.items()}
    parts = [pieces[0]]
    for name, piece in zip(names, pieces[1:], strict=True):
        parts += [places[name], piece]
    body = "".join(parts)
    digest = f"r_{blake2b(body.encode(), digest_size=12).hexdigest()}"
    arguments = ", ".join(f"%({name})s" for name in numbers)
    return Prepared(
        digest,
        f"PREPARE {digest} AS {body}".replace("%", "%%"),
        f"EXECUTE {digest}({arguments})" if numbers else f"EXECUTE {digest}",
    )


def array(values: Iterable[Any]) -> str:
    """`values` as PostgreSQL writes an array; unlike the driver's, it fits a parameter of any type of array.

    PostgreSQL documentation, 8.15.6.
    """
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int | Decimal):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Known:
    """What a connection has prepared, and what cannot be."""

    __slots__ = ("checks", "is_doubted", "names", "tellings", "unfit")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.unfit: set[str] = set()
        self.tellings: dict[Hashable, str] = {}
        """What has been told in front of reads, ready to be told again,"""
        self.checks: set[str] = set()
        """some of it by these statements."""
        self.is_doubted = False

    def keep_telling(self, key: Hashable, told: str) -> None:
        """Keep what has been told."""
        if len(self.tellings) >= _TEXTS:
            self.tellings.clear()
        self.tellings[key] = told

    def message(self, statement: Prepared) -> str:
        """What to send for `statement`."""
        if statement.name in self.names:
            return statement.execute
        return f"{self._forget()}{statement.prepare};\n{statement.execute}"

    def preparation(self, statement: Prepared) -> str:
        """What to send within a transaction to have `statement` prepared and nothing else; it takes no parameters."""
        prepare = statement.prepare.replace("%%", "%")
        return f"{self._forget()}SAVEPOINT {_SAVEPOINT}; {prepare}; RELEASE {_SAVEPOINT}"

    def _forget(self) -> str:
        if len(self.names) < _PREPARED_MAX and not self.is_doubted:
            return ""
        self._clear()
        self.is_doubted = False
        return "DEALLOCATE ALL; "

    def _clear(self) -> None:
        self.names.clear()
        self.tellings.clear()

    def learn(self, statement: Prepared, sqlstate: str) -> None:
        """The server has refused the message for a reason of preparing; the next one will be another."""
        if sqlstate == EXISTS:
            self.names.add(statement.name)
        elif sqlstate == UNKNOWN:
            # It may have been another one in the same message.
            self.names -= {statement.name, *self.checks}
            self.tellings.clear()
        else:
            self.unfit.add(statement.name)

    def doubt(self, statement: Prepared, sqlstate: str) -> None:
        """The server has refused a message that ends with `statement` in the middle of a transaction."""
        if sqlstate in _UNDECIDED:
            self.unfit.add(statement.name)
        else:
            # It may have been another one in the same message.
            self._clear()
            self.is_doubted = True
