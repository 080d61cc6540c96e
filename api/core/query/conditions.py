"""A plan's conditions as SQL. Values never get into the statement; they are bound under the names that the plan gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Text, and_, any_, bindparam, cast, exists, func, inspect, not_, or_, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from api.core.query.plan import Filter, Group
from api.core.query.relations import related_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.query.plan import Condition

_COMPARISONS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "eq": lambda column, value: column == value,
    "ne": lambda column, value: column.is_distinct_from(value),
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "like": lambda column, value: column.like(value),
    "ilike": lambda column, value: column.ilike(value),
    "icontains": lambda column, value: column.ilike(value),
    "startswith": lambda column, value: column.like(value),
}
_TEXT_OPERATORS = frozenset({"like", "ilike", "icontains", "startswith"})


class Conditions:
    """Writes conditions in the order of the plan, so that the n-th value is bound as `pN`."""

    def __init__(self, field_attribute: Callable[[type, str], str]) -> None:
        """`field_attribute` tells which attribute of a model an API field shows."""
        self._attribute = field_attribute
        self._count = 0

    def write(self, condition: Condition, model: type, entity: Any) -> ColumnElement[bool]:
        """`condition` on rows of `entity`, which is `model` or an alias of it."""
        if isinstance(condition, Group):
            return self._group(condition, model, entity)
        return self._filter(condition, model, entity, condition.path)

    def _group(self, group: Group, model: type, entity: Any) -> ColumnElement[bool]:
        members = [self.write(member, model, entity) for member in group.members]
        if group.kind == "or":
            return or_(*members)
        if group.kind == "and":
            return and_(*members)
        # A comparison with NULL is unknown; `not` has to mean every row that does not match.
        return and_(*members).is_not(true())

    def _filter(self, item: Filter, model: type, entity: Any, path: tuple[str, ...]) -> ColumnElement[bool]:
        name, *rest = path
        attribute = self._attribute(model, name)
        if rest:
            relationship = inspect(model).relationships[attribute]
            target, rows = related_rows(relationship, lambda key: getattr(entity, key))
            condition = self._filter(item, relationship.entity.class_, target, tuple(rest))
            return exists(rows.where(condition).with_only_columns(true()).correlate(entity))
        column = getattr(entity, attribute)
        if isinstance(column.type, JSONB) or item.json_path or item.operator in {"contains", "has_key"}:
            return self._json(item, column)
        return self._scalar(item, column)

    def _scalar(self, item: Filter, column: Any) -> ColumnElement[bool]:
        if item.operator == "is_null":
            return column.is_(None) if item.values[0] else column.is_not(None)
        if item.operator == "between":
            return column.between(self._bind(column.type), self._bind(column.type))
        if item.operator in {"in", "not_in"}:
            listed = column == any_(cast(self._bind(ARRAY(column.type)), ARRAY(column.type)))
            return listed if item.operator == "in" else listed.is_not(true())
        return _COMPARISONS[item.operator](column, self._bind(column.type))

    def _json(self, item: Filter, column: Any) -> ColumnElement[bool]:
        if item.operator in {"eq", "ne", "contains"}:
            # Containment, because a GIN index on the document answers it.
            found = or_(*(column.op("@>", is_comparison=True)(cast(self._bind(Text()), JSONB)) for _ in item.values))
            return not_(func.coalesce(found, False)) if item.operator == "ne" else found
        if not item.json_path:
            if item.operator == "has_key":
                return column.op("?", is_comparison=True)(self._bind(Text()))
            return column.is_(None) if item.values[0] else column.is_not(None)
        path = cast(self._bind(ARRAY(Text)), ARRAY(Text))
        return self._json_at(item, column, path)

    def _json_at(self, item: Filter, column: Any, path: ColumnElement[Any]) -> ColumnElement[bool]:
        text = column.op("#>>", return_type=Text())(path)
        if item.operator == "is_null":
            return text.is_(None) if item.values[0] else text.is_not(None)
        if item.operator in _TEXT_OPERATORS:
            return _COMPARISONS[item.operator](text, self._bind(Text()))
        value = column.op("#>", return_type=JSONB())(path)
        if item.operator == "has_key":
            return value.op("?", is_comparison=True)(self._bind(Text()))
        if item.operator in {"in", "not_in"}:
            listed = value == any_(cast(self._bind(ARRAY(Text)), ARRAY(JSONB)))
            return listed if item.operator == "in" else listed.is_not(true())
        bounds = [cast(self._bind(Text()), JSONB) for _ in item.values]
        # jsonb orders values of different types too; a number is never meant to be compared with a string.
        same_type = func.jsonb_typeof(value) == func.jsonb_typeof(bounds[0])
        if item.operator == "between":
            return and_(same_type, value >= bounds[0], value <= bounds[1])
        return and_(same_type, _COMPARISONS[item.operator](value, bounds[0]))

    def _bind(self, type_: Any) -> Any:
        name = f"p{self._count}"
        self._count += 1
        return bindparam(name, type_=type_)
