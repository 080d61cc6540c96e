"""From the text of a query parameter to a typed value, or to a sentence that says what would be right. Pure."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from api.core.query.allowlist import Kind
from api.core.query.documents import DEPTH_MAX
from api.core.query.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.query.allowlist import FieldRule

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INTEGER_LENGTH_MAX = 30
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,20})?", re.ASCII)
# RFC 3339, with the date alone or without an offset refused: a time must mean the same everywhere.
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
# Far from what `numeric`, in which jsonb keeps its numbers, overflows at.
_JSON_FLOAT = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_ESCAPED = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


class ValueProblemError(ProblemError):
    """The text is no such value; the message says what would be."""


def parse_value(text: str, rule: FieldRule) -> Any:
    """The value that `text` stands for in `rule`'s field.

    Raises:
        ValueProblemError: saying what would be right.
    """
    value = _PARSERS[rule.kind](text)
    if rule.minimum is not None and rule.maximum is not None and not rule.minimum <= value <= rule.maximum:
        message = f"Must be between {rule.minimum} and {rule.maximum}."
        raise ValueProblemError(message)
    return value


def is_storable(text: str) -> bool:
    """True for text without the characters that PostgreSQL cannot hold.

    Raises:
        ValueProblemError: for NUL, or half of a surrogate pair.
    """
    if "\x00" in text:
        message = "Must not contain the NUL character."
        raise ValueProblemError(message)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        message = "Must not contain a lone surrogate."
        raise ValueProblemError(message)
    return True


def parse_boolean(text: str) -> bool:
    """`true` or `false`.

    Raises:
        ValueProblemError: for anything else.
    """
    if text not in {"true", "false"}:
        message = "Must be true or false."
        raise ValueProblemError(message)
    return text == "true"


def parse_timestamp(text: str) -> datetime:
    """A point in time by RFC 3339, in UTC.

    Raises:
        ValueProblemError: for another form, or a time that does not exist.
    """
    message = "Must be a time with an offset, such as 2026-01-31T12:30:00Z."
    # A plus sign that was not percent-encoded arrives as a blank.
    text = re.sub(r" (?=[0-9]{2}:[0-9]{2}$)", "+", text)
    if not _TIMESTAMP.fullmatch(text):
        raise ValueProblemError(message)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueProblemError(message) from error


def json_readings(text: str) -> tuple[str, ...]:
    """The JSON texts that `text` may mean in a document: always a string, and a number or boolean it reads as."""
    as_string = json.dumps(text, ensure_ascii=False)
    return (text, as_string) if _JSON_SCALAR.fullmatch(text) else (as_string,)


def json_document(text: str) -> str:
    """A JSON text, checked.

    Raises:
        ValueProblemError: for text that is no JSON, or holds what PostgreSQL cannot store.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_checked_float, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        message = 'Must be JSON, such as {"colour":"red"}.'
        raise ValueProblemError(message) from error
    _check_document(value, DEPTH_MAX)
    return text


def parse_like(text: str) -> str:
    """A LIKE pattern.

    Raises:
        ValueProblemError: for an escape at its end, which has nothing to escape.
    """
    if (len(text) - len(text.rstrip("\\"))) % 2:
        message = r"Must not end with a backslash, which escapes the next character; write \\ for a backslash."
        raise ValueProblemError(message)
    return text


def escape_like(text: str) -> str:
    """`text` as a LIKE pattern that matches it literally."""
    return text.translate(_ESCAPED)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _checked_float(text: str) -> float:
    if not _JSON_FLOAT.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two members with one name a check would see only one."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(pairs)
    return content


def _check_document(value: Any, depth: int) -> None:
    if isinstance(value, str):
        is_storable(value)
    elif isinstance(value, dict | list):
        if depth == 0:
            message = f"Must not be nested deeper than {DEPTH_MAX} levels."
            raise ValueProblemError(message)
        for item in value:
            _check_document(item, depth - 1)
        if isinstance(value, dict):
            for item in value.values():
                _check_document(item, depth - 1)


def _parse_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or len(text) > _INTEGER_LENGTH_MAX:
        message = f"Must be an integer of at most {_INTEGER_LENGTH_MAX} digits."
        raise ValueProblemError(message)
    return int(text)


def _parse_decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        message = "Must be a decimal number, such as 12.50."
        raise ValueProblemError(message)
    return Decimal(text)


def _parse_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        message = "Must be a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057."
        raise ValueProblemError(message)
    return str(uuid.UUID(text))


def _parse_date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    message = "Must be a date, such as 2026-01-31."
    raise ValueProblemError(message)


_PARSERS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: _parse_integer,
    Kind.DECIMAL: _parse_decimal,
    Kind.NUMBER: _parse_decimal,
    Kind.TEXT: str,
    Kind.BOOLEAN: parse_boolean,
    Kind.TIMESTAMP: parse_timestamp,
    Kind.DATE: _parse_date,
    Kind.UUID: _parse_uuid,
    Kind.JSON: json_document,
}
