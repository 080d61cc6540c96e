"""What is wrong with a query string, collected so that a client learns all of it at once."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from api.core.errors import MalformedRequestError, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_SIMILARITY = 0.5
_LONGEST_NAME = 100


class ProblemError(ValueError):
    """A text of the client is wrong; the message is for the client and says what would be right."""


class Problems:
    """The mistakes of one request."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, parameter: str, detail: str) -> None:
        """Note a mistake in `parameter`."""
        name = shortened(parameter).encode(errors="replace").decode()
        self._violations.append(Violation(detail, parameter=name))

    def attempt(self, parameter: str, parse: Callable[[], T], *, about: str = "") -> T | None:
        """What `parse` returns, or None after noting the `ProblemError` that it raises.

        `about` names the part of a long parameter that `parse` reads.
        """
        try:
            return parse()
        except ProblemError as error:
            self.add(parameter, f"{about}: {error}" if about else str(error))
            return None

    def raise_any(self) -> None:
        """Refuse the request if anything is wrong with it.

        Raises:
            MalformedRequestError: listing every mistake.
        """
        if self._violations:
            raise MalformedRequestError(violations=self._violations)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` was probably meant to be, if any is like it."""
    if len(name) > _LONGEST_NAME:
        return None
    return next(iter(get_close_matches(name, [*known], n=1, cutoff=_SIMILARITY)), None)


def not_there(what: str, name: str, known: Iterable[str]) -> str:
    """That there is no `what` of this name, with the nearest one or else all that there are."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else f"possible: {', '.join(names) or 'none'}."
    return f"There is no {what} {shortened(name)!r}; {hint}"


def shortened(name: str) -> str:
    """`name` as a message repeats it: no longer than a name could be."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
