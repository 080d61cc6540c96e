"""Unique indexes: those that soft delete asks for, and what a table's unique keys are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Index,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    event,
    func,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors

from api.core.database.mixins import SoftDeleteMixin

if TYPE_CHECKING:
    from collections.abc import Iterator


def unique_among_live(*columns: Column[Any], ignore_case: bool = False) -> Index:
    """A unique index over the rows that are not deleted: a name is free again once its row is deleted.

    Call it behind the model, with `Model.__table__.c.name`; the index is attached to the columns' table. Of several
    columns, it is their combination that is unique. `ignore_case` concerns texts.
    """
    table = columns[0].table
    expressions: list[ColumnElement[Any]] = [
        func.lower(column) if ignore_case and isinstance(column.type, String) else column for column in columns
    ]
    return Index(
        f"uq_{table.name}_{'_'.join(column.name for column in columns)}_live",
        *expressions,
        unique=True,
        postgresql_where=table.c.deleted_at.is_(None),
        info={"fields": [column.name for column in columns]},
    )


@event.listens_for(Mapper, "instrument_class")
def _index_deletions(mapper: Mapper[Any], model: type) -> None:
    """Let the rows of a deletion be found among millions that are live."""
    table = mapper.local_table
    if issubclass(model, SoftDeleteMixin) and isinstance(table, Table) and "deletion_id" in table.columns:
        column = table.c.deletion_id
        name = f"ix_{table.name}_deletion_id"
        if not any(index.name == name for index in table.indexes):
            Index(name, column, postgresql_where=column.is_not(None))


@dataclass(frozen=True, eq=False)
class UniqueKey:
    """What no two rows of a table may share.

    `expressions` are compared, such as `lower(sku)`, of `columns`; rows that do not meet `where` do not count.
    """

    name: str
    columns: tuple[Column[Any], ...]
    expressions: tuple[ColumnElement[Any], ...]
    where: ColumnElement[bool] | None

    def conflict_target(self) -> dict[str, Any]:
        """Arguments for `on_conflict_do_update()` and `on_conflict_do_nothing()`."""
        return {"index_elements": self.expressions, "index_where": self.where}

    def values_in(self, source: FromClause) -> list[ColumnElement[Any]]:
        """The expressions over `source`, whose columns bear the names of the table's."""
        return [_over(expression, source) for expression in self.expressions]

    def counts_in(self, source: FromClause) -> list[ColumnElement[bool]]:
        """The condition for a row of `source` to count; none where all do."""
        return [] if self.where is None else [_over(self.where, source)]


def unique_keys(table: Table) -> Iterator[UniqueKey]:
    """The primary key, unique constraints and unique indexes of `table`, in the order of their names."""
    items: list[Any] = [*table.constraints, *table.indexes]
    for item in sorted(items, key=lambda item: str(item.name)):
        if isinstance(item, PrimaryKeyConstraint | UniqueConstraint):
            columns = tuple(item.columns)
            yield UniqueKey(str(item.name), columns, columns, None)
        elif isinstance(item, Index) and item.unique:
            expressions: Any = tuple(item.expressions)
            yield UniqueKey(
                str(item.name), _columns_of(expressions), expressions, item.dialect_options["postgresql"]["where"]
            )


def _columns_of(expressions: tuple[ColumnElement[Any], ...]) -> tuple[Column[Any], ...]:
    found = (part for expression in expressions for part in visitors.iterate(expression))
    return tuple(dict.fromkeys(part for part in found if isinstance(part, Column)))


def _over(expression: Any, source: FromClause) -> Any:
    """`expression` with each column of a table replaced by the one of `source` with this name."""

    def replaced(part: Any, **_: Any) -> Any:
        return source.c[part.name] if isinstance(part, Column) else None

    traverse: Any = visitors.replacement_traverse
    return traverse(expression, {}, replaced)
