"""Rows that have to be there: the database itself refuses a transaction that relies on one that is not.

So nobody has to wait for its answer: the question goes in front of what is to be done, in the same message.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import case, func, literal_column, select

from api.core.database.triggers import FUNCTIONS, Function
from api.core.errors import InvalidError, Violation, pointer_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from sqlalchemy import BindParameter, Select

MISSING = "AC422"
"""SQLSTATE of a row that is not there; the error's detail has each by the name of what refers to it, as JSON."""

FUNCTIONS.append(
    Function(
        "refuse_missing(json)",
        "(missing json) RETURNS void LANGUAGE plpgsql",
        f"""
BEGIN
    IF missing::text <> '{{}}' THEN
        RAISE EXCEPTION 'what a row refers to is not there' USING ERRCODE = '{MISSING}', DETAIL = missing::text;
    END IF;
END
""",
    )
)


def requiring(needed: Iterable[tuple[str, BindParameter[Any], Select[Any]]]) -> Select[Any]:
    """A statement that raises unless each query finds a row: by the name of what refers to it, and the key that does.

    The rows are looked for, and locked, in this order.
    """
    members: list[Any] = []
    for name, key, query in needed:
        members += [literal_column(f"'{name}'"), case((~query.exists(), key))]
    return select(func.refuse_missing(func.json_strip_nulls(func.json_build_object(*members))))


def missing(keys: Mapping[str, Any]) -> InvalidError:
    """The error about keys, by the name of what refers to them, of rows that are not there."""
    return InvalidError(
        violations=[
            Violation(f"There is no {name.removesuffix('_id')} {key}.", pointer=pointer_to([name]))
            for name, key in keys.items()
        ]
    )


def missing_by(detail: str | None) -> InvalidError:
    """The same, by the detail of the database's error."""
    return missing(json.loads(detail or "{}"))
