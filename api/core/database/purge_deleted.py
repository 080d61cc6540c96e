"""Removes soft-deleted rows for good, those that refer before those that are referred to.

A row that is still referred to by one that stays is kept. Rows that a foreign key's ON DELETE CASCADE takes along, such
as associations, count as parts of the row; rows that can be restored never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, delete, exists, false, func, not_, or_, select
from sqlalchemy.schema import ForeignKeyConstraint, sort_tables

from api.core.database.mixins import SoftDeleteMixin, now
from api.core.database.model import Base
from api.core.database.retention import BATCH, Purged
from api.core.database.session import transaction

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

_Conditions = dict[str, list[ColumnElement[bool]]]
_TAKES_ALONG = "CASCADE"
_LETS_GO = {"SET NULL", "SET DEFAULT"}


def soft_deleting_tables() -> list[Table]:
    """Tables whose rows are marked as deleted, those that refer before those that are referred to."""
    tables = [mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, SoftDeleteMixin)]
    return [*reversed(sort_tables([table for table in tables if isinstance(table, Table)]))]


def purge_deleted(
    session: Session, tables: Sequence[Table], older_than: timedelta, *, dry_run: bool, size: int = BATCH
) -> Iterator[tuple[Table, Purged]]:
    """Remove the rows of `tables` that were deleted longer ago, `size` in a transaction; yield after each of these.

    With `dry_run` nothing is changed, and what is yielded is what would be removed and kept.
    """
    before = now() - older_than
    rules = _Rules(tables, before, foresee=dry_run)
    # One pass may free what the next one can remove: the root of a tree, when its leaves are gone.
    removed = not dry_run
    while removed:
        removed = False
        for table in tables:
            for count in _removed(session, table, rules, size):
                removed = removed or count > 0
                yield table, Purged(count)
    for table in tables:
        yield table, _remaining(session, table, rules)


def _removed(session: Session, table: Table, rules: _Rules, size: int) -> Iterator[int]:
    (key,) = table.primary_key.columns
    free = not_(or_(false(), *rules.kept_by(table).values()))
    batch = select(key).where(rules.is_old(table), free).order_by(key).limit(size).with_for_update(skip_locked=True)
    last: list[Any] = []
    while True:
        with transaction(session):
            found = session.scalars(batch.where(*[key > latest for latest in last])).all()
            # Looked at again under the lock: nothing can come to refer to these rows any more.
            statement = delete(table).where(key.in_(found), free)
            count = session.execute(statement).rowcount if found else 0  # type: ignore[attr-defined]
        if found:
            yield count
        if len(found) < size:
            return
        last = [found[-1]]


def _remaining(session: Session, table: Table, rules: _Rules) -> Purged:
    """What would still be removed, and what is kept."""
    reasons = rules.kept_by(table)
    free = not_(or_(false(), *reasons.values()))
    counts = [func.count().filter(condition) for condition in (free if rules.foresee else false(), *reasons.values())]
    with transaction(session):
        removed, *kept = session.execute(select(*counts).select_from(table).where(rules.is_old(table))).one()
    return Purged(removed, {reason: count for reason, count in zip(reasons, kept, strict=True) if count})


class _Rules:
    """Conditions on rows: which are old, which of these are kept and why.

    `foresee` takes rows for gone that a purge of `tables` would remove.
    """

    def __init__(self, tables: Iterable[Table], before: datetime, *, foresee: bool) -> None:
        self._tables = frozenset(tables)
        self._before = before
        self.foresee = foresee

    def is_old(self, row: FromClause) -> ColumnElement[bool]:
        """Whether `row` was deleted long enough ago."""
        return row.c.deleted_at < self._before

    def kept_by(self, table: Table) -> dict[str, ColumnElement[bool]]:
        """For each table whose rows may keep those of `table`: the condition under which they do."""
        return {name: or_(*conditions) for name, conditions in self._keepers(table, table, (table,)).items()}

    def _keepers(self, row: FromClause, table: Table, seen: tuple[Table, ...]) -> _Conditions:
        keepers: _Conditions = {}
        for key in _keys_to(table):
            other = key.table.alias()
            refers = exists().where(_joined(key, other, row))
            if not _can_be_restored(key.table) and key.ondelete in _LETS_GO:
                continue
            if not _can_be_restored(key.table) and key.ondelete == _TAKES_ALONG:
                further = {} if key.table in seen else self._keepers(other, key.table, (*seen, key.table))
                for name, conditions in further.items():
                    keepers.setdefault(name, []).append(refers.where(or_(*conditions)))
            else:
                stays = not_(self._goes(other, key.table, seen)) if self.foresee else None
                condition = refers if stays is None else refers.where(stays)
                keepers.setdefault(key.table.name, []).append(condition)
        return keepers

    def _goes(self, row: FromClause, table: Table, seen: tuple[Table, ...]) -> ColumnElement[bool]:
        """Whether the purge will have removed `row` of `table`."""
        if table in self._tables:
            keepers = {} if table in seen else self._keepers(row, table, (*seen, table))
            return and_(func.coalesce(self.is_old(row), false()), *[not_(or_(*found)) for found in keepers.values()])
        if table in seen:
            return false()
        return or_(false(), *map(partial(self._goes_along, row, seen=(*seen, table)), _keys_of(table)))

    def _goes_along(
        self, row: FromClause, key: ForeignKeyConstraint, *, seen: tuple[Table, ...]
    ) -> ColumnElement[bool]:
        target = key.referred_table.alias()
        return exists().where(_joined(key, row, target), self._goes(target, key.referred_table, seen))


def _keys_of(table: Table) -> list[ForeignKeyConstraint]:
    """Foreign keys that remove rows of `table` along with what they refer to."""
    keys = table.foreign_key_constraints
    return [] if _can_be_restored(table) else [key for key in keys if key.ondelete == _TAKES_ALONG]


def _keys_to(table: Table) -> list[ForeignKeyConstraint]:
    others = table.metadata.sorted_tables
    return [key for other in others for key in other.foreign_key_constraints if key.referred_table is table]


def _joined(key: ForeignKeyConstraint, referring: FromClause, referred: FromClause) -> ColumnElement[bool]:
    pairs = ((element.parent.name, element.column.name) for element in key.elements)
    return and_(*[referring.c[own] == referred.c[theirs] for own, theirs in pairs])


def _can_be_restored(table: Table) -> bool:
    return "deleted_at" in table.columns
