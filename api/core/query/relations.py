"""Attributes of a model as SQL, and the way from a row to the rows that it refers to, deleted ones left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BinaryExpression, BooleanClauseList, ColumnElement, bindparam, false, inspect, or_, select
from sqlalchemy.orm import Mapper, QueryableAttribute, aliased
from sqlalchemy.sql import operators

from api.core.access.caller import current_caller
from api.core.access.visibility import current_visibility

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import RelationshipProperty
    from sqlalchemy.types import TypeEngine

    from api.core.access.grants import Grant
    from api.core.access.visibility import Visibility
    from api.core.query.plan import Deleted

CALLER = "caller"
"""The parameter for the id of the user who asks."""


class JoinFormError(TypeError):
    """A relationship is joined by more than equal keys, which the SQL written here would overlook."""

    def __init__(self, relationship: RelationshipProperty[Any]) -> None:
        super().__init__(
            f"{relationship} is joined by more than foreign keys; it cannot be embedded, filtered or sorted by"
        )


def mapper_of(model: type) -> Mapper[Any]:
    """The mapper of `model`."""
    mapper: Mapper[Any] = inspect(model)
    return mapper


def attribute_name(mapper: Any, column: Any) -> str:
    """The attribute that `column` is mapped to, which may bear another name than the column."""
    return str(mapper.get_property_by_column(column).key)


def expression_of(model: type, attribute: str) -> QueryableAttribute[Any] | None:
    """The column or hybrid property `attribute` of `model`; None where it has no SQL expression."""
    found = getattr(model, attribute, None)
    return found if isinstance(found, QueryableAttribute) else None


def type_of(model: type, attribute: str) -> TypeEngine[Any]:
    """The SQL type of `attribute`."""
    expression: TypeEngine[Any] = getattr(model, attribute).type
    return expression


def is_nullable(model: type, attribute: str) -> bool:
    """Whether `attribute` may be NULL; of an expression it is not known, so it may."""
    column = mapper_of(model).columns.get(attribute)
    return True if column is None else bool(column.nullable)


def relationship_of(model: type, attribute: str) -> RelationshipProperty[Any]:
    """The relationship `attribute` of `model`.

    Raises:
        JoinFormError: when its rows are not found by equal keys alone.
    """
    relationship = mapper_of(model).relationships[attribute]
    plain = _is_plain(relationship.primaryjoin, relationship.synchronize_pairs)
    if relationship.secondaryjoin is not None:
        plain = plain and _is_plain(relationship.secondaryjoin, relationship.secondary_synchronize_pairs or ())
    if not plain:
        raise JoinFormError(relationship)
    return relationship


def _is_plain(join: ColumnElement[bool], pairs: Sequence[Any]) -> bool:
    """Whether `join` says that `pairs` are equal, and nothing else."""
    is_list = isinstance(join, BooleanClauseList) and join.operator is operators.and_
    clauses = list(join.clauses) if is_list else [join]
    return len(clauses) == len(pairs) and all(
        isinstance(clause, BinaryExpression) and clause.operator is operators.eq for clause in clauses
    )


def related_model(relationship: RelationshipProperty[Any]) -> type[Any]:
    """The model that `relationship` leads to."""
    model: type[Any] = relationship.entity.class_
    return model


def soft_deletable(model: type) -> bool:
    """Whether rows of `model` are marked as deleted instead of removed."""
    return "deleted_at" in mapper_of(model).columns


def live(entity: Any, model: type, visibility: Visibility) -> list[ColumnElement[bool]]:
    """The conditions that hide rows of `entity`, a `model` or an alias of it: deleted ones, and those out of sight."""
    marked = [entity.deleted_at.is_(None)] if soft_deletable(model) else []
    return [*marked, *granted(entity, visibility.rows_of(model))]


def granted(entity: Any, grant: Grant) -> list[ColumnElement[bool]]:
    """The condition that leaves the rows that `grant` opens; none where it opens all. Binds the caller as `caller`."""
    if grant.everything:
        return []
    columns = [getattr(entity, owner) for owner in sorted(grant.owners)]
    return [or_(false(), *(column == bindparam(CALLER, type_=column.type) for column in columns))]


def in_sight(model: Any) -> list[ColumnElement[bool]]:
    """The condition that leaves the rows of `model` that whoever asks sees; none where it is all of them."""
    grant, user_id = current_visibility().rows_of(model), current_caller().user_id
    if grant.everything:
        return []
    owners = sorted(grant.owners) if user_id is not None else ()
    return [or_(false(), *(getattr(model, owner) == user_id for owner in owners))]


def scope(model: Any, deleted: Deleted, visibility: Visibility) -> list[ColumnElement[bool]]:
    """The rows of `model` that exist for this caller, in one place for every read."""
    if deleted == "exclude":
        return live(model, model, visibility)
    marked = [model.deleted_at.is_not(None)] if deleted == "only" else []
    return [*marked, *granted(model, visibility.rows_of(model))]


def related_rows(
    relationship: RelationshipProperty[Any],
    column_of: Callable[[str], ColumnElement[Any]],
    visibility: Visibility,
) -> tuple[Any, Select[Any]]:
    """An alias of the related model, and the SELECT of the live rows in sight that one row refers to.

    `column_of` finds an attribute of the referring row in the statement around.
    """
    model = related_model(relationship)
    target = aliased(model)
    rows = select(target).where(*live(target, model, visibility))
    if relationship.secondary is not None:
        return target, _through_association(relationship, target, rows, column_of)
    for local, remote in relationship.local_remote_pairs or ():
        theirs = getattr(target, attribute_name(relationship.entity, remote))
        rows = rows.where(theirs == column_of(attribute_name(relationship.parent, local)))
    return target, rows


def _through_association(
    relationship: RelationshipProperty[Any],
    target: Any,
    rows: Select[Any],
    column_of: Callable[[str], ColumnElement[Any]],
) -> Select[Any]:
    association = relationship.secondary.alias()  # type: ignore[union-attr]  # the caller has looked
    joined = [
        association.c[str(there.key)] == getattr(target, attribute_name(relationship.entity, here))
        for here, there in relationship.secondary_synchronize_pairs or ()
    ]
    belonging = [
        association.c[str(there.key)] == column_of(attribute_name(relationship.parent, here))
        for here, there in relationship.synchronize_pairs or ()
    ]
    return rows.join(association, *joined).where(*belonging)
