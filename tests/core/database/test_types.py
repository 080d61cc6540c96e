"""Column types: amounts are exact, documents keep what they are given."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import StatementError

from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from tests.factories import OrderFactory, ProductFactory

pytestmark = pytest.mark.usefixtures("database")


def document_of(order):
    """The document as another session reads it."""
    with db.engine.connect() as connection:
        return connection.scalar(select(Order.__table__.c.metadata).where(Order.__table__.c.id == order.id))


# -- money


@pytest.mark.parametrize("amount", ["0", "0.01", "0.10", "19.99", "99999999.99"])
def test_an_amount_comes_back_as_the_same_decimal(session, amount):
    product = ProductFactory(price=Decimal(amount))
    session.refresh(product)
    assert product.price == Decimal(amount)
    assert str(product.price) == f"{Decimal(amount):.2f}"


def test_amounts_add_up_to_the_cent(session):
    ProductFactory.create_batch(30, price=Decimal("0.10"))
    assert session.scalar(select(func.sum(Product.price))) == Decimal("3.00")


# -- documents


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": {"b": [1, 2, {"c": None}]}},
        {"": "", "ключ": "значение", "emoji": "🛒", "quote": '"\\/', "control": "\x01\n\t\x7f"},
        {"big": 2**63, "bigger": 10**40, "negative": -(2**70), "float": 0.1, "tiny": 5e-324, "yes": True},
    ],
)
def test_a_document_comes_back_as_it_was(session, document):
    order = OrderFactory(metadata_=document)
    session.refresh(order)
    assert order.metadata_ == document
    assert document_of(order) == document


def test_a_document_is_empty_where_none_is_given(session):
    order = OrderFactory()
    session.refresh(order)
    assert order.metadata_ == {}


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda document: document.update(b=2), {"a": 1, "b": 2}),
        (lambda document: document.__setitem__("a", 2), {"a": 2}),
        (lambda document: document.pop("a"), {}),
        (lambda document: document.clear(), {}),
        (lambda document: document.setdefault("c", 3), {"a": 1, "c": 3}),
    ],
)
def test_a_change_inside_a_document_is_saved(session, change, after):
    order = OrderFactory(metadata_={"a": 1})
    change(order.metadata_)
    session.commit()
    assert document_of(order) == after


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_is_refused(session, number):
    order = OrderFactory()
    order.metadata_["n"] = number
    with pytest.raises(StatementError, match="not JSON compliant"):
        session.flush()
    session.rollback()
    assert document_of(order) == {}


def test_a_document_is_an_object():
    with pytest.raises(ValueError, match="does not accept objects of type"):
        Order(metadata_=[1])


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        (Order.metadata_["status"].astext == "completed", True),
        (Order.metadata_["status"].astext == "open", False),
        (Order.metadata_.contains({"priority": "high"}), True),
        (Order.metadata_.contains({"priority": "low"}), False),
        (Order.metadata_["nested", "n"].as_integer() == 5, True),
        (Order.metadata_.has_key("priority"), True),
        (Order.metadata_.has_key("absent"), False),
    ],
)
def test_a_document_can_be_searched(session, condition, matches):
    OrderFactory(metadata_={"status": "completed", "priority": "high", "nested": {"n": 5}})
    assert (session.scalar(select(Order).where(condition)) is not None) is matches
