"""Filters of a query string to conditions; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from api.core.query import values
from api.core.query.allowlist import JSON_PATH_OPERATORS, AllowList, FieldRule
from api.core.query.documents import split_path
from api.core.query.grammar import GROUP_NAMES, GrammarError, Member, parse_group, parse_members, split_list
from api.core.query.plan import Condition, Filter, Group, GroupKind
from api.core.query.problems import ProblemError, Problems, nearest, not_there, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Operators with one operand that is read the same way whatever the field is.
_OPERANDS: dict[str, Callable[[str], Any]] = {
    "is_null": values.parse_boolean,
    "like": values.parse_like,
    "ilike": values.parse_like,
    "icontains": lambda text: f"%{values.escape_like(text)}%",
    "startswith": lambda text: f"{values.escape_like(text)}%",
    "has_key": str,
}
_NUMBER_START = frozenset("-0123456789")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a filter's name stands for."""

    rule: FieldRule
    operator: str
    json_path: tuple[str, ...]


class FilterParser:
    """Reads the filters of one request. `others` are the parameters that are no filters, for hints at wrong names."""

    def __init__(self, allowed: AllowList, problems: Problems, others: Iterable[str] = ()) -> None:
        self._allowed = allowed
        self._problems = problems
        self._others = (*others,)
        self._count = 0

    def conditions(self, pairs: Iterable[tuple[str, str]]) -> tuple[Condition, ...]:
        """The conditions that `pairs` set, in an order of their own: how a client orders them means nothing."""
        return tuple(sorted(self._members(pairs, parameter=None), key=repr))

    def members(self, parameter: str, text: str) -> tuple[Condition, ...]:
        """The conditions that `text`, the value of `parameter`, lists with commas between them, bracketed or not."""
        depth_max = self._allowed.limits.depth_max
        members = self._problems.attempt(parameter, lambda: parse_members(text, depth_max)) or ()
        return tuple(sorted(self._members(((item.name, item.value) for item in members), parameter), key=repr))

    def _members(self, pairs: Iterable[tuple[str, Any]], parameter: str | None) -> list[Condition]:
        found = (self._condition(name, value, parameter or name) for name, value in pairs)
        return [condition for condition in found if condition is not None]

    def _condition(self, name: str, value: str | tuple[Member, ...], parameter: str) -> Condition | None:
        """`value` is a text at the top, where a group has not been taken apart yet, and in a filter."""
        if name in GROUP_NAMES:
            return self._group(cast("GroupKind", name), value, parameter)
        self._count += 1
        limit = self._allowed.limits.conditions_max
        if self._count == limit + 1:
            self._problems.add(parameter, f"There are more than {limit} conditions.")
        if self._count > limit:
            return None
        about = shortened(name) if parameter != name else ""
        text = cast("str", value)
        return self._problems.attempt(parameter, lambda: self._filter(name, text, nested=bool(about)), about=about)

    def _group(self, kind: GroupKind, value: str | tuple[Member, ...], parameter: str) -> Condition | None:
        members = value
        if isinstance(members, str):
            text, depth_max = members, self._allowed.limits.depth_max
            members = self._problems.attempt(parameter, lambda: parse_group(text, depth_max)) or ()
        conditions = self._members(((member.name, member.value) for member in members), parameter)
        return Group(kind, tuple(conditions)) if conditions else None

    # -- a single filter ------------------------------------------------------------------------------------------

    def _filter(self, name: str, text: str, *, nested: bool) -> Filter:
        target = self._target(name, nested=nested)
        return Filter(target.rule.path, target.operator, self._operands(target, text), target.json_path)

    def _target(self, name: str, *, nested: bool) -> _Target:
        """What `name` stands for: `price__gte`, `category.name`, `metadata.size.width__gt`.

        Raises:
            ProblemError: for a name or operator that is not there, with what would be.
        """
        field, separator, operator = name.rpartition("__")
        field = field if separator else name
        found = self._field(field)
        if found is None:
            raise ProblemError(self._unknown(name, nested=nested))
        rule, json_path = found
        possible = JSON_PATH_OPERATORS if json_path else rule.operators
        if not separator and "eq" not in possible:
            example = ", ".join(f"{field}__{operator}" for operator in possible)
            message = f"{field!r} needs an operator ({example}) or a key, as in {field}.key."
            raise ProblemError(message)
        operator = operator if separator else "eq"
        if operator not in possible:
            message = f"{shortened(field)!r} has no operator {shortened(operator)!r}; possible: {', '.join(possible)}."
            raise ProblemError(message)
        return _Target(rule, operator, json_path)

    def _field(self, field: str) -> tuple[FieldRule, tuple[str, ...]] | None:
        rule = self._allowed.filters.get(field)
        if rule is not None:
            return rule, ()
        found = split_path(field, self._allowed.filter_documents)
        return None if found is None else (self._allowed.filters[found[0]], found[1])

    def _unknown(self, name: str, *, nested: bool) -> str:
        keys = name.partition(".")[2]
        paths = [f"{document}.{keys}" for document in self._allowed.filter_documents]
        known = [*self._allowed.conditions, *(() if nested else self._others), *(paths if all(keys.split(".")) else ())]
        near = nearest(name, known)
        if near:
            return f"There is no {'filter' if nested else 'parameter'} {name!r}; did you mean {near!r}?"
        return not_there("filter", name, self._allowed.filters)

    # -- operands -------------------------------------------------------------------------------------------------

    def _operands(self, target: _Target, text: str) -> tuple[Any, ...]:
        if target.operator in _OPERANDS:
            return (_OPERANDS[target.operator](text),)
        if target.operator == "contains":
            return _containment(values.json_document(text), inside=bool(target.json_path))
        if target.operator in {"in", "not_in", "between"}:
            return self._listed(target, text)
        if target.json_path:
            readings = values.json_readings(text)
            return readings if target.operator in {"eq", "ne"} else readings[:1]
        return (values.parse_value(text, target.rule),)

    def _listed(self, target: _Target, text: str) -> tuple[Any, ...]:
        items = split_list(text)
        if target.operator == "between" and len(items) != 2:  # noqa: PLR2004 - a range has two ends
            message = "Must be two values with a comma between them."
            raise GrammarError(message)
        if len(items) > self._allowed.limits.list_max:
            message = f"Must not list more than {self._allowed.limits.list_max} values."
            raise GrammarError(message)
        if not target.json_path:
            return tuple(values.parse_value(item, target.rule) for item in items)
        readings = [values.json_readings(item) for item in items]
        if target.operator == "between":
            # Both ends as numbers, or else both as strings.
            numbers = all(reading[0][0] in _NUMBER_START for reading in readings)
            return tuple(reading[0 if numbers else -1] for reading in readings)
        return tuple(value for reading in readings for value in reading)


def _containment(document: str, *, inside: bool) -> tuple[str, ...]:
    """What to look for: the document, and where it is a scalar inside of another document, an array that has it."""
    scalar = document.strip()[0] not in "{["
    return (document, f"[{document}]") if inside and scalar else (document,)
