"""How rows of a model are inserted: its statements, made once, and how values get into them and out of the answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Column, Integer, String, Table, Uuid
from sqlalchemy import insert as insert_into
from sqlalchemy.orm.interfaces import RelationshipDirection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Dialect
    from sqlalchemy.orm import Mapper, RelationshipProperty

    Reader = Callable[[Any], Any] | None

_KEPT = 256
"""Models whose ways are kept."""
_NAME = re.compile(r"\w+")
OMITTED: Any = object()
"""What the database fills in."""
_IN_ARRAYS = (str, int, float, Decimal, date, UUID, type(None))
"""Types of values that PostgreSQL reads as Python writes them."""
KEYS_LEFT = "app.inserted_{}"
"""The transaction's setting with the keys that an INSERT has left, each behind a comma."""


class NeedsContextError(Exception):
    """A default depends on more than itself."""


class _NoContext:
    """What a default is called with, which may look at it or not."""

    def __getattr__(self, name: str) -> Any:
        raise NeedsContextError(name)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column's attribute."""

    key: str
    column: Column[Any]
    bind: Callable[[Any], Any] | None
    evaluates_none: bool
    first_version: Any = None

    def default(self) -> Any:
        """The value of a row that has none: `OMITTED`, where the database has one.

        Raises:
            NeedsContextError: where it depends on the row's other values.
        """
        if self.first_version is not None:
            return self.first_version
        column, made = self.column, self.column.default
        if made is not None:
            return made.arg(_NoContext()) if made.is_callable else made.arg  # type: ignore[attr-defined]
        return OMITTED if column.server_default is not None or column.primary_key else None


