"""Statements ready for the driver, built once for each shape of a plan and kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from psycopg2.extensions import adapt
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sqlalchemy import Select

_PLACEHOLDER = re.compile(r"%\(([^)]+)\)s")
_PLAIN = re.compile(r"[ -\[\]-~]*")
"""What is written the same whatever a connection's encoding is, and its way with backslashes."""
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed


class Shaped(Protocol):
    """A plan: `shape` is all of it that its statement depends on."""

    @property
    def shape(self) -> Hashable:
        """What the statement depends on."""


P = TypeVar("P", bound=Shaped)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement ready for the driver, but for the plan's parameters.

    `counted` is the query whose rows are to be estimated, with the plan's parameters; None where nothing is.
    """

    text: str
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


def compiled(query: Select[Any]) -> str:
    """The text, in which the parameters of the plan are left; what is the same for all plans of a shape is in it."""
    result = query.compile(dialect=_DIALECT)
    values = {name: value for name, value in result.params.items() if value is not None}

    def written(found: re.Match[str]) -> str:
        value = values.get(found[1])
        return found[0] if value is None else _literal(value)

    return _PLACEHOLDER.sub(written, str(result))


def _literal(value: str | float) -> str:
    """`value`, which is one of ours, as the driver would write it.

    Raises:
        TypeError: for what would need a connection to be written.
    """
    if not isinstance(value, str | int | float) or (isinstance(value, str) and not _PLAIN.fullmatch(value)):
        raise TypeError(f"{value!r} is to be a parameter of the plan")
    quoted: bytes = adapt(value).getquoted()
    return quoted.decode().replace("%", "%%")


class _ByShape:
    """A plan as a cache key: equal where the statement would be equal."""

    __slots__ = ("plan",)

    def __init__(self, plan: Shaped) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return hash(self.plan.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByShape) and self.plan.shape == other.plan.shape
