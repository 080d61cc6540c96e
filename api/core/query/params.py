"""Query string and allow-list to a plan; pure. Every mistake is collected, and each names what would be right."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from api.core.errors import MalformedRequestError, Violation
from api.core.query import values
from api.core.query.allowlist import JSON_PATH_OPERATORS, AllowList, FieldRule, Kind
from api.core.query.cursor import CursorCodec, CursorError
from api.core.query.grammar import GROUP_NAMES, GrammarError, Member, parse_group, split_list
from api.core.query.plan import Condition, Filter, Group, Page, QueryPlan, Sort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VIEW_PARAMETERS = ("fields", "include")
LIST_PARAMETERS = (*VIEW_PARAMETERS, "sort", "limit", "cursor", "page", "per_page", "count", "or", "and", "not")
DELETED_PARAMETER = "deleted"
COUNTS = ("none", "exact", "estimated")
DELETED_MODES = ("exclude", "include", "only")
_SUGGESTION_CUTOFF = 0.5

Pairs = "Sequence[tuple[str, str]]"


def parse_list(pairs: Sequence[tuple[str, str]], allowed: AllowList, cursors: CursorCodec) -> QueryPlan:
    """The plan of a page, as the query parameters `pairs` ask for it.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    return _Parser(pairs, allowed).list_plan(cursors)


