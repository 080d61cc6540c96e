"""JSON as it is taken from outside: exactly what was sent, or refused with what is wrong and where.

RFC 8259 leaves open what a key that is given twice means, how large a number may be and how deep a text may go; readers
differ, and what one of them checks another may not see. Here it is an error.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from json.decoder import JSONDecoder
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = tuple[str | int, ...]

DIGITS_MAX = 40
"""Of a number, without its exponent. More than any column has; and a text that is all digits takes no time."""
NESTING_MAX = 500
"""Levels that Python can follow by recursion, whatever the text."""

_TWICE = "This key is given more than once."
_LONG_NUMBER = f"Must be a number of at most {DIGITS_MAX} digits."
_FAR_NUMBER = "Must be 0, or a number between 1e-307 and 1e308 or its negative."


class JSONSyntaxError(ValueError):
    """The text is no JSON; the message says what is wrong where."""

    def __init__(self, error: orjson.JSONDecodeError) -> None:
        super().__init__(error.msg)
        self.line, self.column = error.lineno, error.colno


class JSONContentError(ValueError):
    """The text is JSON, but not to be taken; the message says why, `path` leads to the place."""

    def __init__(self, detail: str, path: Path = ()) -> None:
        super().__init__(detail)
        self.path = path


class _RefusedError(Exception):
    """What the text holds is refused; where, is found out in a second reading."""


class _Refused:
    """Stands in a second reading for what is refused: the value itself, or the member `key` of it."""

    def __init__(self, detail: str, key: str | None = None) -> None:
        self.detail = detail
        self.path: Path = () if key is None else (key,)


def loads(text: bytes) -> Any:
    """The value that `text` is.

    Raises:
        JSONSyntaxError: for text that is no JSON, or not UTF-8.
        JSONContentError: for a key that is given twice in an object, a number that is too long or beyond what a float
            can be, and for more than `NESTING_MAX` levels.
    """
    try:
        # Faster than the standard library, strict, and with better messages; but integers beyond 64 bits lose digits.
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if nesting(text) > NESTING_MAX:
            raise JSONContentError(f"Must not be nested deeper than {NESTING_MAX} levels.") from error
        raise JSONSyntaxError(error) from error
    try:
        return _STRICT.decode(text.decode())
    except _RefusedError:
        raise _found(text) from None
    except RecursionError as error:
        raise JSONContentError(f"Must not be nested deeper than {NESTING_MAX} levels.") from error


def check_depth(content: Any, text: bytes, limit: int) -> None:
    """Refuse what is nested deeper than `limit` levels; `text` is what `content` was read from.

    Raises:
        JSONContentError: with the path to the first level too many.
    """
    # There is no nesting without brackets, and most texts have few.
    if text.count(b"{") + text.count(b"[") > limit and (path := _level(content, limit, ())) is not None:
        raise JSONContentError(f"Must not be nested deeper than {limit} levels.", path)


def _level(value: Any, levels: int, path: Path) -> Path | None:
    """The path to an object or array below `levels` of them."""
    if not isinstance(value, dict | list):
        return None
    if levels == 0:
        return path
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in members:
        if isinstance(item, dict | list) and (found := _level(item, levels - 1, (*path, key))) is not None:
            return found
    return None


def nesting(text: bytes) -> int:
    """How many levels `text` has at most: brackets that are opened and not closed, even those in strings."""
    deepest = level = 0
    for character in text.translate(None, _NO_BRACKETS):
        level += 1 if character in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


# -- what is refused --------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _RefusedError
    return content


def _integer(text: str) -> int:
    if _is_long(text):
        raise _RefusedError
    return int(text)


def _is_long(digits: str) -> bool:
    return len(digits) > DIGITS_MAX and len(digits.removeprefix("-")) > DIGITS_MAX


def _float(text: str) -> float:
    if _wrong_float(text):
        raise _RefusedError
    return float(text)


def _wrong_float(text: str) -> str | None:
    mantissa = text.lower().partition("e")[0]
    if _is_long(mantissa.replace(".", "")):
        return _LONG_NUMBER
    # A float beyond these is infinite, zero, or has lost digits.
    value = abs(float(text))
    is_zero = not mantissa.strip("-0.")
    return None if is_zero or (value >= 1e-307 and math.isfinite(value)) else _FAR_NUMBER  # noqa: PLR2004


def _constant(_text: str) -> None:
    # NaN and the like; orjson has refused them.
    raise _RefusedError


_STRICT = JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


# -- where it is ------------------------------------------------------------------------------------------------------


def _marked_object(pairs: list[tuple[str, Any]]) -> Any:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            return _Refused(_TWICE, key)
        content[key] = value
    return content


def _marked_integer(text: str) -> Any:
    return _Refused(_LONG_NUMBER) if _is_long(text) else int(text)


def _marked_float(text: str) -> Any:
    wrong = _wrong_float(text)
    return float(text) if wrong is None else _Refused(wrong)


_MARKING = JSONDecoder(object_pairs_hook=_marked_object, parse_int=_marked_integer, parse_float=_marked_float)


def _found(text: bytes) -> JSONContentError:
    """The error about the first thing in `text` that is refused."""
    path, refused = next(_refusals(_MARKING.decode(text.decode()), ()))
    return JSONContentError(refused.detail, (*path, *refused.path))


def _refusals(value: Any, path: Path) -> Iterator[tuple[Path, _Refused]]:
    if isinstance(value, _Refused):
        yield path, value
    elif isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            if isinstance(item, dict | list | _Refused):
                yield from _refusals(item, (*path, key))


# -- what is stored ---------------------------------------------------------------------------------------------------


def stored(text: str | bytes) -> Any:
    """The value of JSON that the database has; SQL may have written integers that are too long for Python's.

    Such a number becomes a `Decimal`, which loses nothing and is not written back.
    """
    return _STORED.decode(text.decode() if isinstance(text, bytes) else text)


def _stored_integer(text: str) -> Any:
    # Beyond 4300 digits `int()` refuses, for it takes the time of their square.
    return int(text) if len(text) <= _INTEGER_DIGITS_MAX else Decimal(text)


_INTEGER_DIGITS_MAX = 4300
_STORED = JSONDecoder(parse_int=_stored_integer)


def unwritable(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths to numbers in `value` that were too long to read."""
    if isinstance(value, Decimal):
        yield path
    elif isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            if isinstance(item, dict | list | Decimal):
                yield from unwritable(item, (*path, key))


def comparable(value: Any) -> str:
    """`value` as one JSON text, whatever the order of its keys; what Python cannot write is there by its name."""
    return json.dumps(value, sort_keys=True, default=repr)
