"""Query string and allow-list to the plan of an aggregation; pure. Every mistake is collected, as for a list."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, get_args

from api.core.query.aggregate_plan import AggregatePlan, Function, Key, Operand, Order, Result
from api.core.query.allowlist import AllowList, FieldRule, Kind
from api.core.query.documents import like_paths, split_path
from api.core.query.filters import FilterParser
from api.core.query.grammar import GROUP_NAMES
from api.core.query.parameters import Parameters
from api.core.query.plan import Condition, Group
from api.core.query.problems import ProblemError, Problems, nearest, not_there, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FUNCTIONS: tuple[Function, ...] = get_args(Function)
AGGREGATE_PARAMETERS = ("group_by", *FUNCTIONS, "having", "sort", "limit", "offset")
ALL_ROWS = "*"
BUCKETS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TIMESTAMP: ("hour", "day", "week", "month", "quarter", "year"),
    Kind.DATE: ("day", "week", "month", "quarter", "year"),
}
_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.NUMBER})
_ORDERED = _NUMBERS | {Kind.TIMESTAMP, Kind.DATE, Kind.TEXT}
# A number is what is taken of a JSON document.
_POSSIBLE: Mapping[Function, frozenset[Kind]] = {
    "count": frozenset(Kind),
    "count_distinct": frozenset(Kind),
    "sum": _NUMBERS | {Kind.JSON},
    "avg": _NUMBERS | {Kind.JSON},
    "min": _ORDERED | {Kind.JSON},
    "max": _ORDERED | {Kind.JSON},
}
_COUNT_MAX = 2**63 - 1


def possible_fields(allowed: AllowList, function: Function | None = None) -> list[str]:
    """The fields that `function` can be applied to, or that rows can be grouped by; of documents only the paths."""
    kinds = frozenset(Kind) if function is None else _POSSIBLE[function]
    rules = (rule for rule in allowed.comparable.values() if rule.kind in kinds)
    return sorted(f"{rule.name}.<key>" if rule.kind is Kind.JSON else rule.name for rule in rules)


def parse_aggregate(pairs: Sequence[tuple[str, str]], allowed: AllowList) -> AggregatePlan:
    """The plan of an aggregation, as the query parameters `pairs` ask for it.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    problems = Problems()
    query = _Aggregation(pairs, allowed, problems)
    filters = FilterParser(allowed, problems, others=[*query.known, *sorted(GROUP_NAMES)])
    plan = AggregatePlan(
        resource=allowed.resource,
        keys=query.keys,
        results=query.results,
        where=filters.conditions(query.filters),
        having=query.having(),
        order=query.order(),
        size=query.whole_number("limit", allowed.limits.groups, allowed.limits.groups_max),
        offset=query.whole_number("offset", 0, allowed.limits.offset_max, minimum=0),
        deleted=query.deleted(),
    )
    problems.raise_any()
    return plan


