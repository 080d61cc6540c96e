"""What rows refer to: parents by foreign key, and related rows by lists of keys; looked up for one row or for many."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ARRAY, Column, Select, and_, any_, bindparam, cast, false, or_, select, true

from api.core.access.caller import current_caller
from api.core.access.visibility import current_visibility
from api.core.database.mixins import SoftDeleteMixin
from api.core.database.prepared import array
from api.core.database.required import missing, requiring
from api.core.database.within import connection_of, run_later
from api.core.errors import InvalidError, Violation, pointer_to
from api.core.query.compiled import compiled
from api.core.query.relations import granted, in_sight
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, ForeignKey
    from sqlalchemy.orm import Mapper, Session

    from api.core.access.grants import Grant

_KEPT = 256
"""Statements, and models of tables, that are kept."""


class References:
    """The references of one model's rows; `fields` tells which input fields hold keys of which relationship.

    To refer to a row one has to see it: what is out of sight is not there. `owners` are the attributes that tell whose
    a row is; one's own id in them is always good.
    """

    def __init__(
        self, model: type[Any], session: Session, fields: Mapping[str, str], owners: Collection[str] = ()
    ) -> None:
        self._model = model
        self._session = session
        self._fields = fields
        self._owners = owners
        self._parents: dict[Column[Any], set[Any]] = {}
        self._related: dict[str, dict[Any, Any]] = {}

    def resolved(self, data: Mapping[str, Any], *, later: bool = False) -> dict[str, Any]:
        """`data` with keys of related rows turned into rows, after a check that all that it refers to is there.

        With `later`, parents are checked in front of the next statement, which raises, and ends the transaction.

        Raises:
            InvalidError: pointing at each reference to what is not there.
        """
        values = dict(data)
        if later and not any(field in values for field in self._fields):
            self._require_parents(values)
            return values
        violations = [*self._missing_parents(values)]
        for field, relationship in self._fields.items():
            if field in values:
                keys = values.pop(field)
                found = self._related.get(relationship)
                found = self._rows(relationship, keys) if found is None else found
                violations += _missing(field, keys, found)
                values[relationship] = [*{key: found[key] for key in keys if key in found}.values()]
        if violations:
            raise InvalidError(violations=violations)
        return values

    def look_up(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Find at once what all `items` refer to, for the calls of `resolved` that follow."""
        self._parents = self.lock(items)
        for field, relationship in self._fields.items():
            self._related[relationship] = self._rows(
                relationship, {key for item in items for key in item.get(field, ())}
            )

    def lock(self, items: Sequence[Mapping[str, Any]]) -> dict[Column[Any], set[Any]]:
        """The keys of live parents among those that `items` refer to, by column; locked, table by table."""
        live: dict[Column[Any], set[Any]] = {}
        for name, column, key in _foreign_keys(mapper_of(self._model)):
            given = {item[name] for item in items if item.get(name) is not None}
            live[column] = live.get(column, set()) | self._live_keys(name, key, given)
        return live

    def forget(self) -> None:
        """Look everything up anew."""
        self._parents.clear()
        self._related.clear()

    def _require_parents(self, values: Mapping[str, Any]) -> None:
        """Have the database refuse what follows unless all parents are there, which is not waited for."""
        references = [one for one in _foreign_keys(mapper_of(self._model)) if values.get(one[0]) is not None]
        if not references:
            return
        # What an autoflush would do: a parent may be about to be written.
        self._session.flush()
        user_id = current_caller().user_id
        parents = tuple(self._parent(name, key) for name, _, key in references)
        parameters = {f"to_{name}": _as_text(values[name]) for name, _, _ in references}
        run_later(
            self._session,
            _parents_required(parents, is_known=user_id is not None),
            {**parameters, "caller": user_id},
        )

    def _parent(self, name: str, key: ForeignKey) -> _Parent:
        model = _model_of(mapper_of(self._model).registry, key.column.table)
        return _Parent(name, model, key.column, current_visibility().rows_of(model), name in self._owners)

    def _missing_parents(self, values: Mapping[str, Any]) -> Iterator[Violation]:
        """A foreign key accepts a deleted parent; a client must not be able to refer to one."""
        for name, column, key in _foreign_keys(mapper_of(self._model)):
            value = values.get(name)
            if value is None or value in self._parents.get(column, ()):
                continue
            if not self._live_keys(name, key, {value}):
                yield from missing({name: value}).violations

    def _live_keys(self, name: str, key: ForeignKey, values: Collection[Any]) -> set[Any]:
        """Those of `values` that are keys of a live parent in sight, or of whoever asks."""
        if not values:
            return set()
        # What an autoflush would do: a parent may be about to be written.
        self._session.flush()
        user_id = current_caller().user_id
        text = _live_parents(self._parent(name, key), is_known=user_id is not None)
        by_text = {str(_as_text(value)): value for value in values}
        parameters = {"keys": array(by_text), "caller": user_id}
        found = connection_of(self._session).exec_driver_sql(text, parameters)
        return {by_text[str(key)] for (key,) in found.all()}

    def _rows(self, relationship: str, keys: Collection[Any]) -> dict[Any, Any]:
        if not keys:
            return {}
        target = mapper_of(self._model).relationships[relationship].entity.class_
        return {
            row.id: row for row in self._session.scalars(select(target).where(target.id.in_(keys), *in_sight(target)))
        }


