"""The plan of an aggregation as one SELECT that returns the groups as finished JSON.

Facts, groups, answer: the inner query has a line for each row (or for each of its many related rows, where one is asked
for) with what is needed of it; the middle one groups the lines; the outer one picks, sorts and writes the groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Numeric,
    Select,
    Text,
    bindparam,
    cast,
    distinct,
    func,
    literal_column,
    select,
)
from sqlalchemy import Date as DateType
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from api.core.query.allowlist import Kind
from api.core.query.compiled import ShapeCache, Statement, compiled
from api.core.query.conditions import Conditions
from api.core.query.json_values import number_at, value_at
from api.core.query.projection import sql_form
from api.core.query.relations import live, mapper_of, related_model, relationship_of, scope

if TYPE_CHECKING:
    from api.core.access.visibility import Visibility
    from api.core.query.aggregate_plan import AggregatePlan, Operand, Order, Result
    from api.core.query.allowlist import FieldRule
    from api.core.query.collection import Collection

CACHED_SHAPES = 256

# Names that no field can have.
_ORDINAL = "#ordinal"
_FIRST = "#first"
_NOTHING: ColumnElement[str] = literal_column("'null'", Text)


class AggregateCache(ShapeCache["AggregatePlan"]):
    """The aggregating statements of one collection, at most `CACHED_SHAPES` of them."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(lambda plan: Statement(compiled(_Builder(collection, plan).answer())), CACHED_SHAPES)


