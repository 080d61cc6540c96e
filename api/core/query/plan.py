"""What a read asks for, as plain data.

A plan has a shape (which fields, operators, sorts and embeds: hashable, the key of the statement cache) and values,
which are bound as parameters and never part of the statement.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from api.core.access.caller import current_caller
from api.core.access.visibility import Visibility, current_visibility

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from api.core.query.compiled import Statement
    from api.core.query.documents import Excerpt


def caller_id() -> int | None:
    """The id of the user who asks."""
    return current_caller().user_id


Count = Literal["none", "exact", "estimated"]
Deleted = Literal["exclude", "include", "only"]
GroupKind = Literal["and", "or", "not"]
SearchKind = Literal["words", "exact", "similar"]
RANK = ("#rank",)
"""The path of the sort key that no client names: how well a row meets the search. No field can have this name."""

_DENIED = {"ne": "eq", "not_in": "in"}
# What PostgreSQL takes as the index of an array, too.
_INDEX = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: the field at `path`, compared by `operator` with `values`.

    `values` holds one value for most operators, two for `between`, any number for `in` and `not_in`. `json_path` goes
    on into a JSON document, and then `values` are JSON texts: for equality every reading of one (`5`, `"5"`).
    """

    path: tuple[str, ...]
    operator: str
    values: tuple[Any, ...]
    json_path: tuple[str, ...] = ()

    @property
    def by_containment(self) -> bool:
        """Whether a document is searched for one that has the value at the path, which an index on it can answer.

        Not where a key may be meant as the index of an array, which containment does not know.
        """
        searched = self.operator in {"eq", "ne", "in", "not_in", "contains"}
        return searched and bool(self.json_path) and not any(_INDEX.fullmatch(key) for key in self.json_path)

    @property
    def denied(self) -> Filter | None:
        """The condition that this one is the opposite of, if it denies one: `ne` denies `eq`."""
        if self.operator == "is_null" and self.values[0]:
            return replace(self, values=(False,))
        operator = _DENIED.get(self.operator)
        return replace(self, operator=operator) if operator else None

    @property
    def paths(self) -> Iterator[tuple[str, ...]]:
        """The fields that are compared."""
        yield self.path

    @property
    def shape(self) -> Hashable:
        """What the statement depends on; the length of a list is not part of it."""
        place = (self.path, self.operator, bool(self.json_path), self.by_containment)
        if self.operator == "is_null":
            return (*place, self.values)
        return (*place, 1 if self.operator in {"in", "not_in"} else len(self.values))

    def binds(self) -> Iterator[Any]:
        """The values to bind, in the order in which the statement names them."""
        values = self.values
        if self.by_containment:
            values = tuple(_document(self.json_path, value) for value in values)
        elif self.json_path:
            yield list(self.json_path)
        if self.operator in {"in", "not_in"}:
            yield list(values)
        elif self.operator != "is_null":
            yield from values


