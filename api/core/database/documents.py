"""JSON documents in Python: a change in place, however deep inside, is seen and saved."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.mutable import MutableDict

from api.core.json_text import comparable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DICT_CHANGES = ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "update")
_LIST_CHANGES = (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear"),
    *("extend", "insert", "pop", "remove", "reverse", "sort"),
)


def plain(value: Any) -> Any:
    """`value` with ordinary dictionaries and lists in it, which belong to no row."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _reports(base: type, names: Iterable[str]) -> Callable[[type], type]:
    """Let these methods of `base` tell the document that it has changed."""

    def decorate(container: type) -> type:
        for name in names:
            setattr(container, name, _reporting(getattr(base, name)))
        return container

    return decorate


def _reporting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        self.adopt()
        self.changed()
        return result

    return method


class _Inside:
    """A container inside of a document."""

    owner: Any = None

    def changed(self) -> None:
        """Tell whoever contains this."""
        if self.owner is not None:
            self.owner.changed()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are ordinary containers."""
        return plain, (plain(self),)


@_reports(dict, _DICT_CHANGES)
class _Dict(_Inside, dict[str, Any]):
    """An object inside of a document."""

    def adopt(self) -> None:
        """Follow the changes of everything inside."""
        _adopt(self, self.items(), super().__setitem__)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As `dict.setdefault`."""
        if key not in self:
            self[key] = default
        return self[key]


@_reports(list, _LIST_CHANGES)
class _List(_Inside, list[Any]):
    """An array inside of a document."""

    def adopt(self) -> None:
        """Follow the changes of everything inside."""
        _adopt(self, enumerate(self), super().__setitem__)


@_reports(dict, _DICT_CHANGES)
class Document(MutableDict[str, Any]):
    """A whole document, the value of a column."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt()

    def __eq__(self, other: object) -> bool:
        """Whether both are the same JSON: unlike in Python, `1` is not `true` there, nor `1.0`."""
        return isinstance(other, dict) and dict.__eq__(self, other) and comparable(self) == comparable(other)

    def __ne__(self, other: object) -> bool:
        """The opposite of equal; a dictionary has a method of its own for it."""
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # as dictionaries have it

    @classmethod
    def coerce(cls, key: str, value: Any) -> Any:
        """Make a document of a dictionary that is set on a row."""
        return super().coerce(key, value if isinstance(value, cls) else plain(value))

    def adopt(self) -> None:
        """Follow the changes of everything inside."""
        _adopt(self, self.items(), super(MutableDict, self).__setitem__)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As `dict.setdefault`."""
        if key not in self:
            self[key] = default
        return self[key]


def _adopt(owner: Any, places: Iterable[tuple[Any, Any]], put: Callable[[Any, Any], None]) -> None:
    for place, value in [*places]:
        if isinstance(value, dict | list) and getattr(value, "owner", None) is not owner:
            # What is inside of another document already stays there; here is a copy of it.
            inside: Any = _Dict(plain(value)) if isinstance(value, dict) else _List(plain(value))
            inside.owner = owner
            inside.adopt()
            put(place, inside)
