"""What the database refused, said in terms of the fields concerned.

SQLSTATE codes: PostgreSQL documentation, appendix A; `AC401` is raised by the check of a credential, `AC422` where what
is referred to is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.core.database.model import Base
from api.core.database.required import MISSING, missing_by
from api.core.database.types import CHECK_DETAIL
from api.core.database.watchdog import DroppedError
from api.core.errors import (
    APIError,
    ConflictError,
    InvalidError,
    TransactionConflictError,
    UnauthorizedError,
    UnavailableError,
    Violation,
    pointer_to,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table
    from sqlalchemy.schema import SchemaItem

_UNIQUE_VIOLATION = "23505"
_FOREIGN_KEY_VIOLATION = "23503"
_NOT_NULL_VIOLATION = "23502"
_CHECK_VIOLATION = "23514"
_LOCK_NOT_AVAILABLE = "55P03"
_QUERY_CANCELED = "57014"
_SERIALIZATION_FAILURES = frozenset({"40001", "40P01"})
_DATA_EXCEPTION_CLASS = "22"
_NOT_ALLOWED = "This value is not allowed."
_CREDENTIAL_NOT_ACCEPTED = "AC401"
_OUT_OF_REACH_CLASSES = frozenset({"08", "53", "57", "58"})


def translate(error: DBAPIError | PoolTimeoutError) -> APIError | None:
    """The `APIError` that `error` means for a client, or None for a mistake of ours."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError("Too many requests are using the database; please try again.")
    if isinstance(error.orig, DroppedError):
        return TransactionConflictError()
    code = getattr(error.orig, "pgcode", None)
    if error.connection_invalidated or (code is None and _is_connection_failure(error)):
        return UnavailableError()
    if code is None:
        return None
    return _by_sqlstate(code, error)


def as_sqlalchemy(statement: str | None, error: psycopg2.Error, *, lost: bool) -> BaseException:
    """The driver's error as SQLAlchemy would raise it, for what is sent past it; `lost`: whether the connection is."""
    return DBAPIError.instance(
        statement, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=lost
    )


def raise_meaning(error: DBAPIError | PoolTimeoutError) -> NoReturn:
    """Raise what `error` means for a client, or itself where it means nothing to one.

    Raises:
        APIError: as `translate` finds it.
    """
    meaning = translate(error)
    if meaning is None:
        raise error
    raise meaning from error


def _is_connection_failure(error: DBAPIError) -> bool:
    """The driver gives no SQLSTATE when it could not connect or lost the connection."""
    return type(error.orig).__name__ in {"OperationalError", "InterfaceError"}


def _by_sqlstate(code: str, error: DBAPIError) -> APIError | None:
    if code.startswith("23"):
        return _constraint_violation(code, error)
    if code in _SERIALIZATION_FAILURES:
        return TransactionConflictError()
    if code == _CREDENTIAL_NOT_ACCEPTED:
        return UnauthorizedError("What you sent to say who you are does not hold (any more); log in again.")
    if code[:2] in _OUT_OF_REACH_CLASSES or code == _LOCK_NOT_AVAILABLE:
        return _unavailable(code)
    if code.startswith(_DATA_EXCEPTION_CLASS):
        return InvalidError("A value is outside of what the database can store.")
    return missing_by(error.orig.diag.message_detail) if code == MISSING else None  # type: ignore[union-attr]


def _unavailable(code: str) -> UnavailableError:
    if code == _LOCK_NOT_AVAILABLE:
        return UnavailableError(TransactionConflictError.default_detail, retry_after=1)
    if code == _QUERY_CANCELED:
        return UnavailableError("The database took too long to answer; narrow the request or try again.")
    return UnavailableError()


def _constraint_violation(code: str, error: DBAPIError) -> APIError:
    diagnostics = error.orig.diag  # type: ignore[union-attr]
    table = Base.metadata.tables.get(diagnostics.table_name or "")
    if code == _NOT_NULL_VIOLATION:
        return _invalid([diagnostics.column_name], "Missing data for required field.")
    names = _constrained_fields(table, diagnostics.constraint_name)
    if code == _UNIQUE_VIOLATION:
        return ConflictError(violations=_violations(names, "This value is already taken."))
    if code == _FOREIGN_KEY_VIOLATION:
        if (error.statement or "").lstrip().upper().startswith("DELETE"):
            return ConflictError("Other data still refers to this resource.")
        return _invalid(names, "There is no such resource to refer to.")
    if code == _CHECK_VIOLATION:
        return _invalid(names, _check_detail(table, diagnostics.constraint_name))
    return ConflictError()


def _invalid(names: Sequence[str], detail: str) -> InvalidError:
    return InvalidError(violations=_violations(names, detail))


def _violations(names: Sequence[str], detail: str) -> list[Violation]:
    return [Violation(detail, pointer=pointer_to([name])) for name in names] or [Violation(detail)]


def _constrained_fields(table: Table | None, constraint: str | None) -> list[str]:
    """Names of the columns that `constraint` speaks of, as the API names them."""
    item = _named(table, constraint)
    if item is None:
        return []
    return list(item.info.get("fields") or [column.name for column in getattr(item, "columns", ())])


def _check_detail(table: Table | None, constraint: str | None) -> str:
    item = _named(table, constraint)
    return str(item.info.get(CHECK_DETAIL, _NOT_ALLOWED)) if item is not None else _NOT_ALLOWED


def _named(table: Table | None, constraint: str | None) -> SchemaItem | None:
    """The table's constraint or unique index of this name."""
    items = (*table.constraints, *table.indexes) if table is not None else ()
    return next((item for item in items if getattr(item, "name", None) == constraint), None)
