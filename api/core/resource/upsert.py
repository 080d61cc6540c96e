"""Insert or update: `INSERT … ON CONFLICT DO NOTHING` on a unique key, and what was there already is locked.

An existing row is then changed as an object, so that the rules that hold for an update hold here too: listeners,
validators, the version's check. `ON CONFLICT DO UPDATE` would go round all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import inspect
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from api.core.database.mixins import SoftDeleteMixin
from api.core.database.validation import check_values
from api.core.errors import ConflictError, InvalidError, TransactionConflictError, Violation, pointer_to
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from api.core.resource.unique import ModelKey, Place

M = TypeVar("M")

ROUNDS = 5
"""How often to try a row that others insert and delete at the same time."""


@dataclass(frozen=True, slots=True)
class Upserted(Generic[M]):
    """A row, and whether it was inserted; else it was there before."""

    row: M
    inserted: bool


def repeated(key: ModelKey, places: Sequence[Place]) -> Iterator[tuple[int, Violation]]:
    """Items with the key of an earlier one: the number, and what to say of it."""
    for number, place in enumerate(places):
        if place.first != number:
            for name in key.fields:
                yield number, Violation(f"The same as in item {place.first}.", pointer=pointer_to([number, name]))


def check_keys(key: ModelKey, items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse items without a value for the key.

    Raises:
        InvalidError: pointing at each of them.
    """
    violations = [
        Violation("Is needed to tell the rows apart.", pointer=pointer_to([number, name]))
        for number, item in enumerate(items)
        for name, attribute in zip(key.fields, key.attributes, strict=True)
        if item.get(attribute) is None
    ]
    if violations:
        raise InvalidError(violations=violations)


def claimed(
    session: Session,
    key: ModelKey,
    items: Sequence[Mapping[str, Any]],
    insert_items: Callable[[list[int]], Iterable[Any]],
) -> list[Upserted[Any]]:
    """The row of each item, locked; `insert_items` inserts those with these numbers and returns their primary keys.

    It may leave out, or raise `ConflictError` for, what somebody else has inserted in the meantime.

    Raises:
        InvalidError: for items without a key, or with the key of another one.
        ConflictError: when a row is in the way that is not to be seen.
        TransactionConflictError: when others keep inserting and deleting the same rows.
    """
    check_keys(key, items)
    places = key.places(session, items)
    if violations := [violation for _, violation in repeated(key, places)]:
        raise InvalidError(violations=violations)
    found = {number: Upserted(row, inserted=False) for number, row in key.locked_rows(session, items).items()}
    for _ in range(ROUNDS):
        # In the order of the key, so that two lists with the same rows wait for each other and never both.
        missing = sorted(set(range(len(items))) - set(found), key=lambda number: places[number].rank)
        if not missing:
            _refuse_deleted(key, found)
            return [found[number] for number in range(len(items))]
        found |= _insert_round(session, key, items, missing, insert_items)
    raise TransactionConflictError


def _insert_round(
    session: Session,
    key: ModelKey,
    items: Sequence[Mapping[str, Any]],
    missing: list[int],
    insert_items: Callable[[list[int]], Iterable[Any]],
) -> dict[int, Upserted[Any]]:
    failure, inserted = None, set[Any]()
    try:
        inserted = {*insert_items(missing)}
    except ConflictError as error:
        failure = error
    there = key.locked_rows(session, [items[number] for number in missing])
    if failure is not None and not there:
        raise failure
    return {
        missing[place]: Upserted(row, inserted=inspect(row).identity[0] in inserted) for place, row in there.items()
    }


def _refuse_deleted(key: ModelKey, found: Mapping[int, Upserted[Any]]) -> None:
    violations = [
        Violation("This value is taken by a deleted row.", pointer=pointer_to([number, name]))
        for number, item in sorted(found.items())
        if isinstance(item.row, SoftDeleteMixin) and item.row.is_deleted
        for name in key.fields
    ]
    if violations:
        raise ConflictError(violations=violations)


def insert_missing(session: Session, key: ModelKey, items: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    """Insert what is not there, after the listeners of an insert; the primary keys of what was inserted."""
    mapper = mapper_of(key.model)
    complete = [_completed(mapper, values) for values in _listened(session, key.model, items)]
    statement = insert(key.model).on_conflict_do_nothing(**key.key.conflict_target()).returning(mapper.primary_key[0])
    by_columns: dict[frozenset[str], list[dict[str, Any]]] = {}
    for values in complete:
        by_columns.setdefault(frozenset(values), []).append(values)
    return [key for rows in by_columns.values() for key in session.scalars(statement, rows)]


def _listened(session: Session, model: type, items: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items' column values as the model's constructor and its `before_insert` listeners leave them."""
    mapper = mapper_of(model)
    connection = session.connection()
    for item in items:
        row = model(**{name: value for name, value in item.items() if not _is_related(mapper, name)})
        state = instance_state(row)
        mapper.dispatch.before_insert(mapper, connection, state)
        yield {
            attribute.key: state.dict[attribute.key] for attribute in mapper.column_attrs if attribute.key in state.dict
        }


def _completed(mapper: Any, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what Python knows of the others, so that all rows go into one statement."""
    for attribute in mapper.column_attrs:
        column = attribute.columns[0]
        if attribute.key in values or column.server_default is not None or column.primary_key:
            continue
        if column.default is None:
            values[attribute.key] = None
        elif column.default.is_callable:
            values[attribute.key] = column.default.arg(None)
        elif column.default.is_scalar:
            values[attribute.key] = column.default.arg
    return values


def relate(row: Any, item: Mapping[str, Any]) -> None:
    """Give a row that was just inserted its related rows."""
    mapper = mapper_of(type(row))
    for name, value in item.items():
        if _is_related(mapper, name):
            # It is new and has none; there is nothing to load.
            set_committed_value(row, name, [] if mapper.relationships[name].uselist else None)
            setattr(row, name, value)


def check_items(model: type, items: Sequence[Mapping[str, Any]]) -> None:
    """Run the validators on all items.

    Raises:
        InvalidError: pointing at each value that breaks a rule, below the number of its item.
    """
    violations: list[Violation] = []
    for number, item in enumerate(items):
        try:
            check_values(mapper_of(model), item)
        except InvalidError as error:
            violations += [Violation(found.detail, f"/{number}{found.pointer}") for found in error.violations]
    if violations:
        raise InvalidError(violations=violations)


def _is_related(mapper: Any, name: str) -> bool:
    return name in mapper.relationships
