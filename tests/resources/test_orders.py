"""Orders: prices and totals are the server's, stock goes with the order, and a status follows from the one before."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import select, text

from api.core.database.session import transaction
from api.core.errors import ConflictError, InvalidError
from api.extensions import db
from api.resources.orders.models import Order, OrderItem
from api.resources.orders.service import OrderService
from api.resources.products.models import Product
from tests.factories import OrderFactory, ProductFactory, UserFactory

ORDERS = "/api/v1/orders"
STATUSES = ("pending", "processing", "shipped", "delivered", "cancelled")
NEXT = {
    "pending": {"processing", "cancelled"},
    "processing": {"shipped", "cancelled"},
    "shipped": {"delivered"},
    "delivered": set(),
    "cancelled": set(),
}


@pytest.fixture
def buy(client):
    """`buy((product, 2), (other, 1))`: the answer to an order of these quantities."""

    def order(*lines, **more):
        items = [{"product_id": getattr(product, "id", product), "quantity": quantity} for product, quantity in lines]
        return client.post(ORDERS, json={"user_id": UserFactory().id, "items": items} | more)

    return order


def stock(product):
    with db.engine.connect() as connection:
        table = Product.__table__
        return connection.scalar(select(table.c.stock_quantity).where(table.c.id == product.id))


def violations(response, status):
    assert response.status_code == status, response.text
    return {error["pointer"]: error["detail"] for error in response.json["errors"]}


# -- creating


def test_an_order_takes_the_stock_and_computes_the_total(buy, client):
    mug, book = ProductFactory(price=Decimal("9.90"), stock_quantity=5), ProductFactory(price=Decimal("0.05"))
    response = buy((mug, 2), (book, 3))
    assert response.status_code == 201
    assert response.json["total_amount"] == "19.95"
    assert response.json["status"] == "pending"
    assert (stock(mug), stock(book)) == (3, 7)
    items = client.get(f"{response.headers['Location']}?include=items").json["items"]
    assert [(item["product_id"], item["quantity"], item["unit_price"]) for item in items] == [
        (mug.id, 2, "9.90"),
        (book.id, 3, "0.05"),
    ]


def test_an_order_keeps_the_price_of_its_day(buy, client):
    product = ProductFactory(price=Decimal("10.00"))
    order = buy((product, 1))
    client.patch(f"/api/v1/products/{product.id}", json={"price": "99.00"})
    kept = client.get(f"{order.headers['Location']}?include=items").json
    assert (kept["total_amount"], kept["items"][0]["unit_price"]) == ("10.00", "10.00")


def test_the_stock_moves_with_the_product_s_version_and_time(buy, client):
    product = ProductFactory()
    before = client.get(f"/api/v1/products/{product.id}").json
    buy((product, 1))
    after = client.get(f"/api/v1/products/{product.id}").json
    assert after["version"] == before["version"] + 1
    assert after["updated_at"] > before["updated_at"]


def test_the_last_item_can_be_bought(buy):
    product = ProductFactory(stock_quantity=1)
    assert buy((product, 1)).status_code == 201
    assert stock(product) == 0
    assert violations(buy((product, 1)), 409) == {"/items/0/quantity": f"Only 0 of product {product.id} left."}


def test_what_is_not_in_stock_is_a_conflict_that_names_each_item_and_takes_nothing(buy):
    plenty, little, none = (ProductFactory(stock_quantity=left) for left in (10, 2, 0))
    response = buy((plenty, 1), (little, 3), (none, 1))
    assert violations(response, 409) == {
        "/items/1/quantity": f"Only 2 of product {little.id} left.",
        "/items/2/quantity": f"Only 0 of product {none.id} left.",
    }
    assert response.json["detail"] == "There is not enough in stock."
    assert (stock(plenty), stock(little)) == (10, 2)


def test_two_items_of_the_same_product_take_from_the_same_stock(buy):
    product = ProductFactory(stock_quantity=5)
    assert violations(buy((product, 3), (product, 3)), 409) == {
        "/items/1/quantity": f"Only 2 of product {product.id} left."
    }
    assert stock(product) == 5
    assert buy((product, 3), (product, 2)).status_code == 201
    assert stock(product) == 0


def test_a_product_that_is_not_there_is_invalid_at_its_item(buy, session):
    gone = ProductFactory()
    gone.soft_delete()
    session.commit()
    live = ProductFactory()
    assert violations(buy((live, 1), (4711, 1), (gone, 1)), 422) == {
        "/items/1/product_id": "There is no product 4711.",
        "/items/2/product_id": f"There is no product {gone.id}.",
    }
    assert stock(live) == 10


@pytest.mark.parametrize("user", [4711, "deleted"])
def test_a_user_that_is_not_there_is_invalid_and_takes_nothing(client, session, user):
    product = ProductFactory()
    if user == "deleted":
        gone = UserFactory()
        gone.soft_delete()
        session.commit()
        user = gone.id
    response = client.post(ORDERS, json={"user_id": user, "items": [{"product_id": product.id, "quantity": 1}]})
    assert violations(response, 422) == {"/user_id": f"There is no user {user}."}
    assert stock(product) == 10


@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        ([], "/items"),
        (None, "/items"),
        ({}, "/items"),
        ([{"product_id": 1, "quantity": 0}], "/items/0/quantity"),
        ([{"product_id": 1, "quantity": -1}], "/items/0/quantity"),
        ([{"product_id": 1, "quantity": 2**31}], "/items/0/quantity"),
        ([{"product_id": 1, "quantity": 1, "unit_price": "0.01"}], "/items/0/unit_price"),
        ([{"product_id": 1, "quantity": 1}] * 101, "/items"),
    ],
)
def test_items_that_are_none_are_invalid(client, items, pointer):
    response = client.post(ORDERS, json={"user_id": UserFactory().id, "items": items})
    assert [*violations(response, 422)] == [pointer]


def test_an_order_without_items_is_invalid(client):
    assert violations(client.post(ORDERS, json={"user_id": UserFactory().id}), 422) == {
        "/items": "Missing data for required field."
    }


def test_a_total_that_is_too_large_is_invalid_and_takes_nothing(buy):
    dear = ProductFactory(price=Decimal("99999999.99"), stock_quantity=2)
    assert violations(buy((dear, 2)), 422) == {"/items": "The total is above 99999999.99."}
    assert stock(dear) == 2
    assert buy((dear, 1)).json["total_amount"] == "99999999.99"


def test_an_order_of_nothing_but_gifts_costs_nothing(buy):
    assert buy((ProductFactory(price=Decimal(0)), 1)).json["total_amount"] == "0.00"


@pytest.mark.parametrize("status", STATUSES[1:])
def test_a_new_order_is_pending(buy, status):
    product = ProductFactory()
    assert violations(buy((product, 1), status=status), 422) == {"/status": "A new order is pending."}
    assert stock(product) == 10
    assert buy((product, 1), status="pending").status_code == 201


def test_an_order_s_total_cannot_be_given(buy):
    assert violations(buy((ProductFactory(), 1), total_amount="0.01"), 422) == {"/total_amount": "Unknown field."}


# -- statuses


@pytest.mark.parametrize("after", STATUSES)
@pytest.mark.parametrize("before", STATUSES)
def test_a_status_follows_from_the_one_before_or_not(client, before, after):
    order = OrderFactory(status=before)
    response = client.patch(f"{ORDERS}/{order.id}", json={"status": after})
    if after == before or after in NEXT[before]:
        assert response.status_code == 200
        assert response.json["status"] == after
    else:
        assert f"After {before!r} comes" in violations(response, 409)["/status"]
        assert client.get(f"{ORDERS}/{order.id}").json["status"] == before


@pytest.mark.parametrize(
    ("status", "comes"),
    [
        ("pending", "only cancelled or processing, not 'delivered'."),
        ("shipped", "only delivered, not 'pending'."),
        ("cancelled", "nothing; this is final, not 'pending'."),
    ],
)
def test_a_refusal_says_what_would_be_possible(client, status, comes):
    order = OrderFactory(status=status)
    wanted = comes.split("'")[1]
    response = client.patch(f"{ORDERS}/{order.id}", json={"status": wanted})
    assert violations(response, 409) == {"/status": f"After {status!r} comes {comes}"}


def test_a_status_that_is_no_choice_is_invalid(client):
    order = OrderFactory()
    response = client.patch(f"{ORDERS}/{order.id}", json={"status": "lost"})
    assert violations(response, 422) == {
        "/status": "Must be one of: pending, processing, shipped, delivered, cancelled."
    }


def test_a_script_is_held_to_the_statuses_as_well(session):
    order = OrderFactory(status="delivered")
    order.status = "pending"
    with pytest.raises(ConflictError):
        session.flush()
    session.rollback()


def test_a_script_is_held_to_the_statuses_when_it_has_not_looked_at_the_order_yet(session):
    order = OrderFactory(status="delivered")
    session.expire(order)
    order.status = "pending"
    with pytest.raises(ConflictError):
        session.flush()
    session.rollback()


# -- cancelling


def test_cancelling_gives_the_stock_back_once(buy, client):
    product = ProductFactory(stock_quantity=5)
    url = buy((product, 2), (product, 1)).headers["Location"]
    assert stock(product) == 2
    for _ in range(2):
        assert client.patch(url, json={"status": "cancelled"}).status_code == 200
        assert stock(product) == 5


def test_cancelling_with_a_put_gives_the_stock_back_too(buy, client):
    product = ProductFactory(stock_quantity=5)
    url = buy((product, 2)).headers["Location"]
    assert client.put(url, json={"status": "cancelled"}).status_code == 200
    assert stock(product) == 5


def test_cancelling_an_order_in_process_gives_the_stock_back(buy, client):
    product = ProductFactory(stock_quantity=5)
    url = buy((product, 2)).headers["Location"]
    client.patch(url, json={"status": "processing"})
    assert stock(product) == 3
    client.patch(url, json={"status": "cancelled"})
    assert stock(product) == 5


def test_cancelling_gives_back_to_a_product_that_was_deleted_meanwhile(buy, client):
    product = ProductFactory(stock_quantity=5)
    url = buy((product, 2)).headers["Location"]
    client.delete(f"/api/v1/products/{product.id}")
    assert client.patch(url, json={"status": "cancelled"}).status_code == 200
    assert stock(product) == 5
    assert client.post(f"/api/v1/products/{product.id}/restore").json["stock_quantity"] == 5


def test_a_cancellation_that_is_refused_gives_nothing_back(buy, client):
    product = ProductFactory(stock_quantity=5)
    url = buy((product, 2)).headers["Location"]
    for status in ("processing", "shipped"):
        client.patch(url, json={"status": status})
    assert client.patch(url, json={"status": "cancelled"}).status_code == 409
    assert client.patch(url, json={"status": "cancelled"}, headers={"If-Match": '"1"'}).status_code == 412
    assert stock(product) == 3


# -- deleting


@pytest.mark.parametrize("status", STATUSES)
def test_an_order_that_holds_stock_cannot_be_deleted(client, status):
    order = OrderFactory(status=status)
    response = client.delete(f"{ORDERS}/{order.id}")
    if status in {"pending", "processing"}:
        assert response.status_code == 409
        assert response.json["detail"] == f"Order {order.id} is {status} and holds stock; cancel it first."
        assert client.get(f"{ORDERS}/{order.id}").status_code == 200
    else:
        assert response.status_code == 204


def test_items_go_with_an_order_that_is_removed_for_good(buy, session):
    buy((ProductFactory(), 1), (ProductFactory(), 1))
    order = session.scalars(select(Order)).one()
    session.delete(order)
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM order_items")) == 0


# -- from a script


def item_of(product, quantity=1):
    return {"product_id": product.id, "quantity": quantity}


def test_a_script_orders_in_a_transaction_of_its_own(session):
    product = ProductFactory(price=Decimal("2.50"))
    with transaction(session()):
        order = OrderService(Order, session()).create({"user_id": UserFactory().id, "items": [item_of(product, 4)]})
    assert order.total_amount == Decimal("10.00")
    assert stock(product) == 6


@pytest.mark.parametrize("items", [{}, {"items": []}])
def test_a_script_cannot_order_nothing(session, items):
    with pytest.raises(InvalidError) as caught, transaction(session()):
        OrderService(Order, session()).create({"user_id": UserFactory().id} | items)
    assert [violation.pointer for violation in caught.value.violations] == ["/items"]


def test_a_script_cannot_order_less_than_nothing(session):
    product = ProductFactory()
    with pytest.raises(InvalidError), transaction(session()):
        OrderService(Order, session()).create({"user_id": UserFactory().id, "items": [item_of(product, -5)]})
    assert stock(product) == 10


def test_an_order_that_fails_later_in_its_transaction_gives_the_stock_back(session):
    product, user = ProductFactory(), UserFactory()
    service = OrderService(Order, session())
    with pytest.raises(ConflictError), db.transaction():
        service.create({"user_id": user.id, "items": [item_of(product)]})
        service.create({"user_id": user.id, "items": [item_of(product, 100)]})
    assert stock(product) == 10
    assert session.query(OrderItem).count() == 0


# -- reading


def test_one_statement_shows_an_order_with_everything_around_it(client, statements, buy):
    location = buy((ProductFactory(name="Mug"), 1)).headers["Location"]
    with statements() as counted:
        shown = client.get(f"{location}?include=user.profile,items.product.category").json
    assert counted.count == 1
    assert shown["items"][0]["product"]["name"] == "Mug"
    assert shown["items"][0]["product"]["category"]["name"]
    assert shown["user"]["profile"] is None


def test_orders_are_found_by_what_they_hold(client, buy):
    mug, book = ProductFactory(), ProductFactory()
    first = buy((mug, 1), metadata={"country": "France"}).json
    buy((book, 5), metadata={"country": "Spain"})
    for query in (f"items.product_id={mug.id}", "items.quantity__lt=5", "metadata.country=France"):
        assert [order["id"] for order in client.get(f"{ORDERS}?{query}").json["items"]] == [first["id"]]


def test_a_put_has_to_say_the_status(client):
    order = OrderFactory(status="processing")
    refused = client.put(f"/api/v1/orders/{order.id}", json={})
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json["errors"]] == ["/status"]
    assert client.put(f"/api/v1/orders/{order.id}", json={"status": "shipped"}).json["status"] == "shipped"
