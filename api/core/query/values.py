"""From the text of a query parameter to a typed value, or to a sentence that says what would be right. Pure."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from api.core.query.allowlist import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.query.allowlist import FieldRule

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,20})?", re.ASCII)
# RFC 3339, with the date alone or without an offset refused: a time must mean the same everywhere.
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_ESCAPED = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


class ValueProblemError(ValueError):
    """The text is no such value; the message says what would be."""


def parse_value(text: str, rule: FieldRule) -> Any:
    """The value that `text` stands for in `rule`'s field.

    Raises:
        ValueProblemError: saying what would be right.
    """
    if "\x00" in text:
        message = "Must not contain the NUL character."
        raise ValueProblemError(message)
    value = _PARSERS[rule.kind](text)
    if rule.minimum is not None and rule.maximum is not None and not rule.minimum <= value <= rule.maximum:
        message = f"Must be between {rule.minimum} and {rule.maximum}."
        raise ValueProblemError(message)
    return value


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
    """The JSON texts that `text` may mean inside a document: always a string, and a number or boolean where it reads as one."""
    if "\x00" in text:
        message = "Must not contain the NUL character."
        raise ValueProblemError(message)
    as_string = json.dumps(text, ensure_ascii=False)
    if text in {"true", "false"} or re.fullmatch(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?", text, re.ASCII):
        return (text, as_string)
    return (as_string,)


def json_document(text: str) -> str:
    """A JSON text, checked and written compactly.

    Raises:
        ValueProblemError: for text that is no JSON, or holds what PostgreSQL cannot store.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        document = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        message = 'Must be JSON, such as {"colour":"red"}.'
        raise ValueProblemError(message) from error
    if "\\u0000" in document or "\\ud" in document.lower():
        _refuse_unstorable(value)
    return document


def escape_like(text: str) -> str:
    """`text` as a LIKE pattern that matches it literally."""
    return text.translate(_ESCAPED)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _refuse_unstorable(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "Must not contain a lone surrogate."
        raise ValueProblemError(message) from error
    if "\\u0000" in text:
        message = "Must not contain the NUL character."
        raise ValueProblemError(message)


def _parse_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        message = "Must be an integer."
        raise ValueProblemError(message)
    return int(text)


def _parse_decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        message = "Must be a decimal number, such as 12.50."
        raise ValueProblemError(message)
    return Decimal(text)


def _parse_uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        message = "Must be a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057."
        raise ValueProblemError(message) from error


def _parse_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        message = "Must be a date, such as 2026-01-31."
        raise ValueProblemError(message) from error


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
