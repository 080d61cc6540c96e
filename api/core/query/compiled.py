"""Statements ready for the driver, built once for each shape of a plan and kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sqlalchemy import Select, Update

_PLACEHOLDER = re.compile(r"%\(([^)]+)\)s")
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed


class Shaped(Protocol):
    """A plan: `shape` is all of it that its statement depends on."""

    @property
    def shape(self) -> Hashable:
        """What the statement depends on."""

    @property
    def statements(self) -> dict[Any, Statement]:
        """What has been built for this very plan, by who has built it: plans are kept, too."""


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
        self._build = build
        self._lock, self._counting = Lock(), Lock()
        self._waiting = 0
        self._latest: dict[_ByShape, Statement] = {}
        self._cached: Callable[[_ByShape], Statement] = lru_cache(size)(self._built)

    def statement(self, plan: P) -> Statement:
        """The statement for `plan`'s shape."""
        built = plan.statements.get(self)
        if built is None:
            built = plan.statements[self] = self._cached(_ByShape(plan))
        return built

    def _built(self, key: _ByShape) -> Statement:
        with self._counting:
            self._waiting += 1
        try:
            with self._lock:
                # Another thread may have built it while this one waited.
                if key not in self._latest:
                    self._latest[key] = self._build(cast("P", key.plan))
                return self._latest[key]
        finally:
            with self._counting:
                self._waiting -= 1
                if not self._waiting:
                    self._latest.clear()


def compiled(query: Select[Any] | Update) -> str:
    """The text, in which the parameters of the plan are left; what is the same for all plans of a shape is in it."""
    result = query.compile(dialect=_DIALECT)
    values = {name: value for name, value in result.params.items() if value is not None}

    def written(found: re.Match[str]) -> str:
        value = values.get(found[1])
        return found[0] if value is None else _literal(value)

    return _PLACEHOLDER.sub(written, str(result))


def _literal(value: str | float) -> str:
    """`value`, which is a constant of ours and nothing that a client has sent, as PostgreSQL writes it.

    Raises:
        TypeError: for any other type.
    """
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is to be a parameter of the plan")
    escaped = value.replace("'", "''").replace("%", "%%")
    # The same whatever standard_conforming_strings is.
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in escaped else f"'{escaped}'"


class _ByShape:
    """A plan as a cache key: equal where the statement would be equal."""

    __slots__ = ("plan",)

    def __init__(self, plan: Shaped) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return hash(self.plan.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByShape) and self.plan.shape == other.plan.shape
