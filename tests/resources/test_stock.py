"""Many buyers at once: nothing is sold twice, nothing is lost, and nobody waits for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import select

from api.extensions import db
from api.resources.products.models import Product
from tests.apps import create_app
from tests.factories import ProductFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")

ORDERS = "/api/v1/orders"


@pytest.fixture(scope="module")
def busy(settings):
    """An application whose requests wait for a connection for as long as it takes."""
    app = create_app(replace(settings, pool_timeout=30.0, lock_timeout_ms=20_000))
    yield app
    with app.app_context():
        db.engine.dispose()


def at_once(app, requests):
    """The status of each request, all sent in the same moment by clients of their own."""
    start = Barrier(len(requests))

    def send(request):
        method, url, body = request
        client = app.test_client()
        start.wait(10)
        return client.open(url, method=method, json=body).status_code

    with ThreadPoolExecutor(len(requests)) as threads:
        return [*threads.map(send, requests)]


def order(user, *lines):
    items = [{"product_id": product.id, "quantity": quantity} for product, quantity in lines]
    return ("POST", ORDERS, {"user_id": user.id, "items": items})


def stock(product):
    with db.engine.connect() as connection:
        table = Product.__table__
        return connection.scalar(select(table.c.stock_quantity).where(table.c.id == product.id))


def test_of_50_buyers_of_the_last_10_exactly_10_succeed(busy, client):
    product, user = ProductFactory(stock_quantity=10), UserFactory()
    statuses = at_once(busy, [order(user, (product, 1))] * 50)
    assert sorted(statuses) == [201] * 10 + [409] * 40
    assert stock(product) == 0
    assert client.get(f"{ORDERS}?count=exact").json["total"] == 10


def test_buyers_of_different_quantities_never_take_more_than_there_is(busy, client):
    product, user = ProductFactory(stock_quantity=20), UserFactory()
    quantities = [1, 2, 3, 4, 5] * 5
    statuses = at_once(busy, [order(user, (product, quantity)) for quantity in quantities])
    sold = sum(quantity for quantity, status in zip(quantities, statuses, strict=True) if status == 201)
    assert set(statuses) <= {201, 409}
    assert sold <= 20
    assert stock(product) == 20 - sold
    shown = client.get(f"{ORDERS}?include=items&limit=100").json["items"]
    assert sum(item["quantity"] for placed in shown for item in placed["items"]) == sold


def test_orders_of_the_same_products_in_opposite_order_do_not_block_each_other(busy):
    one, other, user = ProductFactory(stock_quantity=100), ProductFactory(stock_quantity=100), UserFactory()
    there, back = order(user, (one, 1), (other, 1)), order(user, (other, 1), (one, 1))
    assert at_once(busy, [there, back] * 15) == [201] * 30
    assert (stock(one), stock(other)) == (70, 70)


def test_buying_and_cancelling_at_once_loses_nothing(busy, client):
    product, user = ProductFactory(stock_quantity=30), UserFactory()
    _, url, body = order(user, (product, 1))
    placed = [client.post(url, json=body).headers["Location"] for _ in range(10)]
    cancellations = [("PATCH", url, {"status": "cancelled"}) for url in placed]
    statuses = at_once(busy, cancellations + [order(user, (product, 1))] * 10)
    assert statuses == [200] * 10 + [201] * 10
    assert stock(product) == 20


def test_an_order_that_is_cancelled_many_times_at_once_gives_back_once(busy, client):
    product, user = ProductFactory(stock_quantity=5), UserFactory()
    _, url, body = order(user, (product, 3))
    location = client.post(url, json=body).headers["Location"]
    assert at_once(busy, [("PATCH", location, {"status": "cancelled"})] * 8) == [200] * 8
    assert stock(product) == 5


def test_a_product_deleted_while_it_is_bought_is_either_sold_first_or_not_at_all(busy):
    product, user = ProductFactory(stock_quantity=100), UserFactory()
    statuses = at_once(busy, [order(user, (product, 1))] * 9 + [("DELETE", f"/api/v1/products/{product.id}", None)])
    assert statuses[-1] == 204
    assert set(statuses[:-1]) <= {201, 422}
    assert stock(product) == 100 - statuses.count(201)


def test_of_many_new_products_with_the_same_sku_one_is_made(busy):
    category_id = ProductFactory().category_id
    body = {"sku": "ONE", "name": "One", "price": "1.00", "category_id": category_id}
    assert sorted(at_once(busy, [("POST", "/api/v1/products", body)] * 10)) == [201] + [409] * 9


def test_an_order_whose_return_cannot_be_counted_is_not_cancelled_and_says_why(client):
    product = ProductFactory(stock_quantity=5)
    body = {"user_id": UserFactory().id, "items": [{"product_id": product.id, "quantity": 5}]}
    order = client.post("/api/v1/orders", json=body).headers["Location"]
    client.patch(f"/api/v1/products/{product.id}", json={"stock_quantity": 2**31 - 1})
    refused = client.patch(order, json={"status": "cancelled"})
    assert refused.status_code == 409
    assert f"Product {product.id} " in refused.json["detail"]
    assert client.get(order).json["status"] == "pending"
