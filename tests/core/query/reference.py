"""What filters mean, in plain Python over dictionaries: the text of each, and whether it holds for a row."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import strategies as st

from api.core.query.allowlist import JSON_PATH_OPERATORS, OPERATORS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """A filter as a client writes it, and the rows that it means."""

    name: str
    text: str
    holds: Callable[[Row], bool]
    is_list: bool = False

    @property
    def member(self) -> str:
        """The filter as it stands inside a group."""
        if self.text.startswith("(") and self.name in {"or", "and", "not"}:
            return f"{self.name}={self.text}"
        return f"{self.name}=({self.text})" if self.is_list else f"{self.name}={quoted(self.text)}"

    def __repr__(self) -> str:
        return f"{self.name}={self.text}"


def quoted(text: str) -> str:
    """`text` in the grammar's quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# -- values that meet one another often enough ------------------------------------------------------------------------

_TOKENS = [UUID(int=number) for number in (0, 1, 2**128 - 1)]
_MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
    datetime(2026, 1, 31, 12, 30, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
_WORDS = st.text("abA%_\\\n☃,()\"'", max_size=3) | st.just("a" * 50)
POOLS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: st.integers(-2, 2) | st.sampled_from([-(2**15), 2**15 - 1]),
    Kind.DECIMAL: st.sampled_from([Decimal(text) for text in ("-0.01", "0.00", "0.10", "1.00", "99999999.99")]),
    Kind.NUMBER: st.sampled_from([-1.5, 0.0, 0.25, 2.0, 1e10]),
    Kind.TEXT: _WORDS,
    Kind.BOOLEAN: st.booleans(),
    Kind.TIMESTAMP: st.sampled_from(_MOMENTS),
    Kind.DATE: st.sampled_from([date(1, 1, 1), date(2026, 1, 31), date(9999, 12, 31)]),
    Kind.UUID: st.sampled_from(_TOKENS),
}
# What a client may ask for, though no column could hold it.
_OPERANDS_OF = POOLS | {
    Kind.DECIMAL: POOLS[Kind.DECIMAL] | st.sampled_from([Decimal("0.104"), Decimal("0.999"), Decimal(10) ** 20]),
    Kind.TEXT: POOLS[Kind.TEXT] | st.just("a" * 51),
}
KEYS = st.sampled_from(["a", "b", "c d", 'ü"\\{%', "0", "-1", "☃"])
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, -1.5])
    | st.sampled_from(["a", "ab", "b", "1", "0.5", "true", "null"])
)
_INNER = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=5
)
DOCUMENTS = st.dictionaries(KEYS, _INNER, max_size=3)


def written(value: Any) -> str:
    """`value` as a client writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return f"{value:f}" if isinstance(value, float) else str(value)


# -- scalar fields ----------------------------------------------------------------------------------------------------

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: found == wanted,
    "lt": lambda found, wanted: found < wanted,
    "lte": lambda found, wanted: found <= wanted,
    "gt": lambda found, wanted: found > wanted,
    "gte": lambda found, wanted: found >= wanted,
    "like": lambda found, pattern: like(found, pattern),  # noqa: PLW0108 - it is defined further down
    "ilike": lambda found, pattern: like(found.lower(), pattern.lower()),
    "icontains": lambda found, part: part.lower() in found.lower(),
    "startswith": lambda found, start: found.startswith(start),
}


def like(text: str, pattern: str) -> bool:
    """SQL's LIKE."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


@dataclass(frozen=True)
class Field:
    """A field that can be filtered by, and the values of it that a row has: one, or one for each related row."""

    name: str
    kind: Kind
    values: Callable[[Row], Sequence[Any]]


@st.composite
def filters(draw: st.DrawFn, field: Field) -> Condition:
    """A filter by `field` with any of its operators."""
    operator = draw(st.sampled_from([*OPERATORS[field.kind], "is_null"]))
    if operator == "is_null":
        wanted = draw(st.booleans())
        return _condition(field, operator, written(wanted), lambda found: found is not None, denied=wanted)
    if operator in {"in", "not_in"}:
        items = draw(st.lists(_OPERANDS_OF[field.kind], min_size=1, max_size=3))
        text = ",".join(quoted(written(item)) for item in items)
        return _condition(field, operator, text, lambda found: found in items, denied=operator == "not_in")
    if operator == "between":
        low, high = draw(_OPERANDS_OF[field.kind]), draw(_OPERANDS_OF[field.kind])
        return _condition(field, operator, f"{written(low)},{written(high)}", lambda found: low <= found <= high)
    wanted = draw(_OPERANDS_OF[field.kind])
    if operator in {"like", "ilike"} and (len(wanted) - len(wanted.rstrip("\\"))) % 2:
        wanted += "\\"
    compare = _COMPARE["eq" if operator == "ne" else operator]
    return _condition(field, operator, written(wanted), lambda found: compare(found, wanted), denied=operator == "ne")


def _condition(
    field: Field, operator: str, text: str, matches: Callable[[Any], bool], *, denied: bool = False
) -> Condition:
    """A condition holds if a value that is there matches; its denial holds wherever it does not."""

    def holds(row: Row) -> bool:
        return any(found is not None and matches(found) for found in field.values(row)) is not denied

    name = field.name if operator == "eq" else f"{field.name}__{operator}"
    return Condition(name, text, holds, is_list=operator in {"in", "not_in", "between"})


