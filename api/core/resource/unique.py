"""What no two rows of a model share, read from its unique indexes and constraints, and rows found by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Column, String, Table, Text, UniqueConstraint, and_, bindparam, cast, func, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.visitors import replacement_traverse

from api.core.database.mixins import INCLUDE_DELETED
from api.core.query.problems import not_there
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, FromClause, Index
    from sqlalchemy.orm import Mapper, Session


class Place(NamedTuple):
    """Where an item of a list stands among the others by a key: in which order, and behind which of the same key."""

    rank: int
    first: int


@dataclass(frozen=True, eq=False)
class UniqueKey:
    """A unique index or constraint of a model's table.

    `attributes` are the model's names for its columns, `elements` what is unique (`lower(sku)`), among the rows that
    meet `where`, if there is such a condition.
    """

    model: type[Any]
    name: str
    attributes: tuple[str, ...]
    elements: tuple[ColumnElement[Any], ...]
    where: ColumnElement[bool] | None = None

    def places(self, session: Session, items: Sequence[Mapping[str, Any]]) -> list[Place]:
        """The place of each item by this key, as the database compares; equal keys have one rank."""
        given, elements = self._given(items)
        ordinal = given.c.ordinal
        first = func.min(ordinal).over(partition_by=elements)
        rank = func.dense_rank().over(order_by=elements)
        rows = session.execute(select(rank, first).select_from(given).order_by(ordinal))
        return [Place(row[0], row[1] - 1) for row in rows]

    def locked_rows(self, session: Session, items: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
        """Rows with the items' keys by the items' number, read anew and locked in the order of their primary keys."""
        if not items:
            return {}
        given, elements = self._given(items)
        same = and_(*(mine == its for mine, its in zip(self.elements, elements, strict=True)))
        statement = (
            select(self.model, given.c.ordinal)
            .join(given, same if self.where is None else and_(same, self.where))
            .order_by(*mapper_of(self.model).primary_key)
            .with_for_update(of=self.model)
            .execution_options(populate_existing=True, **{INCLUDE_DELETED: True})
        )
        return {ordinal - 1: row for row, ordinal in session.execute(statement)}

    def _given(self, items: Sequence[Mapping[str, Any]]) -> tuple[FromClause, list[ColumnElement[Any]]]:
        """The items' values as a table, and what is unique, made of its columns."""
        mapper = mapper_of(self.model)
        columns = {name: mapper.columns[name] for name in self.attributes}
        types = {name: _unlimited(column) for name, column in columns.items()}
        arrays = [
            cast(bindparam(None, [item[name] for item in items], type_=ARRAY(type_)), ARRAY(type_))
            for name, type_ in types.items()
        ]
        given = (
            func.unnest(*arrays)
            .table_valued(
                *(sql_column(name, type_) for name, type_ in types.items()),
                with_ordinality="ordinal",
                name="given",
            )
            .render_derived()
        )
        theirs = {column: given.c[name] for name, column in columns.items()}

        def replaced(element: Any, **_: Any) -> Any:
            return theirs.get(element) if isinstance(element, Column) else None

        return given, [replacement_traverse(element, {}, replaced) for element in self.elements]


def unique_keys(model: type) -> Iterator[UniqueKey]:
    """The unique indexes and constraints of `model`, in the order of their names, then the primary key."""
    mapper = mapper_of(model)
    table = mapper.local_table
    if not isinstance(table, Table):
        return
    keys = [_of_index(mapper, index) for index in table.indexes if index.unique]
    keys += [_of_constraint(mapper, item) for item in table.constraints if isinstance(item, UniqueConstraint)]
    yield from sorted(keys, key=lambda key: key.name)
    primary = tuple(mapper.primary_key)
    names = tuple(mapper.get_property_by_column(column).key for column in primary)
    yield UniqueKey(model, str(table.primary_key.name), names, primary)


def unique_key(model: type, on: str | Sequence[str]) -> UniqueKey:
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


def _of_index(mapper: Mapper[Any], index: Index) -> UniqueKey:
    return UniqueKey(
        model=mapper.class_,
        name=str(index.name),
        attributes=tuple(mapper.get_property_by_column(column).key for column in index.columns),
        elements=tuple(index.expressions),  # type: ignore[arg-type]  # texts only before the table is known
        where=index.dialect_options["postgresql"].get("where"),
    )


def _of_constraint(mapper: Mapper[Any], constraint: UniqueConstraint) -> UniqueKey:
    columns = tuple(constraint.columns)
    names = tuple(mapper.get_property_by_column(column).key for column in columns)
    return UniqueKey(mapper.class_, str(constraint.name), names, columns)


def _unlimited(column: Any) -> Any:
    """The column's type without a length, to which a cast would cut the value that is looked for."""
    return Text() if isinstance(column.type, String) else column.type