class _Builder:
    """Writes the statement of one shape."""

    def __init__(self, collection: Collection, plan: AggregatePlan) -> None:
        self._collection = collection
        self._plan = plan

    def answer(self) -> Select[Any]:
        """One row: `groups` as a JSON array, and whether there are `more`; one more than asked for is fetched."""
        groups = self._groups().subquery()
        having = Conditions(self._collection.model, groups.c, lambda path: path, self._plan.visibility, letter="h")
        picked = (
            select(groups)
            .where(*(having.write(condition) for condition in self._plan.having))
            .order_by(*(_ordered(groups.c[item.column], item) for item in self._plan.order))
            .limit(bindparam("size") + 1)
            .offset(bindparam("skip"))
            .subquery()
        )
        numbered = select(picked, func.row_number().over().label(_ORDINAL)).subquery()
        size: ColumnElement[int] = bindparam("size")
        body = func.concat("{", func.concat_ws(",", *self._members(numbered.c)), "}")
        items = func.string_agg(body, aggregate_order_by(literal_column("','"), numbered.c[_ORDINAL]))
        columns: list[ColumnElement[Any]] = [
            func.concat("[", items.filter(numbered.c[_ORDINAL] <= size), "]").label("groups"),
            (func.count() > size).label("more"),
        ]
        return select(*columns).select_from(numbered)

    def _members(self, columns: Any) -> list[ColumnElement[Any]]:
        """The members of a group's JSON; their names are bound, because a client has a say in them."""
        forms = [self._key_form(key.operand, columns[f"g{number}"]) for number, key in enumerate(self._plan.keys)]
        forms += [self._result_form(item, columns[f"a{number}"]) for number, item in enumerate(self._plan.results)]
        return [
            func.concat(bindparam(f"n{number}", type_=Text()), func.coalesce(cast(func.to_json(form), Text), _NOTHING))
            for number, form in enumerate(forms)
        ]

    # -- groups ---------------------------------------------------------------------------------------------------

    def _groups(self) -> Select[Any]:
        """The keys as `gN` and the results as `aN`."""
        facts = self._facts().subquery()
        keys = [facts.c[f"g{number}"] for number in range(len(self._plan.keys))]
        results = [
            self._result(result, facts.c, number).label(f"a{number}")
            for number, result in enumerate(self._plan.results)
        ]
        return select(*keys, *results).select_from(facts).group_by(*keys)

    def _result(self, result: Result, facts: Any, number: int) -> ColumnElement[Any]:
        operand = result.operand
        if operand is None:
            return cast(self._of_rows(func.count(), facts), BigInteger)
        function = _function(result, facts[f"v{number}"], self._rule(operand))
        found: ColumnElement[Any] = function if operand.many else self._of_rows(function, facts)
        if result.function in {"min", "max"}:
            return found
        return _rounded(found, result, facts[f"v{number}"].type, self._rule(operand))

    def _of_rows(self, function: Any, facts: Any) -> Any:
        """`function` over the rows themselves, each of which counts once for a group, whatever it is joined with."""
        return function.filter(facts[_FIRST]) if _FIRST in facts else function

    # -- facts ----------------------------------------------------------------------------------------------------

    def _facts(self) -> Select[Any]:
        """The keys as `gN`, the results' operands as `vN`, and whether a line is the first of its row and group."""
        model = self._collection.model
        joins = _Joins(model, self._plan.visibility)
        keys = [self._value(item.operand, joins, number) for number, item in enumerate(self._plan.keys)]
        columns = [key.label(f"g{number}") for number, key in enumerate(keys)]
        for number, result in enumerate(self._plan.results):
            if result.operand is not None:
                value = self._operand(result, result.operand, joins, len(keys) + number)
                columns.append(value.label(f"v{number}"))
        if any(operand.many for operand in self._plan.operands):
            many = [key for key, item in zip(keys, self._plan.keys, strict=True) if item.operand.many]
            position = func.row_number().over(partition_by=[mapper_of(model).primary_key[0], *many])
            columns.append((position == 1).label(_FIRST))
        elif not columns:
            columns.append(literal_column("1").label("line"))
        where = Conditions(model, model, self._collection.attributes_of, self._plan.visibility)
        return joins.select(columns).where(
            *scope(model, self._plan.deleted, self._plan.visibility),
            *(where.write(condition) for condition in self._plan.where),
        )

    def _operand(self, result: Result, operand: Operand, joins: _Joins, number: int) -> ColumnElement[Any]:
        if operand.json_path and result.function not in {"count", "count_distinct"}:
            return number_at(self._column(operand, joins), f"j{number}")
        return self._value(operand, joins, number)

    def _value(self, operand: Operand, joins: _Joins, number: int) -> ColumnElement[Any]:
        column = self._column(operand, joins)
        if operand.json_path:
            return value_at(column, f"j{number}")
        if not operand.bucket:
            return column
        if self._rule(operand).kind is Kind.DATE:
            return cast(func.date_trunc(operand.bucket, cast(column, DateTime)), DateType)
        return func.date_trunc(operand.bucket, column, "UTC", type_=column.type)

    def _column(self, operand: Operand, joins: _Joins) -> ColumnElement[Any]:
        *relations, last = self._collection.attributes_of(operand.path)
        column: ColumnElement[Any] = getattr(joins.entity(tuple(relations)), last)
        return column

    # -- JSON -----------------------------------------------------------------------------------------------------

    def _rule(self, operand: Operand) -> FieldRule:
        return self._collection.comparable[".".join(operand.path)]

    def _key_form(self, operand: Operand, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """As the field itself is written."""
        return column if operand.json_path else sql_form(self._collection.field_of(operand.path), column)

    def _result_form(self, result: Result, column: ColumnElement[Any]) -> ColumnElement[Any]:
        if result.operand is None or result.operand.json_path or result.function in {"count", "count_distinct"}:
            return column
        if result.function in {"min", "max"}:
            return self._key_form(result.operand, column)
        # A number would lose cents on the way.
        return cast(column, Text) if self._rule(result.operand).kind is Kind.DECIMAL else column


class _Joins:
    """The rows of a model, joined with the live rows in sight that they refer to."""

    def __init__(self, model: type[Any], visibility: Visibility) -> None:
        self._model = model
        self._visibility = visibility
        self._entities: dict[tuple[str, ...], tuple[type[Any], Any]] = {(): (model, model)}
        self._paths: list[Any] = []

    def entity(self, relations: tuple[str, ...]) -> Any:
        """What the rows are at the end of `relations`."""
        if relations not in self._entities:
            self.entity(relations[:-1])
            model, referring = self._entities[relations[:-1]]
            related = related_model(relationship_of(model, relations[-1]))
            entity = aliased(related)
            path = getattr(referring, relations[-1]).of_type(entity)
            hidden = live(entity, related, self._visibility)
            self._paths.append(path.and_(*hidden) if hidden else path)
            self._entities[relations] = (related, entity)
        return self._entities[relations][1]

    def select(self, columns: list[Any]) -> Select[Any]:
        """`columns` of all rows, those included that refer to nothing."""
        query = select(*columns).select_from(self._model)
        for path in self._paths:
            query = query.outerjoin(path)
        return query


def _function(result: Result, value: Any, rule: FieldRule) -> Any:
    if result.function == "count":
        return func.count(value)
    if result.function == "count_distinct":
        return func.count(distinct(value))
    if result.function in {"sum", "avg"} and rule.kind is not Kind.DECIMAL:
        # Sums of floating numbers depend on the order of the rows, and can overflow.
        value = cast(value, Numeric)
    return getattr(func, result.function)(value)


def _rounded(found: Any, result: Result, type_: Any, rule: FieldRule) -> ColumnElement[Any]:
    """Sums as they are; an average of money to its decimals, others to at least 16 digits."""
    if result.function in {"count", "count_distinct"}:
        return cast(found, BigInteger)
    if result.function == "sum":
        return cast(found, Numeric)
    scale = getattr(type_, "scale", None) if rule.kind is Kind.DECIMAL else None
    rounded = func.trim_scale(found) if scale is None else func.round(found, literal_column(str(scale)))
    return cast(rounded, Numeric)


def _ordered(column: ColumnElement[Any], item: Order) -> ColumnElement[Any]:
    return column.desc() if item.descending else column.asc()
