"""What of all tables a caller may see: rows, and fields. Every read is made within it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from api.core.access.grants import ALL, NONE, Grant

if TYPE_CHECKING:
    from collections.abc import Mapping


class Visibility:
    """The rows and fields of each model that are in sight; equal to another one with the same content.

    Of a model that it does not know, no row is in sight.
    """

    __slots__ = ("_content", "_hash", "_hidden", "_otherwise", "_rows")

    def __init__(
        self, rows: Mapping[type, Grant], hidden: Mapping[type, frozenset[str]], otherwise: Grant = NONE
    ) -> None:
        self._rows = dict(rows)
        self._hidden = {model: names for model, names in hidden.items() if names}
        self._otherwise = otherwise
        self._content = (frozenset(self._rows.items()), frozenset(self._hidden.items()), otherwise)
        self._hash = hash(self._content)

    def rows_of(self, model: type) -> Grant:
        """The rows of `model` that are in sight."""
        return self._rows.get(model, self._otherwise)

    def hidden_of(self, model: type) -> frozenset[str]:
        """The public names of the fields of `model` that are out of sight."""
        return self._hidden.get(model, frozenset())

    def narrowed(self, model: type, grant: Grant) -> Visibility:
        """The same, but of `model` only what `grant` opens, too."""
        seen = self.rows_of(model)
        both = seen & grant
        return self if both == seen else Visibility({**self._rows, model: both}, self._hidden, self._otherwise)

    @property
    def whole(self) -> frozenset[type]:
        """The models of which every row is in sight."""
        return frozenset(model for model, grant in self._rows.items() if grant.everything)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Visibility) and self._content == other._content)


UNRESTRICTED = Visibility({}, {}, otherwise=ALL)

_CURRENT: ContextVar[Visibility] = ContextVar("visibility", default=UNRESTRICTED)


def current_visibility() -> Visibility:
    """What may be seen now; outside of requests it is everything."""
    return _CURRENT.get()


def set_visibility(visibility: Visibility) -> None:
    """Let reads be made within `visibility` from now on, in this thread or task."""
    _CURRENT.set(visibility)
