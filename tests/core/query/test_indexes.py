"""A page starts at its place in an index, instead of being sorted and counted off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import text

from api.core.query.plan import RANK, Filter, Page, Position, QueryPlan, Sort, TextSearch
from api.core.query.statement import StatementCache

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY_ROWS = """
WITH category AS (INSERT INTO categories (name) VALUES ('c') RETURNING id)
INSERT INTO products (sku, name, price, category_id, metadata)
SELECT n, n, n / 100.0, category.id, json_build_object('colour', n) FROM category, generate_series(1, 5000) AS n
"""


@pytest.fixture
def looked_up(resources, scratch):
    """The conditions that PostgreSQL looks up in an index for a plan, among many rows."""

    def of(plan: QueryPlan) -> list[str]:
        statement = StatementCache(resources["products"].collection).statement(plan)
        parameters = plan.binds
        with scratch() as session:
            session.execute(text(MANY_ROWS))
            # What autovacuum does for a table that rows come into one after another.
            session.execute(text("SELECT gin_clean_pending_list('ix_products_metadata')"))
            # Autovacuum would: the planner shuns an index that has much waiting.
            for index in ("ix_products_search_vector", "ix_products_name_trigrams"):
                session.execute(text("SELECT gin_clean_pending_list(:index)"), {"index": index})
            session.execute(text("ANALYZE products"))
            explained = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement.text}", parameters)
            return list(_index_conditions(explained.scalar_one()[0]["Plan"]))

    return of


def _index_conditions(node: dict[str, Any]) -> Iterator[str]:
    if "Index Cond" in node:
        yield node["Index Cond"]
    for inner in node.get("Plans", ()):
        yield from _index_conditions(inner)


def by_price(*, descending: bool = False, backward: bool = False) -> QueryPlan:
    """A page behind or before the product 7, at 1.00."""
    position = Position(("1.00", "7"), backward=backward)
    return QueryPlan(sort=(Sort(("price",), descending), Sort(("id",))), page=Page(5, position))


def test_keys_of_one_direction_are_compared_as_a_row(looked_up):
    assert looked_up(by_price()) == ["(ROW(price, id) > ROW(1.00::numeric(10,2), '7'::bigint))"]


def test_a_page_before_another_is_the_same_comparison_the_other_way(looked_up):
    assert looked_up(by_price(backward=True)) == ["(ROW(price, id) < ROW(1.00::numeric(10,2), '7'::bigint))"]


def test_keys_of_mixed_directions_begin_at_the_first_one(looked_up):
    assert looked_up(by_price(descending=True)) == ["(price <= 1.00::numeric(10,2))"]


def test_equality_inside_a_document_is_looked_up(looked_up):
    red = Filter(("metadata",), "eq", ("5",), ("colour",))
    plan = QueryPlan(where=(red,), sort=(Sort(("id",)),), page=Page(5))
    assert looked_up(plan) == ["(metadata @> '{\"colour\": 5}'::jsonb)"]


def test_both_readings_of_a_value_inside_a_document_are_looked_up(looked_up):
    either = Filter(("metadata",), "eq", ("5", '"5"'), ("colour",))
    plan = QueryPlan(where=(either,), sort=(Sort(("id",)),), page=Page(100))
    assert looked_up(plan) == [
        "(metadata @> '{\"colour\": 5}'::jsonb)",
        '(metadata @> \'{"colour": "5"}\'::jsonb)',
    ]


def test_a_list_of_values_inside_a_document_is_looked_up(looked_up):
    listed = Filter(("metadata",), "in", ("5", "6"), ("colour",))
    plan = QueryPlan(where=(listed,), sort=(Sort(("id",)),), page=Page(5))
    [found] = looked_up(plan)
    assert found.startswith("(metadata @> ANY (")


def searching(kind: Literal["words", "exact", "similar"]) -> QueryPlan:
    """The best page of a search among names that are numbers."""
    return QueryPlan(search=TextSearch(kind, "4711"), sort=(Sort(RANK, True), Sort(("id",), True)), page=Page(5))


def matched(conditions: list[str]) -> list[str]:
    """What is looked up to find rows; not the keys by which the page's rows are then fetched."""
    return [condition for condition in conditions if not condition.startswith("(id = ")]


def test_words_are_looked_up_once(looked_up):
    [found] = matched(looked_up(searching("exact")))
    assert found.startswith("(search_vector @@ ")


def test_what_is_alike_is_looked_up_besides(looked_up):
    words, alike = sorted(matched(looked_up(searching("words"))), reverse=True)
    assert words.startswith("(search_vector @@ ")
    assert alike == "((name)::text %> '4711'::text)"


def test_a_total_counts_the_words_that_were_looked_up_already(looked_up):
    found = matched(looked_up(replace(searching("exact"), count="exact")))
    assert len(found) == 1


def test_what_is_similar_is_looked_up(looked_up):
    assert matched(looked_up(searching("similar"))) == ["((name)::text % '4711'::text)"]


@pytest.mark.parametrize("kind", ["exact", "words", "similar"])
def test_of_what_is_found_only_the_rows_of_the_page_are_fetched(looked_up, kind):
    assert len(looked_up(searching(kind))) == len(matched(looked_up(searching(kind)))) + 1