def _document(path: tuple[str, ...], value: str) -> str:
    """The JSON document that has the JSON text `value` at `path` and nothing else."""
    for key in reversed(path):
        value = f"{{{json.dumps(key)}:{value}}}"
    return value


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by `and` or `or`, or denied as a whole by `not`."""

    kind: GroupKind
    members: tuple[Condition, ...]

    @property
    def paths(self) -> Iterator[tuple[str, ...]]:
        """The fields that are compared."""
        for member in self.members:
            yield from member.paths

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
    """One sort key. Ascending puts NULLs last, descending first, as PostgreSQL does.

    `json_path` goes on into a JSON document.
    """

    path: tuple[str, ...]
    descending: bool = False
    json_path: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> Hashable:
        """What the statement depends on; the keys of a path into a document are values."""
        return (self.path, self.descending, bool(self.json_path))


@dataclass(frozen=True, slots=True)
class Position:
    """Where a keyset page starts: behind the row with these sort keys (as text), or before it when `backward`.

    Without keys it is the start of the list, or its end when `backward`.
    """

    keys: tuple[str | None, ...] = ()
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

    @property
    def backward(self) -> bool:
        """Whether the rows before the position are wanted."""
        return self.position is not None and self.position.backward


@dataclass(frozen=True, slots=True)
class TextSearch:
    """What is searched for.

    `words` forgives typing errors, where few rows have the words themselves; `exact` does not, as it fits no query with
    quotes or exclusions; `similar` compares one field with the whole of the text.
    """

    kind: SearchKind
    text: str
    highlight: bool = field(default=False, repr=False)

    @property
    def shape(self) -> Hashable:
        """What the statement depends on."""
        return (self.kind, self.highlight)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A whole read.

    `fields` empty means all public fields; of those of them that are documents, `excerpts` tell the parts to show.
    `page` None means the one row whose key is bound as `key`, and whose JSON is left out where its version is one
    of `known`. It is made within what its maker may see: nothing else is read, whatever is asked for.
    """

    where: tuple[Condition, ...] = ()
    sort: tuple[Sort, ...] = ()
    page: Page | None = None
    fields: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    count: Count = "none"
    deleted: Deleted = "exclude"
    resource: str = ""
    excerpts: tuple[Excerpt, ...] = ()
    known: tuple[int, ...] = ()
    search: TextSearch | None = None
    visibility: Visibility = field(default_factory=current_visibility, repr=False)
    caller_id: int | None = field(default_factory=caller_id, repr=False)
    shape: Hashable = field(init=False, repr=False, compare=False)
    statements: dict[Any, Statement] = field(default_factory=dict, init=False, repr=False, compare=False)
    binds: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    """Parameters of the statement that this plan's shape makes."""
    _fingerprint: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work the shape and the parameters out once."""
        shape = (
            tuple(condition.shape for condition in self.where),
            tuple(key.shape for key in self.sort),
            self.page.shape if self.page else None,
            self.fields,
            tuple(excerpt.shape for excerpt in self.excerpts),
            self.include,
            self.count,
            self.deleted,
            bool(self.known),
            self.search.shape if self.search else None,
            self.visibility,
        )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "binds", self._binds())

    def at(self, position: Position | None) -> QueryPlan:
        """The same plan, its page starting at `position`."""
        return self if self.page is None else replace(self, page=replace(self.page, position=position))

    def _binds(self) -> dict[str, Any]:
        values: dict[str, Any] = {} if self.caller_id is None else {"caller": self.caller_id}
        for number, value in enumerate(value for condition in self.where for value in condition.binds()):
            values[f"p{number}"] = value
        values |= {f"s{number}": list(key.json_path) for number, key in enumerate(self.sort) if key.json_path}
        picked = (key for excerpt in self.excerpts for key in excerpt.binds())
        values |= {f"f{number}": key for number, key in enumerate(picked)}
        if self.known:
            values["known"] = list(self.known)
        if self.search is not None:
            values["q"] = self.search.text
        if self.page is not None:
            values["size"] = self.page.size
            if self.page.offset is not None:
                values["skip"] = self.page.offset
            if self.page.position is not None:
                values |= {f"k{i}": key for i, key in enumerate(self.page.position.keys) if key is not None}
        return values

    def fingerprint(self) -> bytes:
        """Digest of what a cursor is bound to: resource, conditions and their values, search, sort, deleted or not."""
        if self._fingerprint:
            return self._fingerprint
        bound_to: tuple[Any, ...] = (self.resource, self.where, self.sort, self.deleted)
        # Only where there are any, so that cursors that were handed out before there were such paths stay valid.
        inside = tuple(key.json_path for key in self.sort)
        bound_to += (inside,) if any(inside) else ()
        bound_to += (self.search,) if self.search else ()
        object.__setattr__(self, "_fingerprint", hashlib.sha256(repr(bound_to).encode()).digest()[:12])
        return self._fingerprint