class Below(NamedTuple):
    """Rows that are inserted along with the one that has them: their way, their foreign key, what it refers to."""

    way: Insertable
    foreign_key: str
    refers_to: str
    back: str | None
    """Their attribute that has the row itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Insertable:
    """How rows of one model are inserted."""

    mapper: Mapper[Any]
    attributes: tuple[Attribute, ...]
    dialect: Dialect
    relationships: tuple[str, ...]
    names: tuple[str, ...]
    """All attributes, also those that are not written, but for those that are loaded when they are asked for."""
    key: str
    """The attribute of the primary key."""
    key_type: str
    reads_key: Callable[[str], Any] | None
    """What makes a key of its text; None for keys that only the driver knows how to read."""
    _below: dict[str, Below | None] = field(default_factory=dict)
    _texts: dict[tuple[tuple[str, ...], bool, str | None], str] = field(default_factory=dict)
    _readers: dict[tuple[str, ...], list[Reader]] = field(default_factory=dict)

    def makes_key(self, row: Mapping[str, Any]) -> bool:
        """Whether the key of this row is known before the row is stored."""
        return row.get(self.key) is not None or self.mapper.primary_key[0].default is not None

    def below(self, relationship: str) -> Below | None:
        """How the rows of this relationship go along; None where only the unit of work knows."""
        if relationship not in self._below:
            self._below[relationship] = _below(self.mapper, self.mapper.relationships[relationship], self.dialect)
        return self._below[relationship]

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What to write, by attribute; `OMITTED`, where the database fills it in.

        Raises:
            NeedsContextError: for a default that depends on the row's other values.
        """
        values = {}
        for attribute in self.attributes:
            value = row.get(attribute.key)
            is_given = value is not None or (attribute.evaluates_none and attribute.key in row)
            if not is_given or attribute.first_version is not None:
                value = attribute.default()
            values[attribute.key] = value
        return values

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` for the statement."""
        return {
            attribute.column.key: attribute.bind(value) if attribute.bind is not None else value
            for attribute in self.attributes
            if (value := values[attribute.key]) is not OMITTED
        }

    def statement(self, omitted: tuple[str, ...], *, many: bool = False, left_in: str | None = None) -> str:
        """The INSERT without these attributes, which it returns; of `many` rows, from an array for each column.

        With `left_in` it returns nothing, and leaves the keys that the database makes in the setting of this name.
        """
        shape = (omitted, many, left_in)
        text = self._texts.get(shape)
        if text is None:
            returned = self._returned(omitted, left_in)
            text = self._texts[shape] = self._many(omitted, returned) if many else self._one(omitted, returned)
        return text

    def key_in(self, setting: str) -> str:
        """The last key that was left in a setting of this name, as SQL."""
        return f"substring(current_setting('{setting}') from '[^,]*$')::{self.key_type}"

    def read(self, omitted: tuple[str, ...], description: Sequence[Any], row: Sequence[Any]) -> dict[str, Any]:
        """The attributes that the statement has returned."""
        if omitted not in self._readers:
            types = [attribute.column.type.dialect_impl(self.dialect) for attribute in self._left_out(omitted)]
            self._readers[omitted] = [
                type_.result_processor(self.dialect, column.type_code)
                for type_, column in zip(types, description, strict=True)
            ]
        readers = self._readers[omitted]
        return {
            key: value if read is None else read(value) for key, read, value in zip(omitted, readers, row, strict=True)
        }

    def _returned(self, omitted: tuple[str, ...], left_in: str | None) -> str:
        quote = self.dialect.identifier_preparer.quote
        if left_in is None:
            returned = [quote(attribute.column.name) for attribute in self._left_out(omitted)]
        elif self.key in omitted:
            keys = f"concat(current_setting('{left_in}', true), ',', {quote(self.mapper.primary_key[0].name)})"
            returned = [f"set_config('{left_in}', {keys}, true)"]
        else:
            returned = []
        return f" RETURNING {', '.join(returned)}" if returned else ""

    def _one(self, omitted: tuple[str, ...], returned: str) -> str:
        given = [attribute.column.key for attribute in self.attributes if attribute.key not in omitted]
        insert = insert_into(self.mapper.local_table).inline()  # type: ignore[arg-type]
        return f"{insert.compile(dialect=self.dialect, column_keys=given)}{returned}"

    def _many(self, omitted: tuple[str, ...], returned: str) -> str:
        """In the order of the arrays, so that the keys which the database counts are in it, too."""
        preparer = self.dialect.identifier_preparer
        columns = [attribute.column for attribute in self.attributes if attribute.key not in omitted]
        names = ", ".join(preparer.quote(column.name) for column in columns)
        arrays = ", ".join(f"%({column.key})s::{self._type(column)}[]" for column in columns)
        table = preparer.format_table(self.mapper.local_table)
        return (
            f"INSERT INTO {table} ({names}) SELECT {names} FROM unnest({arrays}) "  # noqa: S608 - a model's own names
            f"WITH ORDINALITY AS given ({names}, place__) ORDER BY place__{returned}"
        )

    def _type(self, column: Column[Any]) -> str:
        # A cast to a length cuts a text off.
        return "text" if isinstance(column.type, String) else column.type.compile(self.dialect)

    def _left_out(self, omitted: tuple[str, ...]) -> list[Attribute]:
        return [attribute for attribute in self.attributes if attribute.key in omitted]


def omitted(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The attributes that the database fills in."""
    return tuple(key for key, value in values.items() if value is OMITTED)


def fit_arrays(parameters: Mapping[str, Any]) -> bool:
    """Whether PostgreSQL reads all of these values as Python writes them."""
    return all(isinstance(value, _IN_ARRAYS) for value in parameters.values())


@lru_cache(_KEPT)
def insertable(mapper: Mapper[Any], dialect: Dialect) -> Insertable | None:
    """How rows of the model are inserted; None where that is for the unit of work."""
    table = mapper.local_table
    is_plain = isinstance(table, Table) and [*mapper.tables] == [table] and mapper.polymorphic_on is None
    if not is_plain or is_dataclass(mapper.class_) or dialect.name != "postgresql":
        return None
    attributes = tuple(_attributes(mapper, dialect))
    if len(mapper.primary_key) > 1 or not all(_is_simple(attribute.column) for attribute in attributes):
        return None
    names = tuple(attribute.key for attribute in mapper.column_attrs if not attribute.deferred)
    key = mapper.primary_key[0]
    return Insertable(
        mapper,
        attributes,
        dialect,
        tuple(mapper.relationships.keys()),
        names,
        mapper.get_property_by_column(key).key,
        key.type.compile(dialect),
        _reader_of(key),
    )


def _reader_of(key: ColumnElement[Any]) -> Callable[[str], Any] | None:
    if isinstance(key.type, Integer):
        return int
    return UUID if isinstance(key.type, Uuid) and key.type.as_uuid else None


def _attributes(mapper: Mapper[Any], dialect: Dialect) -> Iterator[Attribute]:
    for attribute in mapper.column_attrs:
        column = attribute.columns[0]
        if not isinstance(column, Column) or column.computed is not None:
            continue
        version = None
        if column is mapper.version_id_col and mapper.version_id_generator:
            version = mapper.version_id_generator(None)
        bind = column.type.dialect_impl(dialect).bind_processor(dialect)
        yield Attribute(attribute.key, column, bind, bool(column.type.should_evaluate_none), version)


def _is_simple(column: Column[Any]) -> bool:
    default = column.default
    can_be_worked_out = default is None or default.is_callable or default.is_scalar
    return can_be_worked_out and _NAME.fullmatch(column.key) is not None and column.key == column.name


def _below(mapper: Mapper[Any], relation: RelationshipProperty[Any], dialect: Dialect) -> Below | None:
    child = relation.mapper
    is_list = relation.direction is RelationshipDirection.ONETOMANY and relation.uselist and not relation.viewonly
    if not is_list or child is mapper or not relation.cascade.save_update or len(relation.local_remote_pairs) != 1:
        return None
    ((key, foreign_key),) = relation.local_remote_pairs
    way = insertable(child, dialect)
    if way is None or any(isinstance(attribute.column.type, ARRAY) for attribute in way.attributes):
        return None
    back = relation.back_populates if isinstance(relation.back_populates, str) else None
    columns = (child.get_property_by_column(foreign_key).key, mapper.get_property_by_column(key).key)
    return Below(way, *columns, back)
