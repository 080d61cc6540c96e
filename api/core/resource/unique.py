"""What no two rows of a model share, and rows found by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, Table, Text, and_, bindparam, cast, func, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import ARRAY

from api.core.database import indexes
from api.core.database.mixins import INCLUDE_DELETED
from api.core.query.problems import not_there
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import FromClause
    from sqlalchemy.orm import Session


class Place(NamedTuple):
    """Where an item of a list stands among the others by a key: in which order, and behind which of the same key."""

    rank: int
    first: int


@dataclass(frozen=True, eq=False)
class ModelKey:
    """A unique key of a model's table, in terms of the model."""

    model: type[Any]
    key: indexes.UniqueKey

    @property
    def name(self) -> str:
        """The name of the index or constraint."""
        return self.key.name

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.key.columns)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The model's names for its columns."""
        mapper = mapper_of(self.model)
        return tuple(mapper.get_property_by_column(column).key for column in self.key.columns)

    @property
    def is_primary(self) -> bool:
        """Whether it is the primary key."""
        return set(self.key.columns) == set(mapper_of(self.model).primary_key)

    def places(self, session: Session, items: Sequence[Mapping[str, Any]]) -> list[Place]:
        """The place of each item by this key, as the database compares; equal keys have one rank."""
        given = self._given(items)
        values, ordinal = self.key.values_in(given), given.c.ordinal
        first = func.min(ordinal).over(partition_by=values)
        rank = func.dense_rank().over(order_by=values)
        rows = session.execute(select(rank, first).select_from(given).order_by(ordinal))
        return [Place(row[0], row[1] - 1) for row in rows]

    def locked_rows(self, session: Session, items: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
        """Rows with the items' keys by the items' number, read anew and locked in the order of their primary keys."""
        if not items:
            return {}
        given = self._given(items)
        same = [mine == its for mine, its in zip(self.key.expressions, self.key.values_in(given), strict=True)]
        statement = (
            select(self.model, given.c.ordinal)
            .join(given, and_(*same) if self.key.where is None else and_(*same, self.key.where))
            .order_by(*mapper_of(self.model).primary_key)
            .with_for_update(of=self.model)
            .execution_options(populate_existing=True, **{INCLUDE_DELETED: True})
        )
        return {ordinal - 1: row for row, ordinal in session.execute(statement)}

    def _given(self, items: Sequence[Mapping[str, Any]]) -> FromClause:
        """The items' values as a table, numbered from 1 in `ordinal`."""
        types = {column.name: _unlimited(column) for column in self.key.columns}
        arrays = [
            cast(bindparam(None, [item[name] for item in items], type_=ARRAY(type_)), ARRAY(type_))
            for name, type_ in zip(self.attributes, types.values(), strict=True)
        ]
        columns = [sql_column(name, type_) for name, type_ in types.items()]
        table = func.unnest(*arrays).table_valued(*columns, with_ordinality="ordinal", name="given")
        return table.render_derived()


def unique_keys(model: type) -> Iterator[ModelKey]:
    """The unique keys of `model`, the primary one included, in the order of their names."""
    table = mapper_of(model).local_table
    if isinstance(table, Table):
        yield from (ModelKey(model, key) for key in indexes.unique_keys(table))


def unique_key(model: type, on: str | Sequence[str]) -> ModelKey:
    """The unique key that `on` means: the name of an attribute, several of them, or the name of an index.

    Raises:
        ValueError: when the model has no such key; the message names the nearest.
    """
    names = (on,) if isinstance(on, str) else tuple(on)
    keys = [*unique_keys(model)]
    for key in keys:
        if set(key.attributes) == set(names) or names == (key.name,):
            return key
    known = [name for key in keys for name in (", ".join(key.attributes), key.name)]
    raise ValueError(f"{model.__name__}: {not_there('unique key', ', '.join(names), known)}")


def _unlimited(column: Any) -> Any:
    """The column's type without a length, to which a cast would cut the value that is looked for."""
    return Text() if isinstance(column.type, String) else column.type
