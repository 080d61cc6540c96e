"""Statements ready for the driver, built once for each shape of a plan and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sqlalchemy import Select

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed


class Shaped(Protocol):
    """A plan: `shape` is all of it that its statement depends on."""

    @property
    def shape(self) -> Hashable:
        """What the statement depends on."""


P = TypeVar("P", bound=Shaped)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement ready for the driver: its text, and the parameters that do not come from the plan.

    `counted` is the query whose rows are to be estimated, with the plan's parameters; None where nothing is.
    """

    text: str
    constants: dict[str, Any]
    counted: str | None = None


class ShapeCache(Generic[P]):
    """The statements that `build` has made, at most `size` of them; the least recently used go first.

    Threads share it: each shape is built once.
    """

    def __init__(self, build: Callable[[P], Statement], size: int) -> None:
        self._lock = Lock()
        self._cached: Callable[[_ByShape], Statement] = lru_cache(size)(lambda key: build(cast("P", key.plan)))

    def statement(self, plan: P) -> Statement:
        """The statement for `plan`'s shape."""
        with self._lock:
            return self._cached(_ByShape(plan))


def compiled(query: Select[Any]) -> tuple[str, dict[str, Any]]:
    """Text, and the parameters that have a value: those of the plan have none yet."""
    result = query.compile(dialect=_DIALECT)
    return str(result), {name: value for name, value in result.params.items() if value is not None}


class _ByShape:
    """A plan as a cache key: equal where the statement would be equal."""

    __slots__ = ("plan",)

    def __init__(self, plan: Shaped) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return hash(self.plan.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByShape) and self.plan.shape == other.plan.shape
