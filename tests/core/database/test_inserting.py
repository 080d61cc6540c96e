"""A row that stands alone is inserted past the unit of work, and nobody can tell."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import event, func, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import UOWTransaction

from api.core.database import inserting
from api.core.database.history import History
from api.core.database.session import transaction
from api.core.database.watchdog import PING, WatchedCursor
from api.core.errors import ConflictError, InvalidError
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.orders.models import Order, OrderItem
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from tests.factories import CategoryFactory, ProductFactory, TagFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def own(session):
    return session()


@pytest.fixture
def product():
    category = CategoryFactory()
    return Product(sku="a-1", name="A", price=Decimal("1.50"), category_id=category.id)


@pytest.fixture
def insert(monkeypatch):
    """`insert(session, row)`: past the unit of work, or the test fails."""

    def past_it(session, row):
        with monkeypatch.context() as patch:
            patch.setattr(UOWTransaction, "execute", lambda _: pytest.fail("the unit of work was at it"))
            assert inserting.insert(session, row)

    return past_it


def test_the_row_is_stored_and_its_defaults_are_known(own, product, insert):
    with transaction(own):
        insert(own, product)
        assert inspect(product).persistent
        known = {**vars(product)}
    stored = db.session.get(Product, product.id, populate_existing=True)
    for name in ("id", "price", "description", "stock_quantity", "metadata_", "created_at", "updated_at", "version"):
        assert known[name] == getattr(stored, name), name
    assert (known["version"], known["stock_quantity"], known["metadata_"]) == (1, 0, {})


def test_the_session_of_the_context_will_do(session, product):
    with transaction(session):
        assert inserting.insert(session, product)
    assert session.scalars(select(Product)).all() == [product]


def test_it_is_one_statement(own, product, insert, statements):
    with transaction(own):
        own.connection()
        with statements() as counted:
            insert(own, product)
        assert counted.count == 1


def test_a_key_that_python_makes_is_known(own, insert):
    order = Order(user_id=UserFactory().id, total_amount=Decimal(0))
    with transaction(own):
        insert(own, order)
    assert isinstance(order.id, uuid.UUID)
    assert (order.status, order.metadata_) == ("pending", {})


def test_the_row_is_found_by_its_key_without_asking(own, product, insert, statements):
    with transaction(own):
        insert(own, product)
        with statements() as counted:
            assert own.get(Product, product.id) is product
        assert counted.count == 0


def test_later_changes_are_seen_and_saved(own, product, insert):
    with transaction(own):
        insert(own, product)
        assert product not in own.dirty
        product.name = "B"
        product.metadata_["inside"] = {"a": 1}
    assert product.version == 2
    stored = own.execute(select(Product.__table__.c.name, Product.__table__.c.metadata)).one()
    assert stored == ("B", {"inside": {"a": 1}})


def test_listeners_may_refuse_it_and_the_session_goes_on(own, product):
    product.price = Decimal(-1)
    with transaction(own):
        with pytest.raises(InvalidError):
            inserting.insert(own, product)
        assert inspect(product).transient
        own.add(Tag(name="other"))
    assert own.scalar(select(func.count()).select_from(Product)) == 0


def test_listeners_before_and_after_are_called_once(own, product, insert):
    seen = []

    def note(_mapper, connection, target):
        seen.append((connection.in_transaction(), target.id is None, target in own))

    event.listen(Product, "before_insert", note)
    event.listen(Product, "after_insert", note)
    try:
        with transaction(own):
            insert(own, product)
    finally:
        event.remove(Product, "before_insert", note)
        event.remove(Product, "after_insert", note)
    assert seen == [(True, True, True), (True, False, True)]


def test_what_the_database_refuses_is_said_as_always(own, product):
    taken = ProductFactory(sku="A-1")
    with pytest.raises(ConflictError) as caught, transaction(own):
        inserting.insert(own, product)
    assert [violation.pointer for violation in caught.value.violations] == ["/sku"]
    assert own.scalars(select(Product)).all() == [taken]


def test_a_rollback_undoes_it_for_the_session_too(own, product, insert):
    with transaction(own):
        savepoint = own.begin_nested()
        insert(own, product)
        savepoint.rollback()
        assert inspect(product).transient
        assert product not in own
    assert own.scalar(select(func.count()).select_from(Product)) == 0


def test_what_waits_in_the_session_is_written_before(own):
    with transaction(own):
        own.add(Tag(name="first"))
        assert inserting.insert(own, Tag(name="second"))
    assert own.scalars(select(Tag.name).order_by(Tag.id)).all() == ["first", "second"]


def test_history_tells_of_it(own, product, insert):
    with transaction(own):
        insert(own, product)
    entry = own.scalars(select(History).where(History.table_name == "products")).one()
    assert (entry.operation, entry.row_id, entry.new["sku"]) == ("insert", str(product.id), "a-1")


# -- rows that belong to it -------------------------------------------------------------------------------------------


@pytest.fixture
def order():
    products = ProductFactory.create_batch(3)
    lines = [OrderItem(product_id=product.id, quantity=2, unit_price=Decimal("1.25")) for product in products]
    return Order(user_id=UserFactory().id, total_amount=Decimal("7.50"), items=lines)


def test_its_list_goes_along_in_one_message(own, order, insert, monkeypatch):
    with transaction(own):
        insert(own, order)
        own.commit()
    other = Order(user_id=order.user_id, total_amount=1)
    other.items = [OrderItem(product_id=line.product_id, quantity=1, unit_price=1) for line in order.items]
    sent, plain = [], WatchedCursor.execute
    monkeypatch.setattr(WatchedCursor, "execute", lambda self, *args: (sent.append(args[0]), plain(self, *args))[1])
    with transaction(own):
        insert(own, other)
    assert len([message for message in sent if message not in {PING, b"COMMIT"}]) == 1


def test_the_rows_of_the_list_have_keys_in_their_order(own, order, insert):
    with transaction(own):
        insert(own, order)
        items = [*order.items]
    assert [item.id for item in items] == sorted(item.id for item in items)
    assert all(item.order is order and item.order_id == order.id and inspect(item).persistent for item in items)
    own.expire_all()
    assert [(item.id, item.product_id, item.quantity) for item in order.items] == [
        (item.id, item.product_id, item.quantity) for item in items
    ]
    assert order.version == 1


def test_what_the_database_has_filled_in_is_there_when_asked_for(own, order, insert):
    with transaction(own):
        insert(own, order)
        assert order.created_at == order.items[0].created_at


@pytest.mark.parametrize("count", [1, 2])
def test_a_list_may_be_short_and_its_rows_unlike(own, order, insert, count):
    order.items = order.items[:count]
    order.items[0].created_at = datetime(2020, 1, 1, tzinfo=UTC)
    with transaction(own):
        insert(own, order)
    own.expire_all()
    assert [item.created_at.year == 2020 for item in order.items] == [True, False][:count]


def test_a_row_of_the_list_that_is_refused_leaves_nothing(own, order):
    order.items[2].quantity = 0
    with transaction(own):
        with pytest.raises(InvalidError):
            inserting.insert(own, order)
        assert not {order, *order.items} & {*own, *own.new}
    assert own.scalar(select(func.count()).select_from(Order)) == 0


def test_what_the_database_refuses_of_the_row_is_told_behind_its_list(own, order):
    order.user_id = 4711
    with pytest.raises(InvalidError) as caught, transaction(own):
        inserting.insert(own, order)
    assert [violation.pointer for violation in caught.value.violations] == ["/user_id"]


# -- what is for the unit of work -------------------------------------------------------------------------------------


def test_a_row_with_rows_that_it_does_not_own_is_left_to_the_unit_of_work(own, product):
    tag = TagFactory()
    with own.no_autoflush:
        product.tags = [tag]
        assert not inserting.insert(own, product)
    product.tags = []


def test_a_row_whose_key_is_counted_by_the_database_is_left_to_the_unit_of_work_with_its_list(own, product):
    assert not inserting.insert(own, Category(name="c", products=[product]))


def test_a_list_of_rows_that_refer_to_others_is_left_to_the_unit_of_work(own, order):
    order.items[1].product = ProductFactory()
    assert not inserting.insert(own, order)
    own.expunge_all()


def test_a_row_with_sql_for_a_value_is_left_to_the_unit_of_work(own):
    assert not inserting.insert(own, Tag(name=func.lower("A")))


def test_a_row_that_the_session_has_already_is_left_to_the_unit_of_work(own, product):
    own.add(product)
    assert not inserting.insert(own, product)
    own.expunge(product)


def test_a_session_whose_flushes_somebody_watches_is_left_to_the_unit_of_work(product):
    with Session(db.engine) as watched:
        event.listen(watched, "before_flush", lambda *_: None)
        assert not inserting.insert(watched, product)


def test_a_row_whose_default_depends_on_the_others_is_left_to_the_unit_of_work(own, product, monkeypatch):
    depends = Product.__table__.c.stock_quantity.default
    monkeypatch.setattr(depends, "arg", lambda context: context.get_current_parameters()["price"])
    monkeypatch.setattr(type(depends), "is_callable", True)
    assert not inserting.insert(own, product)
    assert inspect(product).transient
