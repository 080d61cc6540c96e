"""What a read asks for, as plain data.

A plan has a shape (which fields, operators, sorts and embeds: hashable, the key of the statement cache) and values (bound
as parameters, never part of the statement).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

Count = Literal["none", "exact", "estimated"]
Deleted = Literal["exclude", "include", "only"]


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: the field at `path`, compared by `operator` with `values`.

    `json_path` goes on into a JSON document, and then `values` are JSON texts. `values` holds one value for most operators,
    two for `between`, any number for `in` and `not_in`, and every reading of an ambiguous JSON scalar (`5` and `"5"`) for
    equality in a document.
    """

    path: tuple[str, ...]
    operator: str
    values: tuple[Any, ...]
    json_path: tuple[str, ...] = ()

    @property
    def shape(self) -> Hashable:
        """What the statement depends on; the length of a list is not part of it."""
        if self.operator == "is_null":
            return (self.path, self.operator, bool(self.json_path), self.values)
        count = 1 if self.operator in {"in", "not_in"} else len(self.values)
        return (self.path, self.operator, bool(self.json_path), count)

    def binds(self) -> Iterator[Any]:
        """The values to bind, in the order in which the statement names them."""
        if self.json_path and self.operator in {"eq", "ne", "contains"}:
            yield from (_document(self.json_path, value) for value in self.values)
            return
        if self.json_path:
            yield list(self.json_path)
        if self.operator in {"in", "not_in"}:
            yield list(self.values)
        elif self.operator != "is_null":
            yield from self.values


def _document(path: tuple[str, ...], value: str) -> str:
    """The JSON document that has the JSON text `value` at `path` and nothing else."""
    for key in reversed(path):
        value = f"{{{json.dumps(key)}:{value}}}"
    return value


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by `and` or `or`, or denied as a whole by `not`."""

    kind: Literal["and", "or", "not"]
    members: tuple[Condition, ...]

    @property
    def shape(self) -> Hashable:
        """The kind and the members' shapes."""
        return (self.kind, tuple(member.shape for member in self.members))

    def binds(self) -> Iterator[Any]:
        """The members' values, in their order."""
        for member in self.members:
            yield from member.binds()


Condition = Filter | Group


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort key. Ascending puts NULLs last, descending first, as PostgreSQL does."""

    path: tuple[str, ...]
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where a keyset page starts: behind the row with these sort keys (as text), or before it when `backward`."""

    keys: tuple[str | None, ...]
    backward: bool = False

    @property
    def shape(self) -> Hashable:
        """Direction, and which keys are NULL."""
        return (self.backward, tuple(key is None for key in self.keys))


@dataclass(frozen=True, slots=True)
class Page:
    """At most `size` rows: from `position` on in a keyset page, behind `offset` rows in an offset page."""

    size: int
    position: Position | None = None
    offset: int | None = None

    @property
    def shape(self) -> Hashable:
        """Kind of page; its size and offset are values."""
        return (self.position.shape if self.position else None, self.offset is not None)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A whole read. `fields` empty means all public fields; `page` None means the one row whose key is bound as `key`."""

    where: tuple[Condition, ...] = ()
    sort: tuple[Sort, ...] = ()
    page: Page | None = None
    fields: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    count: Count = "none"
    deleted: Deleted = "exclude"
    shape: Hashable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work the shape out once."""
        shape = (
            tuple(condition.shape for condition in self.where),
            self.sort,
            self.page.shape if self.page else None,
            self.fields,
            self.include,
            self.count,
            self.deleted,
        )
        object.__setattr__(self, "shape", shape)

    def binds(self) -> dict[str, Any]:
        """Parameters of the statement that this plan's shape makes."""
        values: dict[str, Any] = {}
        for number, value in enumerate(value for condition in self.where for value in condition.binds()):
            values[f"p{number}"] = value
        if self.page is not None:
            values["size"] = self.page.size
            if self.page.offset is not None:
                values["skip"] = self.page.offset
            if self.page.position is not None:
                values |= {f"k{i}": key for i, key in enumerate(self.page.position.keys) if key is not None}
        return values

    def fingerprint(self) -> bytes:
        """Digest of what a cursor is bound to: conditions with their values, sort and the view on deleted rows."""
        return hashlib.sha256(repr((self.where, self.sort, self.deleted)).encode()).digest()[:12]
