"""What may be asked of a resource: plain data that the parser checks a query string against."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.core.query.plan import Sort


class Kind(Enum):
    """How a value is written in a query string, and which operators suit it."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"
    UUID = "uuid"
    JSON = "json"


_ORDERED = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "not_in", "between")
_TEXT = ("eq", "ne", "in", "not_in", "like", "ilike", "icontains", "startswith")
OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    Kind.INTEGER: _ORDERED,
    Kind.DECIMAL: _ORDERED,
    Kind.NUMBER: _ORDERED,
    Kind.TIMESTAMP: _ORDERED,
    Kind.DATE: _ORDERED,
    Kind.TEXT: _TEXT,
    Kind.BOOLEAN: ("eq", "ne"),
    Kind.UUID: ("eq", "ne", "in", "not_in"),
    Kind.JSON: ("contains", "has_key"),
}
JSON_PATH_OPERATORS = (*_ORDERED, "like", "ilike", "icontains", "startswith", "is_null", "contains", "has_key")


@dataclass(frozen=True, slots=True)
class FieldRule:
    """A field that may be compared. `minimum` and `maximum` are what its column can hold.

    `many` are the relations up to the last one on the way to the field of which a row has many rows.
    """

    name: str
    kind: Kind
    nullable: bool
    minimum: int | None = None
    maximum: int | None = None
    many: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """The field's name, and before it the relations that lead to it."""
        return tuple(self.name.split("."))

    @property
    def operators(self) -> tuple[str, ...]:
        """Operators that suit the field."""
        return (*OPERATORS[self.kind], "is_null") if self.nullable else OPERATORS[self.kind]

    @property
    def conditions(self) -> tuple[str, ...]:
        """The parameters that filter by the field; `eq` needs not be written."""
        bare = (self.name,) if "eq" in self.operators else ()
        return (*bare, *(f"{self.name}__{operator}" for operator in self.operators))


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """How much one request may ask for; each is a setting. Equal to itself alone, as a part of caches' keys."""

    page_size: int = 20
    page_size_max: int = 100
    offset_max: int = 10_000
    conditions_max: int = 20
    depth_max: int = 4
    list_max: int = 100
    include_depth_max: int = 3
    groups: int = 100
    groups_max: int = 1000
    group_keys_max: int = 5
    results_max: int = 10
    bulk_items_max: int = 1000
    affected_default: int = 100
    affected_max: int = 10_000


@dataclass(frozen=True, eq=False)
class AllowList:
    """Everything that a query string may name for one resource; equal to itself alone, as a key of caches."""

    resource: str
    filters: Mapping[str, FieldRule]
    sorts: frozenset[str]
    fields: frozenset[str]
    includes: frozenset[str]
    default_sort: tuple[Sort, ...]
    key: str = "id"
    deletable: bool = False
    limits: Limits = Limits()
    documents: frozenset[str] = frozenset()
    """Those of `fields` that are JSON documents, of which parts can be shown."""
    sort_documents: frozenset[str] = frozenset()
    """JSON documents that can be sorted by what they have at a path."""
    comparable: Mapping[str, FieldRule] = field(default_factory=dict)
    """Fields that rows can be grouped by, and results be made of."""
    searched: tuple[str, ...] = ()
    """The fields that full-text search looks into; none where there is no such search."""

    @cached_property
    def filter_documents(self) -> frozenset[str]:
        """JSON documents that can be filtered by what they have at a path."""
        return frozenset(name for name, rule in self.filters.items() if rule.kind is Kind.JSON)

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Names of all possible conditions, for telling which one a wrong name is like."""
        return tuple(name for rule in self.filters.values() for name in rule.conditions)
