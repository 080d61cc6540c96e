"""Parameters of a query string that steer a view, told apart from what others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.core.query.problems import Problems
from api.core.query.values import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Steering:
    """The parameters of these names, each of which may be given once; all others are in `others`, in their order."""

    def __init__(self, pairs: Iterable[tuple[str, str]], known: Sequence[str]) -> None:
        self.known = tuple(known)
        self.problems = Problems()
        self.others: list[tuple[str, str]] = []
        self._given: dict[str, str] = {}
        for name, text in pairs:
            if name not in known:
                self.others.append((name, text))
            elif name in self._given:
                self.problems.add(name, "Must be given once only.")
            else:
                self._given[name] = text

    def text(self, name: str) -> str | None:
        """What is given, or None."""
        return self._given.get(name)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """The given one of `choices`; the first where none is given."""
        text = self._given.get(name, choices[0])
        if text not in choices:
            self.problems.add(name, f"Must be one of: {', '.join(choices)}.")
            return choices[0]
        return text

    def flag(self, name: str, *, default: bool) -> bool:
        """`true` or `false`."""
        text = self._given.get(name)
        if text is None:
            return default
        value = self.problems.attempt(name, lambda: parse_boolean(text))
        return default if value is None else value

    def raise_any(self) -> None:
        """Refuse the request if any of these is wrong.

        Raises:
            MalformedRequestError: listing every mistake.
        """
        self.problems.raise_any()
