"""What rows refer to: parents by foreign key, and related rows by lists of keys; looked up for one row or for many."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Column, and_, any_, bindparam, cast, false, inspect, or_, select, true

from api.core.access.caller import current_caller
from api.core.access.visibility import current_visibility
from api.core.database.mixins import SoftDeleteMixin
from api.core.database.prepared import array
from api.core.database.within import connection_of
from api.core.errors import InvalidError, Violation, pointer_to
from api.core.query.compiled import compiled
from api.core.query.relations import granted, in_sight
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import ForeignKey
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

    def resolved(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with keys of related rows turned into rows, after a check that all that it refers to is there.

        Raises:
            InvalidError: pointing at each reference to what is not there.
        """
        values = dict(data)
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
            live[column] = live.get(column, set()) | self._live_keys(key, given, is_own=name in self._owners)
        return live

    def forget(self) -> None:
        """Look everything up anew."""
        self._parents.clear()
        self._related.clear()

    def _missing_parents(self, values: Mapping[str, Any]) -> Iterator[Violation]:
        """A foreign key accepts a deleted parent; a client must not be able to refer to one."""
        for name, column, key in _foreign_keys(mapper_of(self._model)):
            value = values.get(name)
            if value is None or value in self._parents.get(column, ()):
                continue
            if self._live_keys(key, {value}, is_own=name in self._owners):
                continue
            yield Violation(f"There is no {name.removesuffix('_id')} {value}.", pointer=pointer_to([name]))

    def _live_keys(self, key: ForeignKey, values: Collection[Any], *, is_own: bool) -> set[Any]:
        """Those of `values` that are keys of a live parent in sight, or of whoever asks."""
        if not values:
            return set()
        # What an autoflush would do: a parent may be about to be written.
        self._session.flush()
        parent = _model_of(inspect(self._model).registry, key.column.table)
        grant, user_id = current_visibility().rows_of(parent), current_caller().user_id
        text = _live_parents(parent, key.column, grant, is_own=is_own, is_known=user_id is not None)
        # The driver knows UUIDs as texts.
        by_text = {str(value): value for value in values}
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


@lru_cache(_KEPT)
def _live_parents(parent: Any, target: Any, grant: Grant, *, is_own: bool, is_known: bool) -> str:
    """The statement for keys of live parents in sight; with `is_own`, for the key of whoever asks, too.

    Kept as text: it is part of most writes.
    """
    keys: Any = cast(bindparam("keys"), ARRAY(target.type))
    seen = and_(true(), *granted(parent, grant)) if is_known or grant.everything else false()
    own = target == bindparam("caller") if is_own and is_known else false()
    statement = select(target).where(target == any_(keys), or_(seen, own)).order_by(target)
    if issubclass(parent, SoftDeleteMixin):
        # Locked against a delete that runs at the same time; other references may be made meanwhile.
        statement = statement.where(parent.deleted_at.is_(None)).with_for_update(read=True, key_share=True)
    return compiled(statement)


def _missing(field: str, keys: Sequence[Any], found: Mapping[Any, Any]) -> list[Violation]:
    name = field.removesuffix("_ids")
    return [
        Violation(f"There is no {name} {key}.", pointer=pointer_to([field, number]))
        for number, key in enumerate(keys)
        if key not in found
    ]
