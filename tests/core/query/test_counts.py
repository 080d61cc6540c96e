"""`count=`: none, exact, or the planner's estimate."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text

from api.core.query.plan import Filter, Group, Page, Position, QueryPlan, Sort
from api.extensions import db
from tests.factories import ProductFactory

SORT = (Sort(("id",)),)


@pytest.fixture
def total(resources):
    """The total of a page of products."""

    def of(count, page, where=()):
        plan = QueryPlan(where=tuple(where), sort=SORT, page=page, count=count)
        with db.read_connection() as connection:
            return resources["products"].reader.page(connection, plan).total

    return of


@pytest.fixture(autouse=True)
def _products(database):
    """Five products, three of them at 1.00, and statistics about them."""
    del database
    category = ProductFactory(price=Decimal("1.00")).category
    ProductFactory.create_batch(2, price=Decimal("1.00"), category=category)
    ProductFactory.create_batch(2, price=Decimal("2.00"), category=category)
    with db.owner_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE products"))


CHEAP = Filter(("price",), "eq", ("1.00",))


def test_nothing_is_counted_unless_asked_for(total):
    assert total("none", Page(2)) is None


@pytest.mark.parametrize(
    "page",
    [
        *(Page(2), Page(20), Page(1, offset=1), Page(2, offset=2), Page(2, offset=4), Page(2, offset=8)),
        *(Page(2, Position(("1",))), Page(2, Position(("999999999",))), Page(2, Position(backward=True))),
    ],
    ids=str,
)
def test_the_exact_count_is_the_same_on_every_page(total, page):
    assert total("exact", page) == 5
    assert total("exact", page, [CHEAP]) == 3


def test_the_exact_count_leaves_deleted_rows_out(total):
    ProductFactory(deleted_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert total("exact", Page(1)) == 5


def test_the_estimate_is_what_the_planner_expects(total):
    assert total("estimated", Page(2)) == 5
    assert total("estimated", Page(2, Position(("0",)))) == 5
    assert total("estimated", Page(2), [CHEAP]) == 3


def test_the_estimate_is_never_below_what_the_page_shows(total):
    rare = [
        CHEAP,
        Filter(("stock_quantity",), "gt", (5,)),
        Filter(("name",), "ne", ("?",)),
        Filter(("id",), "gt", (0,)),
    ]
    with db.owner_engine.begin() as connection:
        connection.execute(text("DELETE FROM pg_statistic WHERE starelid = 'products'::regclass"))
    assert total("estimated", Page(2), rare) >= 3
    assert total("estimated", Page(1, offset=1), rare) >= 3


def test_the_estimate_is_exact_where_the_page_shows_the_end(total):
    ProductFactory.create_batch(2, price=Decimal("1.00"))
    assert total("estimated", Page(20)) == 7
    assert total("estimated", Page(2, offset=6)) == 7


def test_values_of_any_kind_can_be_estimated(total):
    odd = "'; DROP TABLE products; --\\ %s %(p0)s \u2603"
    where = [
        Group("or", (Filter(("name",), "in", (odd, "x")), Filter(("name",), "like", (odd,)))),
        Filter(("metadata",), "eq", ('"5"', "5"), (odd,)),
    ]
    assert total("estimated", Page(1), where) == 0
    assert total("exact", Page(1)) == 5


def test_create_all_makes_the_function_that_estimates(app):
    with app.app_context(), db.owner_engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("DROP FUNCTION public.estimated_rows(text)"))
        db.metadata.create_all(connection)
        assert connection.scalar(text("SELECT public.estimated_rows('SELECT 1')")) == 1
        transaction.rollback()
