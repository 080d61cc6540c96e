"""What an aggregation asks for, as plain data, with its shape and values apart as in any plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from api.core.access.visibility import Visibility, current_visibility
from api.core.query.plan import caller_id

if TYPE_CHECKING:
    from collections.abc import Hashable

    from api.core.query.compiled import Statement
    from api.core.query.plan import Condition, Deleted

Function = Literal["count", "sum", "avg", "min", "max", "count_distinct"]


@dataclass(frozen=True, slots=True)
class Operand:
    """What rows are grouped by, or a result is made of: the field at `path`.

    `json_path` goes on into a JSON document; `bucket` is the unit that a time is cut down to; `many` are the relations
    up to the last one on the way of which a row has many rows.
    """

    path: tuple[str, ...]
    json_path: tuple[str, ...] = ()
    bucket: str = ""
    many: str = ""

    @property
    def shape(self) -> Hashable:
        """What the statement depends on; the keys of a path into a document are values."""
        return (self.path, bool(self.json_path), self.bucket)


@dataclass(frozen=True, slots=True)
class Key:
    """What rows are grouped by, under the name that the answer shows it with."""

    name: str
    operand: Operand


@dataclass(frozen=True, slots=True)
class Result:
    """What is worked out for each group; without an operand its rows are counted."""

    name: str
    function: Function
    operand: Operand | None = None

    @property
    def shape(self) -> Hashable:
        """Everything but the name."""
        return (self.function, self.operand.shape if self.operand else None)


@dataclass(frozen=True, slots=True)
class Order:
    """One sort key: `g0` is the first of the keys, `a0` the first of the results. NULLs are the largest."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class AggregatePlan:
    """A whole aggregation. The paths in `having` are names of columns, as in `Order`."""

    resource: str = ""
    keys: tuple[Key, ...] = ()
    results: tuple[Result, ...] = ()
    where: tuple[Condition, ...] = ()
    having: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    size: int = 1
    offset: int = 0
    deleted: Deleted = "exclude"
    visibility: Visibility = field(default_factory=current_visibility, repr=False)
    caller_id: int | None = field(default_factory=caller_id, repr=False)
    shape: Hashable = field(init=False, repr=False, compare=False)
    statements: dict[Any, Statement] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work the shape out once."""
        shape = (
            tuple(key.operand.shape for key in self.keys),
            tuple(result.shape for result in self.results),
            tuple(condition.shape for condition in self.where),
            tuple(condition.shape for condition in self.having),
            self.order,
            self.deleted,
            self.visibility,
        )
        object.__setattr__(self, "shape", shape)

    @property
    def _named(self) -> list[Key | Result]:
        return [*self.keys, *self.results]

    @property
    def operands(self) -> list[Operand]:
        """Operands of the keys and then of the results."""
        return [item.operand for item in self._named if item.operand is not None]

    def binds(self) -> dict[str, Any]:
        """Parameters of the statement that this plan's shape makes.

        `nN` is a name and a colon, as they stand in the answer, and `jN` a path into a document; keys come before
        results.
        """
        bound: dict[str, Any] = {"size": self.size, "skip": self.offset}
        if self.caller_id is not None:
            bound["caller"] = self.caller_id
        for letter, conditions in (("p", self.where), ("h", self.having)):
            found = (value for condition in conditions for value in condition.binds())
            bound |= {f"{letter}{number}": value for number, value in enumerate(found)}
        for number, item in enumerate(self._named):
            bound[f"n{number}"] = f"{json.dumps(item.name, ensure_ascii=False)}:"
            if item.operand is not None and item.operand.json_path:
                bound[f"j{number}"] = list(item.operand.json_path)
        return bound