class _Aggregation(Parameters):
    """The parameters that steer an aggregation."""

    def __init__(self, pairs: Sequence[tuple[str, str]], allowed: AllowList, problems: Problems) -> None:
        super().__init__(pairs, allowed, problems, AGGREGATE_PARAMETERS)
        self._documents = frozenset(name for name, rule in allowed.comparable.items() if rule.kind is Kind.JSON)
        self._rules: dict[str, FieldRule] = {}
        self._many: tuple[str, str] | None = None
        self.keys = self._keys()
        self.results = self._results()
        self._columns = self._named_columns()

    # -- what to group by, and what to work out -------------------------------------------------------------------

    def _keys(self) -> tuple[Key, ...]:
        keys: dict[str, Key] = {}
        for name in self.names("group_by"):
            if name in keys:
                self._problems.add("group_by", f"Names {shortened(name)!r} twice.")
            found = self._problems.attempt("group_by", partial(self._operand, name))
            if found is not None:
                keys[name] = Key(name, found[0])
        if len(keys) > self._limits.group_keys_max:
            self._problems.add("group_by", f"Must not list more than {self._limits.group_keys_max} names.")
        return (*keys.values(),)

    def _results(self) -> tuple[Result, ...]:
        """The results, by default the number of rows."""
        results: dict[str, Result] = {}
        wanted = [(function, field) for function in FUNCTIONS for field in self.names(function)]
        limit = self._limits.results_max
        if len(wanted) > limit:
            self._problems.add(wanted[limit][0], f"There are more than {limit} results.")
        taken = {key.name for key in self.keys}
        for function, field in wanted or [("count", ALL_ROWS)]:
            result = self._problems.attempt(function, partial(self._result, function, field))
            if result is not None and result.name in taken:
                self._problems.add(function, f"{shortened(result.name)!r} would be there twice.")
            elif result is not None:
                results[result.name] = result
                taken.add(result.name)
        return (*results.values(),)

    def _result(self, function: Function, field: str) -> Result:
        """What `function` makes of `field`.

        Raises:
            ProblemError: where it cannot be applied to it, with what it can be applied to.
        """
        if function == "count" and field == ALL_ROWS:
            self._rules["count"] = _result_rule("count", "count", None)
            return Result("count", "count")
        operand, rule = self._operand(field, function)
        name = f"{function}_{field}"
        self._rules[name] = _result_rule(name, function, rule)
        return Result(name, function, operand)

    def _operand(self, name: str, function: Function | None = None) -> tuple[Operand, FieldRule]:
        rule = self._allowed.comparable.get(name)
        bucket = "" if rule else self._bucket(name, function)
        if bucket:
            rule = self._allowed.comparable[name.removesuffix(f".{bucket}")]
        path: tuple[str, ...] = ()
        if rule is None:
            document, path = split_path(name, self._documents) or ("", ())
            rule = self._allowed.comparable.get(document)
        if rule is None:
            raise ProblemError(self._no_field(name, function))
        if rule.kind is Kind.JSON and not path:
            message = f"{name!r} needs a key, as in {name}.key."
            raise ProblemError(message)
        if function is not None and rule.kind not in _POSSIBLE[function]:
            fields = ", ".join(possible_fields(self._allowed, function))
            message = f"Cannot be used with {name!r}; possible: {fields}."
            raise ProblemError(message)
        self._check_many(name, rule)
        return Operand(rule.path, path, bucket, rule.many), rule

    def _bucket(self, name: str, function: Function | None) -> str:
        """The unit of time that `name` ends with, if it is the name of a time with one.

        Raises:
            ProblemError: for a unit that there is not, or that does not suit the function.
        """
        field, _, unit = name.rpartition(".")
        rule = self._allowed.comparable.get(field)
        if rule is None or rule.kind not in BUCKETS:
            return ""
        units = BUCKETS[rule.kind]
        if unit not in units:
            message = f"{field!r} has no unit {shortened(unit)!r}; possible: {', '.join(units)}."
            raise ProblemError(message)
        if function not in {None, "count_distinct"}:
            message = f"{name!r} is for group_by and count_distinct; {function} takes {field!r}."
            raise ProblemError(message)
        return unit

    def _no_field(self, name: str, function: Function | None) -> str:
        known = [
            *([ALL_ROWS] if function == "count" else []),
            *(self._allowed.comparable.keys() - self._documents),
            *like_paths(name, self._documents),
        ]
        times = [rule for rule in self._allowed.comparable.values() if rule.kind in BUCKETS]
        buckets = [f"{rule.name}.{unit}" for rule in times for unit in BUCKETS[rule.kind]]
        near = nearest(name, [*known, *buckets])
        if near:
            return f"There is no field {name!r}; did you mean {near!r}?"
        possible = possible_fields(self._allowed, function)
        return not_there("field", name, [ALL_ROWS, *possible] if function == "count" else possible)

    def _check_many(self, name: str, rule: FieldRule) -> None:
        """Rows that are joined with many rows in two ways would be multiplied.

        Raises:
            ProblemError: for a field of a second such relation.
        """
        if not rule.many:
            return
        self._many = self._many or (rule.many, name)
        if self._many[0] != rule.many:
            message = f"Cannot be used together with {self._many[1]!r}: a row has many of both."
            raise ProblemError(message)

    # -- which groups, and in which order -------------------------------------------------------------------------

    def _named_columns(self) -> dict[str, str]:
        """The columns of keys and results by their names; a function stands for its only result."""
        columns = {key.name: f"g{number}" for number, key in enumerate(self.keys)}
        columns |= {result.name: f"a{number}" for number, result in enumerate(self.results)}
        for function in FUNCTIONS:
            results = [result.name for result in self.results if result.function == function]
            if len(results) == 1 and function not in columns:
                columns[function] = columns[results[0]]
                self._rules[function] = replace(self._rules[results[0]], name=function)
        return columns

    def having(self) -> tuple[Condition, ...]:
        """The conditions on results."""
        text = self.text("having")
        if text is None:
            return ()
        empty: frozenset[str] = frozenset()
        results = AllowList("results", self._rules, empty, empty, empty, (), limits=self._limits)
        members = FilterParser(results, self._problems).members("having", text)
        return tuple(self._placed(condition) for condition in members)

    def _placed(self, condition: Condition) -> Condition:
        """`condition` with the results' columns instead of their names."""
        if isinstance(condition, Group):
            return Group(condition.kind, tuple(self._placed(member) for member in condition.members))
        return replace(condition, path=(self._columns[".".join(condition.path)],))

    def order(self) -> tuple[Order, ...]:
        """The sort keys, with all group keys as the last ones."""
        order: dict[str, Order] = {}
        for name in self.names("sort"):
            bare = name.removeprefix("-")
            column = self._columns.get(bare, "")
            if not column:
                self._problems.add("sort", not_there("key or result", bare, self._columns))
            elif column in order:
                self._problems.add("sort", f"Names {shortened(bare)!r} twice.")
            order[column] = Order(column, descending=name.startswith("-"))
        keys = (f"g{number}" for number in range(len(self.keys)))
        return (*order.values(), *(Order(column) for column in keys if column not in order))


def _result_rule(name: str, function: Function, rule: FieldRule | None) -> FieldRule:
    """What can be compared with a result of `function` over the field of `rule`."""
    if rule is None or function in {"count", "count_distinct"}:
        return FieldRule(name, Kind.INTEGER, nullable=False, minimum=0, maximum=_COUNT_MAX)
    kind = Kind.NUMBER if rule.kind is Kind.JSON else rule.kind
    if function in {"min", "max"}:
        return FieldRule(name, kind, nullable=True, minimum=rule.minimum, maximum=rule.maximum)
    return FieldRule(name, Kind.NUMBER if function == "avg" and kind is Kind.INTEGER else kind, nullable=True)
