"""What is removed for good once it is old enough: a purger for each kind of data, all run by `flask purge`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, delete, func, select, tuple_

from api.core.database.session import transaction

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.orm import Session

BATCH = 1000
"""Rows that one transaction removes: few enough that nobody waits for its locks."""

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DURATION = re.compile(r"(\d{1,5})([hdw])", re.ASCII)


@dataclass(frozen=True)
class Purged:
    """What one batch has removed, or would remove; what stays although it is old enough, by reason."""

    removed: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Purged) -> Purged:
        """Both together."""
        reasons = {*self.kept, *other.kept}
        kept = {reason: self.kept.get(reason, 0) + other.kept.get(reason, 0) for reason in sorted(reasons)}
        return Purged(self.removed + other.removed, kept)


class Purger(Protocol):
    """Removes what has been over for longer than `older_than`, batch by batch, each in a `transaction()` of its own.

    With `dry_run` it changes nothing and tells what it would remove.
    """

    def __call__(self, session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
        """Yield after each batch what it has removed."""


_PURGERS: dict[str, Purger] = {}


def purger(name: str) -> Callable[[Purger], Purger]:
    """Register a function as the purger of `name`, usually a table: `@purger("idempotency_keys")`.

    Raises:
        ValueError: when there is one of this name.
    """

    def register(function: Purger) -> Purger:
        if name in _PURGERS:
            raise ValueError(f"there is a purger of {name!r} already")
        _PURGERS[name] = function
        return function

    return register


def purgers() -> Mapping[str, Purger]:
    """All purgers by name, in the order in which they run."""
    return dict(_PURGERS)


def delete_in_batches(
    session: Session, table: Table, *conditions: ColumnElement[bool], dry_run: bool, size: int = BATCH
) -> Iterator[Purged]:
    """The whole of a purger whose rows nothing refers to: remove those that meet all conditions."""
    if dry_run:
        with transaction(session):
            yield Purged(session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0)
        return
    key: tuple[Any, ...] = tuple(table.primary_key.columns)
    # A CTE is run once; a subselect, for some plans, once for each row, and its limit would hold for none.
    batch = select(*key).where(*conditions).limit(size).with_for_update(skip_locked=True).cte("batch")
    removed = size
    while removed == size:
        with transaction(session):
            removed = session.execute(delete(table).where(tuple_(*key).in_(select(batch)))).rowcount  # type: ignore[attr-defined]
        yield Purged(removed)


def parse_duration(value: str) -> timedelta:
    """`90d`, `12h` or `4w` as a time span.

    Raises:
        ValueError: for anything else.
    """
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is no time span; write hours, days or weeks, such as 12h, 90d or 4w.")
    return int(match[1]) * _UNITS[match[2]]
