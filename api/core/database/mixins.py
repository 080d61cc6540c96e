"""What a model can do: timestamps, soft delete, versions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Integer, Uuid, event, func, text
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, Mapper, ORMExecuteState, Session, declared_attr, mapped_column, with_loader_criteria

from api.core.database.types import UTCDateTime

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Result
    from sqlalchemy.orm import MappedColumn
    from sqlalchemy.orm.util import LoaderCriteriaOption

INCLUDE_DELETED = "include_deleted"
"""Execution option that shows deleted rows: `execute(select(Product), execution_options={INCLUDE_DELETED: True})`."""


def now() -> datetime:
    """The current time, in UTC and timezone-aware."""
    return datetime.now(UTC)


class TimestampMixin:
    """`created_at` when the row is inserted; `updated_at` on every save, by a trigger where SQL bypasses the ORM."""

    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now(), sort_order=900)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now(), sort_order=901)


@event.listens_for(TimestampMixin, "before_update", propagate=True)
def _touch(_mapper: Mapper[Any], _connection: Connection, target: TimestampMixin) -> None:
    session = Session.object_session(target)
    if session is not None and session.is_modified(target, include_collections=False):
        target.updated_at = now()


@dataclass(frozen=True)
class Undeletable:
    """Rows that must not be deleted in the state that they are in, as `Undeletable(when=…, reason="is {status}")`.

    `when` gives the condition, as SQL, for the model that it is given; `reason` goes on behind the row's name, and may
    have its columns in braces.
    """

    when: Callable[[Any], ColumnElement[bool]]
    reason: str


class SoftDeleteMixin:
    """Rows are marked as deleted, and then no ORM query sees them unless it asks with `INCLUDE_DELETED`.

    `__cascades__` names the relationships whose rows are deleted and restored along with the row, `__undeletable__`
    says which rows must not be deleted; `soft_delete.py` sees to both.
    """

    __cascades__: ClassVar[tuple[str, ...]] = ()
    __undeletable__: ClassVar[Undeletable | None] = None

    # What follows from a change depends on what was: the stored value is loaded before it is replaced.
    deleted_at: Mapped[datetime | None] = mapped_column(UTCDateTime, sort_order=902, active_history=True)
    deletion_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, sort_order=904)
    """The deletion that took the row along, the same for a row and what was deleted with it; None while it is live."""

    @hybrid_property
    def is_deleted(self) -> bool:
        """Whether the row is deleted; in a query, `deleted_at IS NOT NULL`."""
        return self.deleted_at is not None

    @is_deleted.inplace.expression
    @classmethod
    def _is_deleted_expression(cls) -> ColumnElement[bool]:
        return cls.deleted_at.is_not(None)

    def soft_delete(self) -> None:
        """Mark the row as deleted, and when that is saved, what it cascades to; deleting twice keeps the first time."""
        if self.deleted_at is None:
            self.deleted_at = now()

    def restore(self) -> None:
        """Undo `soft_delete`, and when that is saved, what it took along; a live row stays as it is."""
        if self.deleted_at is not None:
            self.deleted_at = None


@event.listens_for(Session, "do_orm_execute")
def _hide_deleted_rows(state: ORMExecuteState) -> None:
    """Add `deleted_at IS NULL` to every ORM SELECT, joins, `has()`/`any()` and relationship loads included.

    An UPDATE or DELETE by query gets it, too: it reaches the rows that a SELECT with the same conditions shows.
    A refresh of a loaded object has to succeed for a row that was just deleted; only what is joined to it is filtered.
    """
    if not (state.is_select or state.is_update or state.is_delete):
        return
    if state.execution_options.get(INCLUDE_DELETED, False):
        return
    if state.is_column_load:
        state.statement = state.statement.options(*_hide_joined(state.bind_mapper))
        return
    state.statement = state.statement.options(
        with_loader_criteria(
            SoftDeleteMixin,
            lambda model: model.deleted_at.is_(None),
            include_aliases=True,
        )
    )


def _hide_joined(mapper: Mapper[Any] | None) -> list[LoaderCriteriaOption]:
    """Criteria for what `lazy="joined"` loads along with a refreshed row, for every model but the row's own."""
    if mapper is None or not any(relationship.lazy == "joined" for relationship in mapper.relationships):
        return []
    models = [other.class_ for other in mapper.registry.mappers if not mapper.isa(other)]
    return [
        with_loader_criteria(model, model.deleted_at.is_(None), include_aliases=True)
        for model in models
        if issubclass(model, SoftDeleteMixin)
    ]


@event.listens_for(Session, "do_orm_execute")
def _expire_what_triggers_set(state: ORMExecuteState) -> Result[Any] | None:
    """After an UPDATE by query, have loaded rows fetch again what triggers have changed."""
    if not state.is_update or state.bind_mapper is None:
        return None
    result = state.invoke_statement()
    kept = [name for name in ("updated_at", "version") if name in state.bind_mapper.columns]
    for row in state.session.identity_map.values():
        if kept and isinstance(row, state.bind_mapper.class_):
            state.session.expire(row, kept)
    return result


class VersionMixin:
    """`version` counts the row's changes, by a trigger where SQL bypasses the ORM.

    The UPDATE of an object whose version is gone raises `StaleDataError`.
    """

    version: Mapped[int] = mapped_column(Integer, server_default=text("1"), sort_order=903)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, MappedColumn[int]]:
        """Let the ORM count and check `version` in the UPDATE itself."""
        return {"version_id_col": cls.version}  # type: ignore[dict-item]