@lru_cache(_KEPT)
def _foreign_keys(mapper: Mapper[Any]) -> list[tuple[str, Column[Any], ForeignKey]]:
    """Attribute, column and foreign key, in the order of the tables in which to lock what they refer to."""
    found = [(name, column, key) for name, column in mapper.columns.items() for key in column.foreign_keys]
    return sorted(found, key=lambda reference: reference[2].column.table.name)


@lru_cache(_KEPT)
def _model_of(registry: Any, table: Any) -> Any:
    return next(mapper.class_ for mapper in registry.mappers if mapper.local_table is table)


class _Parent(NamedTuple):
    """What a field refers to, and which rows of it are in sight; with `is_own`, also whoever asks."""

    name: str
    model: Any
    key: Column[Any]
    grant: Grant
    is_own: bool


@lru_cache(_KEPT)
def _live_parents(parent: _Parent, *, is_known: bool) -> str:
    """The statement for keys of live parents in sight. Kept as text, as the next one: they are part of most writes."""
    keys: Any = cast(bindparam("keys"), ARRAY(parent.key.type))
    return compiled(_live(parent, parent.key == any_(keys), is_known=is_known))


@lru_cache(_KEPT)
def _parents_required(parents: tuple[_Parent, ...], *, is_known: bool) -> str:
    """The statement that raises unless a live row of each is in sight."""
    keys = [bindparam(f"to_{parent.name}", type_=parent.key.type) for parent in parents]
    return compiled(
        requiring(
            (parent.name, key, _live(parent, parent.key == key, is_known=is_known))
            for parent, key in zip(parents, keys, strict=True)
        )
    )


def _live(parent: _Parent, wanted: ColumnElement[bool], *, is_known: bool) -> Select[Any]:
    seen = and_(true(), *granted(parent.model, parent.grant)) if is_known or parent.grant.everything else false()
    own = parent.key == bindparam("caller") if parent.is_own and is_known else false()
    statement = select(parent.key).where(wanted, or_(seen, own)).order_by(parent.key)
    if issubclass(parent.model, SoftDeleteMixin):
        # Locked against a delete that runs at the same time; other references may be made meanwhile.
        live = parent.model.deleted_at.is_(None)
        statement = statement.where(live).with_for_update(read=True, key_share=True)
    return statement


def _as_text(value: Any) -> Any:
    """A key as the driver knows it, which takes UUIDs for texts."""
    return value if isinstance(value, int) else str(value)


def _missing(field: str, keys: Sequence[Any], found: Mapping[Any, Any]) -> list[Violation]:
    name = field.removesuffix("_ids")
    return [
        Violation(f"There is no {name} {key}.", pointer=pointer_to([field, number]))
        for number, key in enumerate(keys)
        if key not in found
    ]
