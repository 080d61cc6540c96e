"""Deletes and restores rows together with those that belong to them.

A deletion marks a row and, level by level, the live rows that its model's `__cascades__` lead to, all with the same
time and `deletion_id`. Restoring the row brings exactly these back. It happens when a session flushes
`row.soft_delete()` or `row.restore()`, and in `mark()` for many rows by condition.

Locks are taken from parents to children, and within a table in the order of the keys, so that no two deletions wait for
each other. A parent is locked FOR UPDATE, which the key of a new child waits for (Service, or the foreign key itself).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakSet

from sqlalchemy import ColumnElement, event, inspect, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper, RelationshipProperty, Session, aliased
from sqlalchemy.orm.interfaces import RelationshipDirection

from api.core.database.failures import translate
from api.core.database.mixins import SoftDeleteMixin, now
from api.core.database.model import new_uuid
from api.core.errors import ConflictError, Violation, pointer_to

if TYPE_CHECKING:
    from sqlalchemy import CTE, Connection, Select, Update

    Cascade = RelationshipProperty[Any]
    Pairs = Sequence[tuple[Any, UUID]]

_PENDING = "soft_delete_pending"
_NAMED = 5
"""How many rows that must not be deleted an error names."""

_cascading: WeakSet[Mapper[Any]] = WeakSet()


@dataclass(frozen=True)
class Marked:
    """How many rows of the model were deleted, and how many of each model below it."""

    rows: int
    children: Mapping[type, int]


def mark(session: Session, model: type[Any], *conditions: ColumnElement[bool]) -> Marked:
    """Delete the live rows of `model` that meet all conditions, with all that they cascade to, in a few statements.

    Raises:
        ConflictError: naming rows that must not be deleted in their state; then nothing is changed.
    """
    mapper: Mapper[Any] = inspect(model)
    batch = new_uuid()
    with _savepoint_where_refusable(session, mapper):
        session.flush()
        rows = session.execute(
            _marking(mapper, conditions, batch), execution_options={"synchronize_session": False}
        ).rowcount  # type: ignore[attr-defined]
        if not rows:
            return Marked(0, {})
        _refuse_undeletable(session, mapper, [batch])
        _renew_loaded(session, mapper, mapper.class_.deletion_id == batch)
        return Marked(rows, _mark_children(session, mapper, [batch]))


def cascades(mapper: Mapper[Any]) -> list[Cascade]:
    """The relationships of a model whose rows are deleted and restored along with its own."""
    return [mapper.relationships[name] for name in getattr(mapper.class_, "__cascades__", ())]


def lock_parents(session: Session, model: type[Any], key: Any) -> None:
    """Lock what the row with this key belongs to, so that a restore of the row does not cross one of its parent."""
    mapper: Mapper[Any] = inspect(model)
    for cascade in _cascades_into(mapper):
        _parents(session, cascade, [key])


# -- what a flush changes


@dataclass
class _Pending:
    """What the flush that is running deletes and restores, in the terms of its mappers."""

    deleted: dict[Mapper[Any], list[UUID]]
    restored: dict[Mapper[Any], list[tuple[Any, UUID | None]]]


@event.listens_for(Session, "before_flush")
def _note_changes(session: Session, *_: Any) -> None:
    pending = _Pending(defaultdict(list), defaultdict(list))
    roots: dict[Mapper[Any], list[Any]] = defaultdict(list)
    for row in session.dirty:
        if not isinstance(row, SoftDeleteMixin) or row in session.deleted:
            continue
        state = inspect(row)
        history = state.attrs.deleted_at.history
        before = history.deleted[0] if history.deleted else None
        if before is None and history.added and row.deleted_at is not None:
            row.deletion_id = new_uuid()
            pending.deleted[state.mapper].append(row.deletion_id)
            roots[state.mapper].append(state.identity[0])
        elif before is not None and row.deleted_at is None:
            pending.restored[state.mapper].append((state.identity[0], row.deletion_id))
            row.deletion_id = None
    if pending.deleted or pending.restored:
        session.info[_PENDING] = pending
    for mapper, keys in roots.items():
        if cascades(mapper):
            _lock(session, mapper, keys)


@event.listens_for(Session, "after_flush_postexec")
def _follow_changes(session: Session, *_: Any) -> None:
    pending: _Pending | None = session.info.pop(_PENDING, None)
    if pending is None:
        return
    for mapper, batches in pending.deleted.items():
        _refuse_undeletable(session, mapper, batches)
        _mark_children(session, mapper, batches)
    for mapper, pairs in pending.restored.items():
        _refuse_orphans(session, mapper, [key for key, _ in pairs])
        _restore_children(session, mapper, [(key, batch) for key, batch in pairs if batch is not None])


FLUSH_LISTENERS = frozenset({_note_changes, _follow_changes})
"""They look at changed rows; what is only inserted does not concern them."""

# -- deleting


def _marking(mapper: Mapper[Any], conditions: Sequence[ColumnElement[bool]], batch: UUID) -> Update:
    model, key = mapper.class_, _attribute(mapper.class_, mapper)
    locked = _locked(select(key).where(model.deleted_at.is_(None), *conditions), mapper)
    return update(model).where(key == locked.c[0]).values(deleted_at=now(), deletion_id=batch)


def _lock(session: Session, mapper: Mapper[Any], keys: Iterable[Any]) -> None:
    key = _key(mapper)
    _connection(session, mapper).execute(select(key).where(key.in_(keys)).order_by(key).with_for_update())


def _mark_children(session: Session, mapper: Mapper[Any], batches: Sequence[UUID]) -> dict[type, int]:
    counts: Counter[type] = Counter()
    levels = [mapper]
    while levels:
        for cascade in cascades(levels.pop(0)):
            child = cascade.mapper
            marked = _connection(session, child).execute(_marking_below(cascade, batches)).rowcount
            if marked:
                _refuse_undeletable(session, child, batches)
                _renew_loaded(session, child, child.class_.deletion_id.in_(batches))
                levels.append(child)
                counts[child.class_] += marked
    return dict(counts)


def _marking_below(cascade: Cascade, batches: Sequence[UUID]) -> Update:
    """Mark the live children of the rows that `batches` have deleted, as part of the same batch."""
    parent, child = aliased(cascade.parent.class_), cascade.mapper
    live = _children(cascade, parent, parent.deleted_at, parent.deletion_id).where(
        parent.deletion_id.in_(batches), child.class_.deleted_at.is_(None)
    )
    locked = _locked(live, child)
    values = {"deleted_at": locked.c.deleted_at, "deletion_id": locked.c.deletion_id}
    return update(child.local_table).where(_key(child) == locked.c[0]).values(values)  # type: ignore[arg-type]


def _children(cascade: Cascade, parent: Any, *columns: Any) -> Select[Any]:
    """Keys of the children of `parent`, and further columns."""
    return select(_key(cascade.mapper), *columns).select_from(parent).join(getattr(parent, cascade.key))


def _locked(children: Select[Any], mapper: Mapper[Any]) -> CTE:
    """The rows that `children` finds, locked in the order of their keys."""
    return children.order_by(_key(mapper)).with_for_update(of=mapper.class_).cte("locked")


def _refuse_undeletable(session: Session, mapper: Mapper[Any], batches: Sequence[UUID]) -> None:
    """Look at the rows that were marked, and so are locked: none of them may be one that must not be deleted."""
    rule = mapper.class_.__undeletable__
    if rule is None:
        return
    model = mapper.class_
    statement = select(mapper.local_table).where(model.deletion_id.in_(batches), rule.when(model)).limit(_NAMED + 1)
    rows = _connection(session, mapper).execute(statement.order_by(_key(mapper))).mappings().all()
    if rows:
        name, key = model.__name__, _key(mapper).name
        reasons = [f"{name} {row[key]} {rule.reason.format_map(row)}." for row in rows]
        violations = [Violation(reason) for reason in reasons[:_NAMED]]
        raise ConflictError(
            None if len(rows) == 1 else "Several rows keep this from being deleted.", violations=violations
        )


def _savepoint_where_refusable(session: Session, mapper: Mapper[Any]) -> AbstractContextManager[Any]:
    """A refusal must not leave half of a deletion to a caller who goes on; where none can come, none is needed."""
    return session.begin_nested() if _refusable(mapper, set()) else nullcontext()


def _refusable(mapper: Mapper[Any], seen: set[Mapper[Any]]) -> bool:
    if mapper in seen:
        return False
    seen.add(mapper)
    below = (cascade.mapper for cascade in cascades(mapper))
    return mapper.class_.__undeletable__ is not None or any(_refusable(child, seen) for child in below)


# -- restoring


def _restore_children(session: Session, mapper: Mapper[Any], pairs: Pairs) -> None:
    """Restore what was deleted along with the rows of these keys, in the batches beside them."""
    levels = [(mapper, pairs)] if pairs else []
    while levels:
        parent, restored = levels.pop(0)
        for cascade in cascades(parent):
            found = _restore_below(session, cascade, restored)
            if found:
                levels.append((cascade.mapper, found))


def _restore_below(session: Session, cascade: Cascade, pairs: Pairs) -> Pairs:
    """Restore one level; keys and batches of its rows, where there is a further level."""
    child, parent = cascade.mapper, aliased(cascade.parent.class_)
    batch = child.class_.deletion_id
    belongs = tuple_(_attribute(parent, cascade.parent), batch).in_(pairs)
    _refuse_orphans(session, child, _children(cascade, parent).where(belongs), through=cascade)
    locked = _locked(_children(cascade, parent, batch).where(belongs), child)
    statement = update(child.local_table).where(_key(child) == locked.c[0])  # type: ignore[arg-type]
    statement = statement.values(deleted_at=None, deletion_id=None)
    try:
        result = _connection(session, child).execute(statement.returning(*locked.c) if cascades(child) else statement)
    except IntegrityError as error:
        raise _clash_below(cascade, error) from error
    _renew_loaded(session, child, child.class_.deleted_at.is_(None))
    return [(key, found) for key, found in result] if cascades(child) else []


def _refuse_orphans(session: Session, mapper: Mapper[Any], keys: Any, *, through: Cascade | None = None) -> None:
    """A live row needs live parents. Those that the rows are restored `through` are."""
    for cascade in _cascades_into(mapper):
        if cascade is through:
            continue
        for parent, deleted_at in _parents(session, cascade, keys):
            if deleted_at is not None:
                field = next(iter(cascade.remote_side)).name
                path = [field] if through is None else [through.key, field]
                detail = f"The {field.removesuffix('_id')} {parent} is deleted; restore it first."
                raise ConflictError(violations=[Violation(detail, pointer=pointer_to(path))])


def _parents(session: Session, cascade: Cascade, keys: Any) -> Sequence[Any]:
    """Key and time of deletion of what the rows with these `keys` belong to, locked so that no delete can come."""
    parent = aliased(cascade.parent.class_)
    key = _attribute(parent, cascade.parent)
    statement = select(key, parent.deleted_at).select_from(parent).join(getattr(parent, cascade.key))
    statement = statement.where(_key(cascade.mapper).in_(keys)).order_by(key)
    return (
        _connection(session, cascade.parent)
        .execute(statement.with_for_update(read=True, key_share=True, of=parent))
        .all()
    )


def _clash_below(cascade: Cascade, error: IntegrityError) -> Exception:
    """What the database refused, said of the rows below the one that was to be restored."""
    meaning = translate(error)
    if not isinstance(meaning, ConflictError):
        return error
    violations = [
        Violation(
            f"The {violation.pointer.lstrip('/')} of one of its {cascade.key} is already taken.",
            pointer=pointer_to([cascade.key]) + violation.pointer,
        )
        for violation in meaning.violations
        if violation.pointer
    ]
    return ConflictError(violations=violations)


# -- declarations and loaded rows


@event.listens_for(SoftDeleteMixin, "mapper_configured", propagate=True)
def _check_cascades(mapper: Mapper[Any], model: type[Any]) -> None:
    """Stop the application at start when `__cascades__` is not what it may be.

    Raises:
        TypeError: naming the model and the entry.
    """
    for name in getattr(model, "__cascades__", ()):
        cascade = mapper.get_property(name, _configure_mappers=False) if mapper.has_property(name) else None
        if not isinstance(cascade, RelationshipProperty) or cascade.direction is not RelationshipDirection.ONETOMANY:
            raise TypeError(f"{model.__name__}.__cascades__: {name!r} is no relationship to rows that refer to it")
        if not issubclass(cascade.mapper.class_, SoftDeleteMixin):
            raise TypeError(f"{model.__name__}.__cascades__: the rows of {name!r} have no SoftDeleteMixin")
        _cascading.add(mapper)


def _cascades_into(mapper: Mapper[Any]) -> list[Cascade]:
    """The cascades that rows of this model are deleted by, always in the same order."""
    found = [cascade for parent in _cascading for cascade in cascades(parent) if mapper.isa(cascade.mapper)]
    return sorted(found, key=str)


def _renew_loaded(session: Session, mapper: Mapper[Any], changed: ColumnElement[bool]) -> None:
    """Have loaded rows that SQL has just deleted or restored fetch anew what has changed of them."""
    loaded = {inspect(row).identity[0]: row for row in session.identity_map.values() if isinstance(row, mapper.class_)}
    if not loaded:
        return
    key = _key(mapper)
    names = [name for name in ("deleted_at", "deletion_id", "updated_at", "version") if name in mapper.column_attrs]
    for found in _connection(session, mapper).scalars(select(key).where(key.in_(loaded), changed)):
        session.expire(loaded[found], names)


def _connection(session: Session, mapper: Mapper[Any]) -> Connection:
    # Below the session, whose listeners would hide the rows that this is about.
    return session.connection(bind_arguments={"mapper": mapper})


def _key(mapper: Mapper[Any]) -> ColumnElement[Any]:
    return mapper.primary_key[0]


def _attribute(entity: Any, mapper: Mapper[Any]) -> Any:
    """The key of `entity`, a model or an alias of it."""
    return getattr(entity, mapper.get_property_by_column(mapper.primary_key[0]).key)
