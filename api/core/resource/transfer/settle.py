"""From the staged rows to the table: what clashes is rejected, set by set, and the rest written by one INSERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Text,
    and_,
    any_,
    case,
    cast,
    delete,
    exists,
    func,
    inspect,
    literal,
    literal_column,
    not_,
    null,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy import (
    insert as insert_rows,
)
from sqlalchemy.dialects.postgresql import insert

from api.core.query.relations import in_sight, soft_deletable
from api.core.resource.transfer.stage import LINE, MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column
    from sqlalchemy.orm import Session

    from api.core.database.indexes import UniqueKey
    from api.core.resource.transfer.importable import Importable, ImportField
    from api.core.resource.transfer.stage import Stage

_TAKEN = "This value is already taken."


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows were inserted, and how many changed."""

    inserted: int
    updated: int


class Settlement:
    """Checks and writes what is staged. `key` is the one by which rows are recognised that are there already."""

    def __init__(self, stage: Stage, importable: Importable, key: UniqueKey | None) -> None:
        self._stage = stage
        self._session: Session = stage.session
        self._rows = stage.rows
        self._importable = importable
        self._target = importable.table
        self._key = key
        self._fields = [item for item in stage.fields if item.name in stage.seen]

    # -- rejects --------------------------------------------------------------------------------------------------

    def reject_clashes(self) -> None:
        """Reject rows that refer to what is not there, or whose unique values are taken, in the file or the table."""
        self._session.execute(text(f"ANALYZE {self._rows.name}"))
        for item in self._fields:
            for parent in _parents(self._importable.model, item):
                self._reject_orphans(item, *parent)
        if self._key is not None and self._stage.has_gaps:
            self._fill_gaps(self._key)
        seen = {item.name for item in self._fields}
        for names, key in self._importable.keys.items():
            if seen.issuperset(names):
                self._reject_duplicates(names, key)
                if key is not self._key:
                    self._reject_taken(names, key)

    def _reject_orphans(self, item: ImportField, referred: Column[Any], live: tuple[ColumnElement[bool], ...]) -> None:
        value = self._rows.c[item.column.name]
        if live:
            # Locked against a delete that runs at the same time; other references may be made meanwhile.
            parents = select(referred).where(referred.in_(select(value)), *live).order_by(referred)
            locked = parents.with_for_update(read=True, key_share=True).subquery()
            self._session.scalar(select(func.count()).select_from(locked))
        found = exists(select(literal(1)).where(referred == value, *live))
        noun = item.name.removesuffix("_id")
        detail = func.concat(f"There is no {noun} ", cast(value, Text), ".")
        self._reject([value.is_not(None), not_(found)], item.name, detail)

    def _reject_duplicates(self, names: tuple[str, ...], key: UniqueKey) -> None:
        values = key.values_in(self._rows)
        line = self._rows.c[LINE]
        first = func.min(line).over(partition_by=values)
        numbered = select(line.label("line"), first.label("first")).where(and_(*(v.is_not(None) for v in values)))
        marked = numbered.subquery()
        repeated = select(marked).where(marked.c.line != marked.c.first).subquery()
        where = func.concat("The same is in line ", cast(repeated.c.first, Text), ".")
        self._reject([line == repeated.c.line], _place(names), where)

    def _reject_taken(self, names: tuple[str, ...], key: UniqueKey) -> None:
        other = self._target.alias()
        same = [ours == theirs for ours, theirs in zip(key.values_in(self._rows), key.values_in(other), strict=True)]
        if self._key is not None:
            # The row that is going to be changed may keep what it has.
            same.append(func.coalesce(and_(*self._same_row(self._key, other)), False).is_(False))
        taken = exists(select(literal(1)).select_from(other).where(*same, *key.counts_in(other)))
        self._reject([taken], _place(names), literal(_TAKEN, Text()))

    def _reject(self, conditions: list[ColumnElement[bool]], field: str | None, detail: ColumnElement[Any]) -> None:
        """Move the rows that meet the conditions to the rejects."""
        place = (self._rows.c[LINE].label("line"), literal(field, Text()).label("field"), detail.label("detail"))
        gone = delete(self._rows).where(*conditions).returning(*place).cte("gone")
        self._session.execute(
            insert_rows(self._stage.rejects).from_select(["line", "field", "detail"], select(*gone.c))
        )

    # -- the rows that are there already --------------------------------------------------------------------------

    def _same_row(self, key: UniqueKey, other: Any) -> Iterator[ColumnElement[bool]]:
        """The conditions for the row of `other` to be the one that a staged row changes."""
        pairs = zip(key.values_in(self._rows), key.values_in(other), strict=True)
        yield from (ours == theirs for ours, theirs in pairs)
        yield from key.counts_in(other)

    def _fill_gaps(self, key: UniqueKey) -> None:
        """Give rows that lack fields what the stored rows have there."""
        other = self._target.alias()
        missing = self._rows.c[MISSING]
        values: dict[Any, Any] = {missing: null()}
        for item in self._fields:
            column = self._rows.c[item.column.name]
            values[column] = case((_lacks(missing, item), other.c[item.column.name]), else_=column)
        statement = update(self._rows).values(values).where(*self._same_row(key, other), missing.is_not(None))
        self._session.execute(statement)

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self) -> Written:
        """Insert the staged rows, or change those that are there; rows that are there as they are stay untouched."""
        if not self._fields:
            # Not a single row.
            return Written(0, 0)
        fields = [item for item in self._stage.fields if item.name in self._stage.seen or _needs_value(item.column)]
        columns = [*(item.column for item in fields), *self._stage.defaulted]
        values = [self._value(item) for item in fields] + [
            self._rows.c[column.name] for column in self._stage.defaulted
        ]
        source = select(*values)
        if self._key is None:
            in_order = source.order_by(self._rows.c[LINE])
            done: Any = self._session.execute(
                insert_rows(self._target).from_select(columns, in_order, include_defaults=False)
            )
            return Written(done.rowcount, 0)
        # By the key, so that two files with the same rows, in whatever order, wait for one another and never deadlock.
        return self._upsert(self._key, columns, source.order_by(*self._key.values_in(self._rows)))

    def _upsert(self, key: UniqueKey, columns: list[Column[Any]], source: Select[Any]) -> Written:
        names = [item.column.name for item in self._fields]
        other = self._target.alias()
        stored = tuple_(*(other.c[name] for name in names))
        staged = tuple_(*(self._rows.c[name] for name in names))
        equal = select(literal(1)).select_from(other)
        equal = equal.where(*self._same_row(key, other), stored.is_not_distinct_from(staged))
        new = insert(self._target).from_select(columns, source.where(not_(exists(equal))), include_defaults=False)
        kept = tuple_(*(self._target.c[name] for name in names))
        given = tuple_(*(new.excluded[name] for name in names))
        upsert = new.on_conflict_do_update(
            **key.conflict_target(),
            set_={name: new.excluded[name] for name in names},
            where=kept.is_distinct_from(given),
        )
        # Of a row that was inserted no transaction is noted that has locked or changed it.
        written = upsert.returning(literal_column("(xmax = 0)").label("is_new")).cte("written")
        is_new = written.c.is_new
        counts = select(func.count().filter(is_new), func.count().filter(not_(is_new))).select_from(written)
        inserted, updated = self._session.execute(counts).one()
        return Written(inserted, updated)

    def _value(self, item: ImportField) -> ColumnElement[Any]:
        """The staged value; the database's own default where the row lacks the field."""
        column = self._rows.c[item.column.name]
        default: Any = item.column.server_default
        if not self._stage.has_gaps or item.column.default is not None or default is None:
            return column
        expression = text(default.arg) if isinstance(default.arg, str) else default.arg
        return case((_lacks(self._rows.c[MISSING], item), expression), else_=column)


def _lacks(missing: ColumnElement[Any], item: ImportField) -> ColumnElement[bool]:
    return func.coalesce(literal(item.column.name, String()) == any_(missing), False)


def _needs_value(column: Column[Any]) -> bool:
    """Whether only Python gives the column a default."""
    return column.default is not None and column.server_default is None


def _place(names: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else None


def _parents(model: type[Any], item: ImportField) -> Iterator[tuple[Any, tuple[ColumnElement[bool], ...]]]:
    """The columns that the field refers to, and the conditions for a row there to be live and in sight."""
    for key in item.column.foreign_keys:
        table = key.column.table
        parent: Any = next(mapper for mapper in inspect(model).registry.mappers if mapper.local_table is table)
        live = (table.c.deleted_at.is_(None),) if soft_deletable(parent.class_) else ()
        yield key.column, (*live, *in_sight(parent.class_))
