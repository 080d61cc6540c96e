"""From a row to the rows it refers to, as Core SQL, with deleted rows left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import aliased

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.orm import Mapper, RelationshipProperty


def attribute_name(mapper: Mapper[Any], column: Column[Any]) -> str:
    """The attribute that `column` is mapped to, which may bear another name than the column."""
    return mapper.get_property_by_column(column).key


def soft_deletable(model: type) -> bool:
    """Whether rows of `model` are marked as deleted instead of removed."""
    return "deleted_at" in inspect(model).columns


def live(entity: Any, model: type) -> list[ColumnElement[bool]]:
    """The condition that hides deleted rows of `entity`, a `model` or an alias of it; none where nothing is soft-deleted."""
    return [entity.deleted_at.is_(None)] if soft_deletable(model) else []


def related_rows(
    relationship: RelationshipProperty[Any], column_of: Callable[[str], ColumnElement[Any]]
) -> tuple[Any, Select[Any]]:
    """An alias of the related model, and the SELECT of the live rows that one row refers to.

    `column_of` finds an attribute of the referring row in the statement around.
    """
    model = relationship.entity.class_
    target = aliased(model)
    rows = select(target).where(*live(target, model))
    if relationship.secondary is None:
        for local, remote in relationship.local_remote_pairs or ():
            rows = rows.where(
                getattr(target, attribute_name(relationship.entity, remote))
                == column_of(attribute_name(relationship.parent, local))
            )
        return target, rows
    return target, _through_association(relationship, target, rows, column_of)


def _through_association(
    relationship: RelationshipProperty[Any],
    target: Any,
    rows: Select[Any],
    column_of: Callable[[str], ColumnElement[Any]],
) -> Select[Any]:
    association = relationship.secondary.alias()  # type: ignore[union-attr]
    joined = [
        association.c[there.name] == getattr(target, attribute_name(relationship.entity, here))
        for here, there in relationship.secondary_synchronize_pairs or ()
    ]
    belonging = [
        association.c[there.name] == column_of(attribute_name(relationship.parent, here))
        for here, there in relationship.synchronize_pairs or ()
    ]
    return rows.join(association, *joined).where(*belonging)
