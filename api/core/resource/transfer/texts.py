"""Values as COPY's text format has them (PostgreSQL documentation, COPY, "Text Format")."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import JSON, Boolean, Date, DateTime, Float, Integer, Numeric, String, TypeDecorator, Uuid
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.types import TypeEngine

NULL = r"\N"
_SPECIAL = re.compile(r"[\\\n\r\t]")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed


class UnknownTypeError(TypeError):
    """Values of a column's type cannot be written for COPY."""


def text_writer(type_: TypeEngine[Any]) -> Callable[[Any], str]:
    """What writes values of a column of this type; not NULL, which is `NULL`.

    Raises:
        UnknownTypeError: for a type that is not known here.
    """
    if isinstance(type_, TypeDecorator):
        decorator, inner = type_, text_writer(type_.impl_instance)
        return lambda value: inner(decorator.process_bind_param(value, _DIALECT))
    for known, write in _WRITERS.items():
        if isinstance(type_, known):
            return write
    raise UnknownTypeError(type_)


def escaped(text: str) -> str:
    """`text` as it stands between the tabs."""
    return text.translate(_ESCAPES) if _SPECIAL.search(text) else text


def _document(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        # An integer beyond 64 bits.
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\\", "\\\\")


_WRITERS: dict[Any, Callable[[Any], str]] = {
    String: escaped,
    Boolean: lambda value: "t" if value else "f",
    Integer: str,
    Float: repr,
    Numeric: str,
    DateTime: lambda value: value.isoformat(),
    Date: lambda value: value.isoformat(),
    Uuid: str,
    JSON: _document,
}
