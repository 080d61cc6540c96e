"""What a request may cost, in what can be counted: not in time, which depends on the machine.

Calls and bytes are a third above what was counted when they were set; the test's client is part of them. Whoever
exceeds one has put something into the path of every request, and should know why.
"""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import contextmanager

import pytest

from api.core.database.watchdog import WatchedConnection, WatchedCursor
from tests.accounts import bearing, log_in, somebody, stranger
from tests.factories import CategoryFactory, OrderFactory, OrderItemFactory, ProductFactory, RoleFactory, TagFactory

BUDGETS = {
    # Method, path; at most so many statements, messages to the database, calls of Python functions, bytes at once.
    "a row by its key": ("GET", "products/{product}", 1, 1, 590, 11_000),
    "a row that the client has": ("GET", "products/{product}", 1, 1, 600, 12_000),
    "a page": ("GET", "products?price__gte=1&sort=price", 1, 1, 595, 30_000),
    "a page with what belongs to it": ("GET", "products?include=category,tags", 1, 1, 595, 56_000),
    "an order with all of it": ("GET", "orders/{order}?include=user,items.product", 1, 1, 590, 12_600),
    "a new product": ("POST", "products", 3, 2, 1_520, 98_000),
    "a new order": ("POST", "orders", 6, 3, 2_470, 98_500),
}


@pytest.fixture
def shop(database):
    """A logged-in manager's client, and what there is to be asked for."""
    manager = somebody(roles=[RoleFactory(name="manager")])
    products = [ProductFactory(category=CategoryFactory(), tags=[TagFactory()], stock_quantity=50) for _ in range(20)]
    order = OrderFactory(user=manager, items=[OrderItemFactory.build(product=products[0])])
    client = stranger(database)
    headers = bearing(log_in(client, manager)["access_token"])
    values = {"product": products[0].id, "order": order.id}
    bodies = iter(range(100))

    def send(name):
        method, path, *_ = BUDGETS[name]
        body = None
        if path == "products" and method == "POST":
            body = {
                "sku": f"new-{next(bodies)}",
                "name": "New",
                "price": "1.00",
                "category_id": products[0].category_id,
            }
        if path == "orders":
            body = {"items": [{"product_id": product.id, "quantity": 1} for product in products[:3]]}
        known = {"If-None-Match": f'"{products[0].id}-1"'} if "client has" in name else {}
        url = f"/api/v1/{path.format(**values)}"
        answer = client.open(url, method=method, json=body, headers={**headers, **known})
        assert answer.status_code == (304 if known else 201 if body else 200), answer.text
        answer.close()

    return send


@contextmanager
def messages(monkeypatch):
    """How many messages go to the database, and are waited for."""
    sent = []
    with monkeypatch.context() as patch:
        for owner, name in ((WatchedCursor, "execute"), (WatchedConnection, "commit")):
            plain = getattr(owner, name)
            patch.setattr(owner, name, lambda *args, plain=plain: sent.append(1) or plain(*args))
        yield sent


@contextmanager
def calls():
    """How many functions of Python are called: what a request costs a worker, whatever the machine."""
    counted = [0]

    def count(_frame, kind, _argument):
        if kind == "call":
            counted[0] += 1

    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_request_sends_so_few_statements_and_messages(shop, statements, monkeypatch, name):
    shop(name)
    _, _, most_statements, most_messages, _, _ = BUDGETS[name]
    with statements() as counted, messages(monkeypatch) as sent:
        shop(name)
    assert counted.count <= most_statements
    assert len(sent) <= most_messages


@pytest.mark.parametrize("name", BUDGETS)
def test_a_request_calls_so_few_functions(shop, name):
    shop(name)
    with calls() as counted:
        shop(name)
    assert counted[0] <= BUDGETS[name][4]


@pytest.mark.parametrize("name", BUDGETS)
def test_a_request_needs_so_little_memory(shop, name):
    shop(name)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        shop(name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= BUDGETS[name][5]
