"""Query parameters that steer a read, told apart from its filters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.query import values
from api.core.query.allowlist import FieldRule, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from api.core.query.allowlist import AllowList
    from api.core.query.problems import Problems

DELETED_PARAMETER = "deleted"
DELETED_MODES = ("exclude", "include", "only")


class Parameters:
    """The parameters of one request. A filter may be repeated, the others may not."""

    def __init__(
        self, pairs: Iterable[tuple[str, str]], allowed: AllowList, problems: Problems, known: Sequence[str]
    ) -> None:
        """`known` are the names that steer; all others are filters."""
        self._allowed = allowed
        self._limits = allowed.limits
        self._problems = problems
        self.known = (*known, DELETED_PARAMETER) if allowed.deletable else (*known,)
        self.filters: list[tuple[str, str]] = []
        self._steering: dict[str, str] = {}
        for name, text in pairs:
            self._sort_out(name, text)

    def text(self, parameter: str) -> str | None:
        """What is given for `parameter`."""
        return self._steering.get(parameter)

    def _sort_out(self, name: str, text: str) -> None:
        if not self._problems.attempt(name, lambda: values.is_storable(name) and values.is_storable(text)):
            return
        if name not in self.known:
            self.filters.append((name, text))
        elif name in self._steering:
            self._problems.add(name, "Must be given once only.")
        else:
            self._steering[name] = text

    def deleted(self) -> Any:
        """Which rows to see, in a resource whose rows are marked as deleted."""
        return self.choice(DELETED_PARAMETER, DELETED_MODES) if self._allowed.deletable else DELETED_MODES[0]

    def choice(self, parameter: str, choices: tuple[str, ...]) -> Any:
        """The given one of `choices`, by default the first."""
        text = self._steering.get(parameter, choices[0])
        if text not in choices:
            self._problems.add(parameter, f"Must be one of: {', '.join(choices)}.")
            return choices[0]
        return text

    def names(self, parameter: str) -> list[str]:
        """The names in a comma list; none where it is not given, or is wrong."""
        text = self._steering.get(parameter)
        if text is None:
            return []
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            self._problems.add(parameter, "Must be names with commas between them.")
            return []
        if len(names) > self._limits.list_max:
            self._problems.add(parameter, f"Must not list more than {self._limits.list_max} names.")
            return []
        return names

    def whole_number(self, parameter: str, default: int, maximum: int, minimum: int = 1) -> int:
        """The given number from `minimum` to `maximum`; the default where it is not given, or is wrong."""
        text = self._steering.get(parameter)
        if text is None:
            return default
        rule = FieldRule(parameter, Kind.INTEGER, nullable=False, minimum=minimum, maximum=maximum)
        number = self._problems.attempt(parameter, lambda: values.parse_value(text, rule))
        return default if number is None else number
