"""Unique keys: found in a table's metadata, usable in ON CONFLICT and over other sources of rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, UniqueConstraint, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert

from api.core.database.indexes import unique_keys
from api.resources.products.models import Product


def key_of(table, name):
    return next(key for key in unique_keys(table) if key.name == name)


def sql(statement):
    return " ".join(str(statement.compile(dialect=postgresql.dialect())).split())


@pytest.fixture
def table():
    things = Table(
        "things",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("a", String),
        Column("b", String),
        UniqueConstraint("a", "b", name="uq_a_b"),
    )
    Index("uq_sum", func.lower(things.c.a), things.c.b, unique=True)
    Index("ix_b", things.c.b)
    return things


def test_constraints_and_unique_indexes_are_keys_and_other_indexes_are_not(table):
    found = {key.name: [column.name for column in key.columns] for key in unique_keys(table) if key.name != "None"}
    assert found == {"uq_a_b": ["a", "b"], "uq_sum": ["a", "b"]}
    assert [key.columns for key in unique_keys(table) if key.name == "None"] == [(table.c.id,)]


def test_a_key_among_live_rows_is_a_target_of_on_conflict():
    key = key_of(Product.__table__, "uq_products_sku_live")
    statement = insert(Product.__table__).values(sku="x").on_conflict_do_nothing(**key.conflict_target())
    assert "ON CONFLICT (lower(sku)) WHERE deleted_at IS NULL DO NOTHING" in sql(statement)


def test_a_key_can_be_read_over_another_source_of_rows():
    key = key_of(Product.__table__, "uq_products_sku_live")
    other = Product.__table__.alias("o")
    statement = select(*key.values_in(other)).where(*key.counts_in(other))
    assert sql(statement).endswith("SELECT lower(o.sku) AS lower_1 FROM products AS o WHERE o.deleted_at IS NULL")