# -- documents --------------------------------------------------------------------------------------------------------

MISSING = object()


def at(document: Any, path: Sequence[str]) -> Any:
    """What is in `document` at `path`; an integer is the index of an array, too."""
    for key in path:
        if isinstance(document, dict):
            document = document.get(key, MISSING)
        elif (
            isinstance(document, list) and re.fullmatch(r"-?[0-9]+", key) and -len(document) <= int(key) < len(document)
        ):
            document = document[int(key)]
        else:
            return MISSING
    return document


def kind_of(value: Any) -> str:
    """The JSON type of `value`."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object", list: "array"}
    return kinds.get(type(value), "null")


def same(left: Any, right: Any) -> bool:
    """JSON's equality of scalars, for which true is not 1."""
    return kind_of(left) == kind_of(right) and left == right


def contains(document: Any, part: Any, *, top: bool = True) -> bool:
    """PostgreSQL's `@>`."""
    if isinstance(document, dict) and isinstance(part, dict):
        return all(key in document and contains(document[key], part[key], top=False) for key in part)
    if isinstance(document, list) and isinstance(part, list):
        return all(any(contains(item, wanted, top=False) for item in document) for wanted in part)
    if isinstance(document, list) and top and not isinstance(part, dict):
        return any(same(item, part) for item in document)
    return not isinstance(part, dict | list) and same(document, part)


def has_key(value: Any, key: str) -> bool:
    """PostgreSQL's `?`."""
    return key in value if isinstance(value, dict | list) else value == key and isinstance(value, str)


def readings(text: str) -> list[Any]:
    """What an operand may mean."""
    plain = re.fullmatch(r"true|false|-?[0-9]+(\.[0-9]+)?", text)
    return [json.loads(text), text] if plain else [text]


@st.composite
def document_filters(draw: st.DrawFn, field: Field) -> Condition:
    """A filter by what is in a JSON field, or by the whole of it."""
    path = draw(st.lists(KEYS, max_size=2))
    operator = draw(st.sampled_from(JSON_PATH_OPERATORS if path else ["contains", "has_key", "is_null"]))
    text, matches = draw(_operand(operator))

    def holds(row: Row) -> bool:
        found = at(field.values(row)[0], path)
        is_there = found is not MISSING and found is not None
        if operator == "is_null":
            return is_there is (text == "false")
        return (is_there and matches(found)) is not (operator in {"ne", "not_in"})

    name = ".".join([field.name, *path])
    return Condition(f"{name}__{operator}", text, holds, is_list=operator in {"in", "not_in", "between"})


_OPERANDS = st.sampled_from(["a", "ab", "b", "1", "0.5", "-1.5", "2", "true", "false", "null"])


def _operand(operator: str) -> st.SearchStrategy[tuple[str, Callable[[Any], bool]]]:
    """The text of an operand, and what it matches."""
    if operator == "is_null":
        return st.booleans().map(lambda wanted: (written(wanted), bool))
    if operator == "contains":
        return _INNER.map(lambda part: (json.dumps(part), lambda found: contains(found, part)))
    if operator == "has_key":
        return (KEYS | _OPERANDS).map(lambda key: (key, lambda found: has_key(found, key)))
    if operator in {"in", "not_in"}:
        return st.lists(_OPERANDS, min_size=1, max_size=3).map(_listed)
    if operator == "between":
        return st.tuples(_OPERANDS, _OPERANDS).map(
            lambda ends: (",".join(ends), lambda found: _is_between(found, *ends))
        )
    return _OPERANDS.map(lambda text: (text, lambda found: _compares(operator, found, text)))


def _listed(items: list[str]) -> tuple[str, Callable[[Any], bool]]:
    wanted = [reading for item in items for reading in readings(item)]
    return ",".join(items), lambda found: any(same(found, item) for item in wanted)


def _compares(operator: str, found: Any, text: str) -> bool:
    if operator in {"eq", "ne"}:
        return any(same(found, reading) for reading in readings(text))
    if operator in {"lt", "lte", "gt", "gte"}:
        bound = readings(text)[0]
        return kind_of(found) == kind_of(bound) and _COMPARE[operator](found, bound)
    return kind_of(found) not in {"object", "array"} and _COMPARE[operator](written(found), text)


def _is_between(found: Any, low: str, high: str) -> bool:
    ends: list[Any] = [readings(low)[0], readings(high)[0]]
    if any(kind_of(end) != "number" for end in ends):
        ends = [low, high]
    return kind_of(found) == kind_of(ends[0]) and ends[0] <= found <= ends[1]


# -- groups -----------------------------------------------------------------------------------------------------------


def groups(single: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    """Filters, and `and`, `or` and `not` of them, nested three deep."""
    inner = single
    for _ in range(3):
        inner = single | st.builds(
            _group, st.sampled_from(["and", "or", "not"]), st.lists(inner, min_size=1, max_size=3)
        )
    return inner


def _group(kind: str, members: list[Condition]) -> Condition:
    def holds(row: Row) -> bool:
        found = [member.holds(row) for member in members]
        return any(found) if kind == "or" else all(found) is (kind == "and")

    return Condition(kind, f"({','.join(member.member for member in members)})", holds)
