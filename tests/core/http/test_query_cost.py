"""`QUERY_COST_MAX`: what would cost too much is refused before it runs, with advice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.extensions import db
from tests.apps import create_app
from tests.factories import ProductFactory

TOO_COSTLY = "and 1 is the most that is allowed. Filter by fields with an index"


@pytest.fixture
def frugal(database, settings):
    """A client of an application in which next to nothing may be asked for."""
    del database
    ProductFactory.create_batch(2)
    app = create_app(replace(settings, query_cost_max=1))
    yield app.test_client()
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "products?sort=-price&count=exact", None),
        ("GET", "products?q=lamp", None),
        ("GET", "products/1", None),
        ("GET", "products/aggregate?group_by=category_id&sum=price", None),
        ("PATCH", "products?price__gte=0", {"price": "2.00"}),
        ("DELETE", "products?price__gte=0", None),
    ],
)
def test_a_query_that_costs_too_much_is_a_400_with_advice(frugal, method, path, body):
    answer = frugal.open(f"/api/v1/{path}", method=method, json=body)
    assert answer.status_code == 400, answer.text
    assert TOO_COSTLY in answer.json["detail"]


def test_a_write_that_costs_too_much_changes_nothing(frugal, client):
    frugal.delete("/api/v1/products?price__gte=0")
    assert len(client.get("/api/v1/products").json["items"]) == 2


def test_what_costs_less_is_answered(database, settings):
    del database
    product = ProductFactory()
    app = create_app(replace(settings, query_cost_max=100_000))
    assert app.test_client().get("/api/v1/products").json["items"][0]["id"] == product.id
    with app.app_context():
        db.engine.dispose()


def test_without_a_limit_nothing_is_planned_twice(client, statements):
    ProductFactory()
    with statements() as counted:
        client.get("/api/v1/products")
    assert counted.count == 1
