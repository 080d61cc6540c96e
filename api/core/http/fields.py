"""Field types of the API's JSON: strict on the way in, and on the way out the same text that PostgreSQL writes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flask import current_app, has_app_context
from marshmallow import ValidationError, fields, validate
from sqlalchemy import Text, and_, case, cast, func, literal_column
from sqlalchemy.dialects.postgresql import TIMESTAMP

from api.core.query.file_rows import in_files
from api.core.query.projection import sql_form
from api.core.query.values import ValueProblemError, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

JSON_DEPTH = "json_depth_max"
"""Key of `app.extensions`: how many levels a JSON body, and a document in it, may have."""
JSON_DEPTH_MAX = 32
_TIMESTAMP_SQL = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
_TIMESTAMP_EXAMPLE = "2026-01-31T12:30:00.000000Z"


class String(fields.String):
    """Text without the NUL character, which PostgreSQL cannot store."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "\x00" in text:
            message = "Must not contain the NUL character."
            raise ValidationError(message)
        return text


class Integer(fields.Integer):
    """A JSON integer; `5.0` is one, `"5"` and `true` are not."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid", input=value)
        return value


class Boolean(fields.Boolean):
    """JSON's `true` or `false` and nothing else."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        del attr, data, kwargs
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Money(fields.Decimal):
    """An amount as a string with two decimals, such as `"19.90"`; a JSON number would lose cents on the way."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way
        "invalid": 'Must be an amount as a string, such as "19.90".',
        "places": "Must have at most {places} decimals.",
        "digits": "Must be below {limit}.",
    }
    _FORM = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)

    def __init__(self, *, places: int = 2, digits: int = 10, **kwargs: Any) -> None:
        """`digits` counts all digits of the column, `places` those behind the point."""
        super().__init__(places=places, as_string=True, **kwargs)
        self.scale = places
        self.limit = Decimal(10) ** (digits - places)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        del attr, data, kwargs
        if not isinstance(value, str) or not self._FORM.fullmatch(value):
            raise self.make_error("invalid", input=value)
        amount = Decimal(value)
        if abs(amount) >= self.limit:
            raise self.make_error("digits", limit=self.limit)
        if len(value.partition(".")[2].rstrip("0")) > self.scale:
            raise self.make_error("places", places=self.scale)
        return amount

    @property
    def pattern(self) -> str:
        """The accepted strings as a regular expression, for OpenAPI."""
        lowest = next((rule.min for rule in self.validators if isinstance(rule, validate.Range)), None)
        sign = "" if lowest is not None and lowest >= 0 else "-?"
        whole = len(str(self.limit)) - 1
        return rf"^{sign}0*[0-9]{{1,{whole}}}(\.[0-9]{{1,{self.scale}}})?$"


@sql_form.register(Money)
def _money_sql(field: Money, column: ColumnElement[Any]) -> ColumnElement[Any]:
    del field
    return cast(column, Text)


class Timestamp(fields.DateTime):
    """A point in time, RFC 3339 with an offset; always written in UTC with microseconds."""

    default_error_messages = {"invalid": "Must be a time with an offset, such as 2026-01-31T12:30:00Z."}  # noqa: RUF012

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        del attr, obj, kwargs
        if value is None:
            return None
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        del attr, data, kwargs
        if not isinstance(value, str):
            raise self.make_error("invalid", input=value, obj_type="datetime")
        try:
            return parse_timestamp(value)
        except ValueProblemError as error:
            raise ValidationError(str(error)) from error


@sql_form.register(Timestamp)
def _timestamp_sql(field: Timestamp, column: ColumnElement[Any]) -> ColumnElement[Any]:
    del field
    return func.to_char(func.timezone("UTC", column), _TIMESTAMP_SQL, type_=Text())


@in_files(_timestamp_sql)
def _timestamp_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The text that PostgreSQL has for it costs less than `to_char`, but leaves zeros at the end out."""
    has_six_digits = column != cast(column, TIMESTAMP(timezone=True, precision=5))
    has_four_digit_year = column.between(literal_column("'0001-01-02'"), literal_column("'9999-12-30'"))
    text = cast(func.timezone("UTC", column), Text).concat("Z")
    short = func.replace(text, " ", "T", type_=Text())
    return case((and_(has_six_digits, has_four_digit_year), short), else_=_timestamp_sql(Timestamp(), column))


class JSONObject(fields.Raw):
    """A JSON object of any content that `jsonb` can hold."""

    default_error_messages = {"invalid": "Must be a JSON object."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        _check_document(value, json_depth_max())
        return value


def json_depth_max() -> int:
    """How many levels JSON may have: the application's setting, where there is one."""
    return current_app.extensions.get(JSON_DEPTH, JSON_DEPTH_MAX) if has_app_context() else JSON_DEPTH_MAX


def _check_document(value: Any, depth: int) -> None:
    """Refuse what `jsonb` cannot store, and nesting that no reader copes with."""
    if depth < 0:
        message = f"Must not be nested deeper than {json_depth_max()} levels."
        raise ValidationError(message)
    if isinstance(value, str) and "\x00" in value:
        message = "Must not contain the NUL character."
        raise ValidationError(message)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_document(key, depth)
            _check_document(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_document(item, depth - 1)
