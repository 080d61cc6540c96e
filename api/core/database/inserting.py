"""Inserts new rows that stand alone, past the unit of work: it spends more time than the database does.

What the unit of work promises holds: listeners are called, defaults are filled in, a row is known by its key
afterwards. A row is left to it that has related rows to be written along, SQL in the place of a value, or a model, a
session or a default of which this module does not know everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement, Column, Table, inspect
from sqlalchemy import insert as insert_into
from sqlalchemy.orm.attributes import instance_state

from api.core.database import soft_delete
from api.core.database.within import SessionConnection, connection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.orm import Mapper, Session

_KEPT = 256
"""Models whose ways are kept."""
_NAME = re.compile(r"\w+")
_OMITTED: Any = object()
"""What the database fills in."""


class _NeedsContextError(Exception):
    """A default depends on more than itself."""


class _NoContext:
    """What a default is called with, which may look at it or not."""

    def __getattr__(self, name: str) -> Any:
        raise _NeedsContextError(name)


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A column's attribute: how its value gets into a statement, and out of an answer."""

    key: str
    column: Column[Any]
    bind: Callable[[Any], Any] | None
    evaluates_none: bool
    first_version: Any = None

    def default(self) -> Any:
        """The value of a row that has none: `_OMITTED`, where the database has one."""
        if self.first_version is not None:
            return self.first_version
        column, made = self.column, self.column.default
        if made is not None:
            return made.arg(_NoContext()) if made.is_callable else made.arg  # type: ignore[attr-defined]
        filled = column.server_default is not None or column.primary_key
        return _OMITTED if filled else None


@dataclass(frozen=True, slots=True)
class _Way:
    """How rows of one model are inserted."""

    table: Table
    attributes: tuple[_Attribute, ...]
    relationships: tuple[str, ...]
    dialect: Dialect
    statements: dict[tuple[str, ...], tuple[str, tuple[_Attribute, ...]]] = field(default_factory=dict)
    _readers: dict[tuple[str, ...], list[Callable[[Any], Any] | None]] = field(default_factory=dict)

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What to write, by attribute."""
        values = {}
        for attribute in self.attributes:
            value = row.get(attribute.key)
            if attribute.first_version is not None or (
                value is None and not (attribute.evaluates_none and attribute.key in row)
            ):
                value = attribute.default()
            values[attribute.key] = value
        return values

    def statement(self, omitted: tuple[str, ...]) -> tuple[str, tuple[_Attribute, ...]]:
        """The INSERT without these attributes, and the attributes that it returns, which are the same."""
        if omitted not in self.statements:
            returned = tuple(attribute for attribute in self.attributes if attribute.key in omitted)
            given = [attribute.column.key for attribute in self.attributes if attribute.key not in omitted]
            insert = insert_into(self.table)
            if returned:
                insert = insert.returning(*[attribute.column for attribute in returned])
            self.statements[omitted] = str(insert.compile(dialect=self.dialect, column_keys=given)), returned
        return self.statements[omitted]

    def readers(self, omitted: tuple[str, ...], description: Sequence[Any]) -> list[Callable[[Any], Any] | None]:
        """What makes Python's values of those that the statement without these attributes returns."""
        if omitted not in self._readers:
            _, returned = self.statement(omitted)
            self._readers[omitted] = [
                attribute.column.type.dialect_impl(self.dialect).result_processor(self.dialect, column.type_code)
                for attribute, column in zip(returned, description, strict=True)
            ]
        return self._readers[omitted]


def insert(session: Session, row: Any) -> bool:
    """Insert `row` and return true; or return false where that is for the unit of work, and nothing has been done.

    Raises:
        InvalidError: what listeners raise.
        DBAPIError: as `Session.flush` does.
    """
    state = instance_state(row)
    mapper = state.mapper
    if state.session_id is not None or state.key is not None or not _is_unobserved(session):
        return False
    connection = connection_of(session, mapper)
    if not isinstance(connection, SessionConnection):
        return False
    way = _way(mapper, connection.dialect)
    if way is None or not _stands_alone(way, state.dict):
        return False
    # What waits is written before, as it would be anyway.
    session.flush()
    session.add(row)
    try:
        mapper.dispatch.before_insert(mapper, connection.beneath, state)
        values = way.values(state.dict)
    except _NeedsContextError:
        session.expunge(row)
        return False
    except BaseException:
        session.expunge(row)
        raise
    _send(connection, way, state, values)
    mapper.dispatch.after_insert(mapper, connection.beneath, state)
    # SQLAlchemy's own end of a flush, also for what a rollback has to undo.
    session._register_persistent({state})  # noqa: SLF001
    return True


def _send(connection: SessionConnection, way: _Way, state: Any, values: dict[str, Any]) -> None:
    omitted = tuple(key for key, value in values.items() if value is _OMITTED)
    text, returned = way.statement(omitted)
    parameters = {
        attribute.column.key: values[attribute.key] if attribute.bind is None else attribute.bind(values[attribute.key])
        for attribute in way.attributes
        if attribute not in returned
    }
    description, found = connection.send(text, parameters)
    row = state.dict
    filled = [key for key, value in values.items() if value is not row.get(key, _OMITTED)]
    row |= {key: values[key] for key in filled}
    if returned:
        readers = way.readers(omitted, description)
        for attribute, read, value in zip(returned, readers, found[0], strict=True):
            row[attribute.key] = value if read is None else read(value)
    if filled:
        # As a flush tells it: documents, for one, follow their changes from now on.
        state.manager.dispatch.refresh_flush(state, None, filled)


def _is_unobserved(session: Session) -> bool:
    """Whether nobody but those of ours, who look at changes and deletions only, listens to the flushes of `session`."""
    dispatch: Any = session.dispatch
    listeners = (*dispatch.before_flush, *dispatch.after_flush, *dispatch.after_flush_postexec)
    return all(listener in soft_delete.FLUSH_LISTENERS for listener in listeners)


def _stands_alone(way: _Way, row: Mapping[str, Any]) -> bool:
    if any(row.get(name) for name in way.relationships):
        return False
    return not any(isinstance(value, ClauseElement) or hasattr(value, "__clause_element__") for value in row.values())


@lru_cache(_KEPT)
def _way(mapper: Mapper[Any], dialect: Dialect) -> _Way | None:
    """How rows of the model are inserted; None where that is for the unit of work."""
    table = mapper.local_table
    is_plain = isinstance(table, Table) and [*mapper.tables] == [table] and mapper.polymorphic_on is None
    if not is_plain or is_dataclass(mapper.class_) or dialect.name != "postgresql":
        return None
    attributes = tuple(_attributes(mapper, dialect))
    if not all(_is_simple(attribute.column) for attribute in attributes):
        return None
    return _Way(table, attributes, tuple(inspect(mapper).relationships.keys()), dialect)  # type: ignore[arg-type]


def _attributes(mapper: Mapper[Any], dialect: Dialect) -> Iterator[_Attribute]:
    for attribute in mapper.column_attrs:
        column = attribute.columns[0]
        if not isinstance(column, Column) or column.computed is not None:
            continue
        version = None
        if column is mapper.version_id_col and mapper.version_id_generator:
            version = mapper.version_id_generator(None)
        yield _Attribute(
            attribute.key,
            column,
            column.type.dialect_impl(dialect).bind_processor(dialect),
            bool(column.type.should_evaluate_none),
            version,
        )


def _is_simple(column: Column[Any]) -> bool:
    default = column.default
    can_be_worked_out = default is None or default.is_callable or default.is_scalar
    return can_be_worked_out and _NAME.fullmatch(column.key) is not None and column.key == column.name
