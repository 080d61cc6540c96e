"""A plan's conditions as SQL. Values never get into the statement; they are bound under the names of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Numeric,
    String,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    func,
    not_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from api.core.query.plan import Filter, Group
from api.core.query.relations import related_model, related_rows, relationship_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.access.visibility import Visibility
    from api.core.query.plan import Condition

Bool = ColumnElement[bool]

_COMPARISONS: dict[str, Callable[[Any, Any], Bool]] = {
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
    "has_key": lambda document, key: document.op("?", is_comparison=True)(key),
}
_TEXT_OPERATORS = frozenset({"like", "ilike", "icontains", "startswith"})


class Conditions:
    """Writes conditions in the order of the plan, so that the n-th value is bound as `pN` (or with another letter).

    A condition on related rows holds where one of them meets it. What denies a condition (`ne`, `not_in`, `is_null`)
    holds wherever that condition does not: for NULL, and for a row without related rows, too.
    """

    def __init__(
        self,
        model: type,
        entity: Any,
        attributes_of: Callable[[tuple[str, ...]], tuple[str, ...]],
        visibility: Visibility,
        letter: str = "p",
    ) -> None:
        """Conditions on rows of `entity`, which is `model` or has its attributes.

        `attributes_of` tells which attributes the names of a path stand for; of related rows, only those count that are
        in sight by `visibility`; `letter` is what parameters begin with.
        """
        self._visibility = visibility
        self._letter = letter
        self._model = model
        self._entity = entity
        self._attributes_of = attributes_of
        self._count = 0

    def write(self, condition: Condition) -> Bool:
        """`condition` as SQL."""
        if isinstance(condition, Group):
            return self._group(condition)
        return self._filter(condition, self._model, self._entity, self._attributes_of(condition.path))

    def _group(self, group: Group) -> Bool:
        members = [self.write(member) for member in group.members]
        if group.kind == "or":
            return or_(*members)
        if group.kind == "and":
            return and_(*members)
        # A comparison with NULL is unknown; `not` has to mean every row that does not match.
        return and_(*members).is_not(true())

    def _filter(self, item: Filter, model: type, entity: Any, attributes: tuple[str, ...]) -> Bool:
        attribute, *rest = attributes
        if not rest:
            return self._on_column(item, getattr(entity, attribute))
        if item.denied is not None:
            return not_(self._filter(item.denied, model, entity, attributes))
        relationship = relationship_of(model, attribute)
        target, rows = related_rows(relationship, lambda key: getattr(entity, key), self._visibility)
        condition = self._filter(item, related_model(relationship), target, tuple(rest))
        return exists(rows.where(condition).with_only_columns(true()).correlate(entity))

    # -- on a column ----------------------------------------------------------------------------------------------

    def _on_column(self, item: Filter, column: Any) -> Bool:
        if item.operator == "contains" or item.json_path:
            return self._in_document(item, column)
        if item.operator == "is_null":
            return _null(column, item)
        if item.operator == "between":
            return and_(column >= self._bind(column.type), column <= self._bind(column.type))
        if item.operator in {"in", "not_in"}:
            return self._listed(item, column, column.type)
        return self._compared(item, column, Text() if item.operator == "has_key" else column.type)

    def _in_document(self, item: Filter, document: Any) -> Bool:
        listed = item.operator in {"in", "not_in"}
        if item.by_containment or not item.json_path:
            return self._listed(item, document, JSONB()) if listed else self._one_of_readings(item, document, "@>")
        path = cast(self._bind(ARRAY(Text)), ARRAY(Text))
        if item.operator == "is_null" or item.operator in _TEXT_OPERATORS:
            return self._text_at(item, document, path)
        value = document.op("#>", return_type=JSONB())(path)
        if item.operator == "has_key":
            return self._compared(item, value, Text())
        if item.operator in {"eq", "ne", "contains"}:
            return self._one_of_readings(item, value, "@>" if item.operator == "contains" else "=")
        return self._listed(item, value, JSONB()) if listed else self._ordered(item, value)

    def _text_at(self, item: Filter, document: Any, path: ColumnElement[Any]) -> Bool:
        text = document.op("#>>", return_type=Text())(path)
        if item.operator == "is_null":
            return _null(text, item)
        # Not in the text of an array or object, whose brackets and blanks mean nothing.
        kind = func.jsonb_typeof(document.op("#>", return_type=JSONB())(path))
        return and_(kind != "object", kind != "array", self._compared(item, text, Text()))

    def _one_of_readings(self, item: Filter, document: Any, operator: str) -> Bool:
        readings = [cast(self._bind(Text()), JSONB) for _ in item.values]
        found = or_(*(document.op(operator, is_comparison=True)(reading) for reading in readings))
        return not_(func.coalesce(found, False)) if item.operator == "ne" else found

    def _compared(self, item: Filter, value: Any, type_: Any) -> Bool:
        return _COMPARISONS[item.operator](value, self._bind(type_))

    def _ordered(self, item: Filter, value: Any) -> Bool:
        bounds = [cast(self._bind(Text()), JSONB) for _ in item.values]
        if item.operator == "between":
            # Two numbers or two strings, and between those jsonb has nothing else.
            return and_(value >= bounds[0], value <= bounds[1])
        # jsonb orders values of different types too; a number is never meant to be compared with a string.
        same_type = func.jsonb_typeof(value) == func.jsonb_typeof(bounds[0])
        return and_(same_type, _COMPARISONS[item.operator](value, bounds[0]))

    def _listed(self, item: Filter, column: Any, type_: Any) -> Bool:
        array = ARRAY(_unlimited(type_))
        # JSON values arrive as texts.
        bound = self._bind(ARRAY(Text) if item.json_path else array)
        equals = column.op("@>" if item.by_containment else "=", is_comparison=True)
        listed: Bool = equals(any_(cast(bound, array)))
        return listed.is_not(true()) if item.operator == "not_in" else listed

    def _bind(self, type_: Any) -> Any:
        name = f"{self._letter}{self._count}"
        self._count += 1
        return bindparam(name, type_=type_)


def _unlimited(type_: Any) -> Any:
    """`type_` without length or scale, to which a cast would cut or round the value that is looked for."""
    return Text() if isinstance(type_, String) else Numeric() if isinstance(type_, Numeric) else type_


def _null(expression: Any, item: Filter) -> Bool:
    found: Bool = expression.is_(None) if item.values[0] else expression.is_not(None)
    return found
