"""The parts that the history's table is made of, one a month: made ahead, and dropped when they are too old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from api.core.database.history import MONTHS_AHEAD

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_MAKE = text("SELECT public.make_history_partitions(:months)")
_CUTOFF = "((date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => :months)) AT TIME ZONE 'UTC')"
_OLD = text(
    f"""
    SELECT part.oid::regclass::text, pg_total_relation_size(part.oid)
    FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
    WHERE inhparent = 'public.history'::regclass
      AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''(.+)''\\)')::timestamptz <= {_CUTOFF}
    ORDER BY part.relname
    """  # noqa: S608 - no value is written into it
)
_OLD_BY_DEFAULT = f"FROM public.history_default WHERE at < {_CUTOFF}"


@dataclass(frozen=True)
class Pruned:
    """What was, or would be, removed: whole partitions with their size in bytes, and rows of the default partition."""

    before: str
    partitions: list[str]
    freed: int
    rows: int


def make_partitions(session: Session, months: int = MONTHS_AHEAD) -> list[str]:
    """Make the partitions of this month and the next `months`, where they are missing, and tell their names.

    Entries in the default partition are moved to the one of their month. The caller's transaction commits.
    """
    return [*session.scalars(_MAKE, {"months": months})]


def prune(session: Session, months: int, *, dry_run: bool = False) -> Pruned:
    """Remove the entries of before the month that began `months` months ago. The caller's transaction commits."""
    values = {"months": months}
    before = session.scalar(text(f"SELECT to_char({_CUTOFF} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"), values)
    old = session.execute(_OLD, values).all()
    if dry_run:
        rows = session.scalar(text(f"SELECT count(*) {_OLD_BY_DEFAULT}"), values) or 0
    else:
        rows = session.execute(text(f"DELETE {_OLD_BY_DEFAULT}"), values).rowcount  # type: ignore[attr-defined]
        for name, _ in old:
            session.execute(text(f"DROP TABLE {name}"))
    return Pruned(str(before), [name for name, _ in old], sum(size for _, size in old), rows)
