"""What a JSON document has at a path, as SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Numeric, Text, bindparam, case, cast, func, literal_column, or_
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

SORTED_LENGTH = 200
"""How many characters of a text its place in an order depends on: a cursor holds them."""

_NULL: ColumnElement[Any] = literal_column("'null'::jsonb", JSONB)
_ROOT: ColumnElement[Any] = literal_column("'{}'::text[]", ARRAY(Text))


def value_at(document: Any, parameter: str) -> ColumnElement[Any]:
    """The value of `document` at the path that is bound as `parameter`; NULL for nothing and for JSON's null."""
    path = cast(bindparam(parameter, type_=ARRAY(Text)), ARRAY(Text))
    return func.nullif(document.op("#>", return_type=JSONB())(path), _NULL, type_=JSONB())


def sortable_at(document: Any, parameter: str) -> ColumnElement[Any]:
    """What a row is sorted by: the number, text or boolean at the path; NULL for all else.

    By jsonb's own order texts come before numbers, and these before booleans.
    """
    value = value_at(document, parameter)
    text = func.to_jsonb(func.left(value.op("#>>", return_type=Text())(_ROOT), SORTED_LENGTH))
    kind = func.jsonb_typeof(value)
    return case((kind == "string", text), (or_(kind == "number", kind == "boolean"), value))


def number_at(document: Any, parameter: str) -> ColumnElement[Any]:
    """The number at the path; NULL for all else."""
    value = value_at(document, parameter)
    return case((func.jsonb_typeof(value) == "number", cast(value, Numeric)))