def parse_view(pairs: Sequence[tuple[str, str]], allowed: AllowList) -> QueryPlan:
    """The plan of a single row: only `fields`, `include` and `deleted` make sense.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    return _Parser(pairs, allowed).view_plan()


class _Parser:
    def __init__(self, pairs: Sequence[tuple[str, str]], allowed: AllowList) -> None:
        self._allowed = allowed
        self._limits = allowed.limits
        self._violations: list[Violation] = []
        self._filters: list[tuple[str, str]] = []
        self._single: dict[str, str] = {}
        self._conditions = 0
        self._sort_out(pairs)

    def list_plan(self, cursors: CursorCodec) -> QueryPlan:
        where = tuple(self._conditions_of(self._filters))
        sort = self._sort()
        plan = QueryPlan(
            where=where,
            sort=sort,
            page=Page(self._limits.page_size),
            fields=self._fields(),
            include=self._include(),
            count=self._choice("count", COUNTS),
            deleted=self._deleted(),
        )
        page = self._page(plan, cursors)
        self._raise()
        return QueryPlan(where, sort, page, plan.fields, plan.include, plan.count, plan.deleted)

    def view_plan(self) -> QueryPlan:
        for name in [*self._single]:
            if name not in {*VIEW_PARAMETERS, DELETED_PARAMETER}:
                self._refuse(name, "This parameter is for lists.")
        for name, _ in self._filters:
            self._unknown(name, [*VIEW_PARAMETERS, *self._deleted_parameter()])
        plan = QueryPlan(fields=self._fields(), include=self._include(), deleted=self._deleted())
        self._raise()
        return plan

    def _sort_out(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Tell the parameters that steer the page from the filters; a filter may be repeated, the others may not."""
        control = {*LIST_PARAMETERS, *self._deleted_parameter()} - GROUP_NAMES
        for name, text in pairs:
            if name not in control:
                self._filters.append((name, text))
            elif name in self._single:
                self._refuse(name, "Given more than once.")
            else:
                self._single[name] = text

    def _deleted_parameter(self) -> tuple[str, ...]:
        return (DELETED_PARAMETER,) if self._allowed.deletable else ()

    def _refuse(self, parameter: str, detail: str) -> None:
        self._violations.append(Violation(detail, parameter=parameter))

    def _raise(self) -> None:
        if self._violations:
            raise MalformedRequestError(violations=self._violations)

    def _attempt(self, parameter: str, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except (values.ValueProblemError, GrammarError) as error:
            self._refuse(parameter, str(error))
            return None

    # -- filters --------------------------------------------------------------------------------------------------

    def _conditions_of(self, pairs: Sequence[tuple[str, Any]], parameter: str | None = None) -> list[Condition]:
        found = (self._condition(name, value, parameter or name) for name, value in pairs)
        return [condition for condition in found if condition is not None]

    def _condition(self, name: str, value: str | tuple[Member, ...], parameter: str) -> Condition | None:
        if name in GROUP_NAMES:
            return self._group(name, value, parameter)
        if not isinstance(value, str):
            self._refuse(parameter, f"{name!r} cannot hold a group; 'or', 'and' and 'not' can.")
            return None
        self._conditions += 1
        if self._conditions == self._limits.conditions_max + 1:
            self._refuse(parameter, f"More than {self._limits.conditions_max} conditions.")
        resolved = self._resolve(name)
        if resolved is None:
            self._unknown(parameter, self._parameter_names(), name)
            return None
        rule, operator, json_path = resolved
        return self._attempt(parameter, lambda: self._filter(rule, operator, json_path, value))

    def _group(self, kind: str, value: str | tuple[Member, ...], parameter: str) -> Condition | None:
        if isinstance(value, str):
            members = self._attempt(parameter, lambda: parse_group(value, self._limits.depth_max))
            if members is None:
                return None
        else:
            members = value
        conditions = self._conditions_of([(member.name, member.value) for member in members], parameter)
        return Group(kind, tuple(conditions)) if conditions else None  # type: ignore[arg-type]

    def _resolve(self, name: str) -> tuple[FieldRule, str, tuple[str, ...]] | None:
        """The rule, operator and JSON path that `name` stands for: `price__gte`, `category.name`, `metadata.a.b__gt`."""
        field, separator, operator = name.rpartition("__")
        if not separator:
            field, operator = name, ""
        found = self._rule_for(field)
        if found is None:
            return None
        rule, json_path = found
        possible = JSON_PATH_OPERATORS if json_path else rule.operators
        operator = operator or possible[0] if (operator or not self._json_root(rule, json_path)) else ""
        return (rule, operator, json_path) if operator in possible else None

    @staticmethod
    def _json_root(rule: FieldRule, json_path: tuple[str, ...]) -> bool:
        return rule.kind is Kind.JSON and not json_path

    def _rule_for(self, field: str) -> tuple[FieldRule, tuple[str, ...]] | None:
        rule = self._allowed.filters.get(field)
        if rule is not None:
            return rule, ()
        parts = field.split(".")
        for end in range(len(parts) - 1, 0, -1):
            rule = self._allowed.filters.get(".".join(parts[:end]))
            if rule is not None and rule.kind is Kind.JSON and all(parts[end:]) and "\x00" not in field:
                return rule, tuple(parts[end:])
        return None

    def _filter(self, rule: FieldRule, operator: str, json_path: tuple[str, ...], text: str) -> Filter:
        return Filter(rule.path, operator, self._filter_values(rule, operator, json_path, text), json_path)

    def _filter_values(self, rule: FieldRule, operator: str, json_path: tuple[str, ...], text: str) -> tuple[Any, ...]:
        if operator == "is_null":
            return (values.parse_boolean(text),)
        if operator in {"like", "ilike", "icontains", "startswith"}:
            return (_pattern(operator, text),)
        if operator == "contains":
            return (values.json_document(text),)
        if operator == "has_key":
            return (values.parse_value(text, FieldRule(rule.name, Kind.TEXT, nullable=False)),)
        if operator in {"in", "not_in", "between"}:
            return self._listed(rule, operator, json_path, text)
        if json_path:
            readings = values.json_readings(text)
            return readings if operator in {"eq", "ne"} else readings[:1]
        return (values.parse_value(text, rule),)

    def _listed(self, rule: FieldRule, operator: str, json_path: tuple[str, ...], text: str) -> tuple[Any, ...]:
        items = split_list(text)
        if operator == "between" and len(items) != 2:  # noqa: PLR2004 - a range has two ends
            message = "Must be two values with a comma between them."
            raise GrammarError(message)
        if len(items) > self._limits.list_max:
            message = f"Lists more than {self._limits.list_max} values."
            raise GrammarError(message)
        if not json_path:
            return tuple(values.parse_value(item, rule) for item in items)
        readings = [values.json_readings(item) for item in items]
        if operator == "between":
            return tuple(reading[0] for reading in readings)
        return tuple(value for reading in readings for value in reading)

    # -- names that are not there ---------------------------------------------------------------------------------

    def _unknown(self, parameter: str, known: Sequence[str], name: str | None = None) -> None:
        name = name or parameter
        near = get_close_matches(name, known, n=1, cutoff=_SUGGESTION_CUTOFF)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        what = "parameter" if parameter == name else "filter"
        self._refuse(parameter, f"There is no {what} {name!r}{hint}")

    def _parameter_names(self) -> list[str]:
        names = [*LIST_PARAMETERS, *self._deleted_parameter()]
        for rule in self._allowed.filters.values():
            names += [rule.name, *(f"{rule.name}__{operator}" for operator in rule.operators)]
        return names

    # -- sort, fields, include ------------------------------------------------------------------------------------

    def _names(self, parameter: str) -> list[str]:
        text = self._single.get(parameter)
        if text is None:
            return []
        names = [name.strip() for name in text.split(",")]
        if not all(names) or len(names) > self._limits.list_max:
            self._refuse(parameter, "Must be names with commas between them.")
            return []
        return names

    def _one_of(self, parameter: str, name: str, known: frozenset[str]) -> bool:
        if name in known:
            return True
        near = get_close_matches(name, sorted(known), n=1, cutoff=_SUGGESTION_CUTOFF)
        hint = f"; did you mean {near[0]!r}?" if near else f"; possible: {', '.join(sorted(known)) or 'none'}."
        self._refuse(parameter, f"There is no {name!r} here{hint}")
        return False

    def _sort(self) -> tuple[Sort, ...]:
        keys: list[Sort] = []
        for name in self._names("sort"):
            bare = name.removeprefix("-")
            if not self._one_of("sort", bare, self._allowed.sorts):
                continue
            if any(key.path == tuple(bare.split(".")) for key in keys):
                self._refuse("sort", f"Names {bare!r} twice.")
                continue
            keys.append(Sort(tuple(bare.split(".")), descending=name.startswith("-")))
        keys = keys or list(self._allowed.default_sort)
        if not any(key.path == (self._allowed.key,) for key in keys):
            # In the last key's direction, so that one index can serve the whole order.
            keys.append(Sort((self._allowed.key,), descending=bool(keys) and keys[-1].descending))
        return tuple(keys)

    def _include(self) -> tuple[str, ...]:
        wanted: set[str] = set()
        for name in self._names("include"):
            if not self._one_of("include", name, self._allowed.includes):
                continue
            parts = name.split(".")
            if len(parts) > self._limits.include_depth_max:
                self._refuse("include", f"{name!r} goes deeper than {self._limits.include_depth_max} levels.")
            wanted |= {".".join(parts[: end + 1]) for end in range(len(parts))}
        return tuple(sorted(wanted))

    def _fields(self) -> tuple[str, ...]:
        names = self._names("fields")
        include = set(self._single.get("include", "").replace(" ", "").split(","))
        for name in names:
            relation = name.rpartition(".")[0]
            if self._one_of("fields", name, self._allowed.fields) and relation:
                embedded = any(item == relation or item.startswith(relation + ".") for item in include)
                if not embedded:
                    self._refuse("fields", f"{name!r} needs include={relation}.")
        return tuple(sorted(set(names)))

    # -- pages ----------------------------------------------------------------------------------------------------

    def _choice(self, parameter: str, choices: tuple[str, ...]) -> Any:
        text = self._single.get(parameter, choices[0])
        if text in choices:
            return text
        self._refuse(parameter, f"Must be one of: {', '.join(choices)}.")
        return choices[0]

    def _deleted(self) -> Any:
        return self._choice(DELETED_PARAMETER, DELETED_MODES) if self._allowed.deletable else "exclude"

    def _whole_number(self, parameter: str, default: int, maximum: int) -> int:
        text = self._single.get(parameter)
        if text is None:
            return default
        rule = FieldRule(parameter, Kind.INTEGER, nullable=False, minimum=1, maximum=maximum)
        return self._attempt(parameter, lambda: values.parse_value(text, rule)) or default

    def _page(self, plan: QueryPlan, cursors: CursorCodec) -> Page:
        by_offset = self._single.keys() & {"page", "per_page"}
        by_cursor = self._single.keys() & {"limit", "cursor"}
        if by_offset and by_cursor:
            self._refuse(min(by_offset), "Use either page and per_page, or limit and cursor.")
        limits = self._limits
        if by_offset:
            size = self._whole_number("per_page", limits.page_size, limits.page_size_max)
            number = self._whole_number("page", 1, limits.offset_max // size + 1)
            return Page(size, offset=(number - 1) * size)
        size = self._whole_number("limit", limits.page_size, limits.page_size_max)
        token = self._single.get("cursor")
        if token is None:
            return Page(size)
        try:
            return Page(size, cursors.decode(token, plan.fingerprint()))
        except CursorError:
            self._refuse("cursor", "Must be a cursor of this list, with the same filters and sort.")
            return Page(size)


def _pattern(operator: str, text: str) -> str:
    if "\x00" in text:
        message = "Must not contain the NUL character."
        raise values.ValueProblemError(message)
    if operator == "icontains":
        return f"%{values.escape_like(text)}%"
    if operator == "startswith":
        return f"{values.escape_like(text)}%"
    if (len(text) - len(text.rstrip("\\"))) % 2:
        message = "Must not end with a backslash, which escapes the next character."
        raise values.ValueProblemError(message)
    return text
