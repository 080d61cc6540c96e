"""Indexes that soft delete asks for."""

from __future__ import annotations

from sqlalchemy import Column, Index, func


def unique_among_live(column: Column[str], *, ignore_case: bool = False) -> Index:
    """A unique index over the rows that are not deleted: a name is free again once its row is deleted.

    Call it behind the model, with `Model.__table__.c.name`; the index is attached to the column's table.
    """
    table = column.table
    expression = func.lower(column) if ignore_case else column
    return Index(
        f"uq_{table.name}_{column.name}_live",
        expression,
        unique=True,
        postgresql_where=table.c.deleted_at.is_(None),
        info={"fields": [column.name]},
    )
