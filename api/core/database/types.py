"""Column types and the one way to declare a column with its rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, DateTime, Numeric, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

from api.core.database.documents import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.orm import MappedColumn

VALIDATORS = "validators"
CHECK_DETAIL = "detail"

Money = Numeric(10, 2)
"""An amount with two decimals, up to 99,999,999.99; a `Decimal` in Python, a string in JSON."""

JSONDocument = Document.as_mutable(
    JSONB(none_as_null=True).with_variant(JSON(none_as_null=True), "sqlite", "mysql", "mariadb")
)
"""A JSON object, `jsonb` in PostgreSQL with its operators; changes in place are seen and saved."""


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time: aware in Python, UTC always, `timestamptz` in PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, which means something else on every machine.

        Raises:
            ValueError: for a time without a timezone.
        """
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"{value!r} has no timezone; use datetime.now(UTC)"
            raise ValueError(message)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return times in UTC, whatever the session's timezone."""
        del dialect
        return None if value is None else value.astimezone(UTC)


def column(*args: Any, validators: Sequence[Callable[[Any], Any]] = (), **kwargs: Any) -> MappedColumn[Any]:
    """`mapped_column` with marshmallow validators.

    Declared here once, a rule reaches the ORM's insert and update listeners, the request schema, the OpenAPI document
    and, where SQL can say the same, a named CHECK constraint.
    """
    info = {**kwargs.pop("info", {}), VALIDATORS: tuple(validators)}
    return mapped_column(*args, info=info, **kwargs)
