"""Upsert: insert, or change the live row that has the key; by attributes or by the name of an index."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from sqlalchemy import event, func, select, text

from api.core.database.session import transaction
from api.core.errors import ConflictError, InvalidError
from api.core.resource.repository import Repository
from api.core.resource.unique import unique_keys
from api.extensions import db
from api.resources.orders.models import OrderItem
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import Profile, User
from tests.factories import CategoryFactory, ProductFactory, ProfileFactory, TagFactory, UserFactory


@pytest.fixture
def products(session):
    del session
    return Repository(Product)


@pytest.fixture
def item(session):
    """`item("A", price=…)`: what a product needs."""
    del session
    category = CategoryFactory().id

    def make(sku, **values):
        return {"sku": sku, "name": f"Name of {sku}", "price": Decimal(1), "category_id": category, **values}

    return make


def stored(column="sku"):
    with db.engine.connect() as connection:
        return connection.scalars(text(f"SELECT {column} FROM products ORDER BY id")).all()  # noqa: S608


def pointers(caught):
    return [violation.pointer for violation in caught.value.violations]


def test_what_is_not_there_is_inserted_and_what_is_there_is_changed(products, item, session):
    there = ProductFactory(sku="B", stock_quantity=3)
    result = products.upsert([item("A"), item("B", price=Decimal(7)), item("C")], on="sku")
    session.commit()
    assert [(found.row.sku, found.inserted) for found in result] == [("A", True), ("B", False), ("C", True)]
    assert result[1].row is there
    assert (there.price, there.stock_quantity, there.version) == (Decimal(7), 3, 2)
    assert (result[0].row.version, result[0].row.metadata_, result[0].row.stock_quantity) == (1, {}, 0)
    assert sorted(stored()) == ["A", "B", "C"]


def test_nothing_to_upsert_is_nothing_done(products, statements):
    with statements() as counted:
        assert products.upsert([], on="sku") == []
    assert counted.count == 0


def test_the_key_is_compared_as_its_index_compares(products, item, session):
    there = ProductFactory(sku="mug-É")
    result = products.upsert([item("MUG-é", price=Decimal(7))], on="sku")
    session.commit()
    assert [found.inserted for found in result] == [False]
    assert stored() == ["MUG-é"]
    assert there.price == Decimal(7)


def test_the_index_may_be_given_by_its_name(products, item):
    ProductFactory(sku="A")
    assert [found.inserted for found in products.upsert([item("a")], on="uq_products_sku_live")] == [False]


def test_a_deleted_row_is_left_alone_and_a_live_one_is_made(products, item, session):
    gone = ProductFactory(sku="A")
    gone.soft_delete()
    session.commit()
    result = products.upsert([item("A")], on="sku")
    session.commit()
    assert result[0].inserted
    assert result[0].row.id != gone.id
    assert gone.is_deleted
    assert stored() == ["A", "A"]


def test_a_unique_constraint_serves_too(session):
    del session
    profile = ProfileFactory(country="France")
    user = UserFactory()
    rows = [{"user_id": profile.user_id, "country": "Spain"}, {"user_id": user.id, "country": "Italy"}]
    result = Repository(Profile).upsert(rows, on="user_id")
    assert [(found.row.country, found.inserted) for found in result] == [("Spain", False), ("Italy", True)]


def test_what_to_change_can_be_chosen(products, item, session):
    there = ProductFactory(sku="A", name="Kept", stock_quantity=1)
    products.upsert([item("A", stock_quantity=9)], on="sku", update=["stock_quantity"])
    session.commit()
    assert (there.name, there.stock_quantity) == ("Kept", 9)


def test_a_row_that_is_as_it_should_be_keeps_its_version(products, session):
    there = ProductFactory(sku="A", name="Same")
    before = there.updated_at
    products.upsert([{"sku": "A", "name": "Same", "category_id": there.category_id}], on="sku")
    session.commit()
    session.refresh(there)
    assert (there.version, there.updated_at) == (1, before)


def test_related_rows_are_set(products, item, session):
    tags = TagFactory.create_batch(2)
    ProductFactory(sku="B", tags=[tags[0]])
    result = products.upsert([item("A", tags=[tags[1]]), item("B", tags=[tags[1]])], on="sku")
    session.commit()
    assert [found.row.tags for found in result] == [[tags[1]], [tags[1]]]
    assert result[1].row.version == 2


def test_many_new_rows_take_a_handful_of_statements(products, item, session, statements):
    rows = [item(f"S{number}") for number in range(500)]
    with statements() as counted:
        result = products.upsert(rows, on="sku")
    assert all(found.inserted for found in result)
    assert counted.count <= 5
    session.commit()
    with statements() as counted:
        result = products.upsert(rows, on="sku")
    assert not any(found.inserted for found in result)
    assert counted.count <= 3


def test_rows_with_different_fields_may_stand_in_one_list(products, item):
    rows = [item("A"), item("B", description="Long.", stock_quantity=4), item("C", metadata_={"n": 1})]
    found = [found.row for found in products.upsert(rows, on="sku")]
    assert [(row.description, row.stock_quantity, row.metadata_) for row in found] == [
        (None, 0, {}),
        ("Long.", 4, {}),
        (None, 0, {"n": 1}),
    ]


# -- rules


def test_validators_hold_and_point_at_the_item(products, item):
    with pytest.raises(InvalidError) as caught:
        products.upsert([item("A"), item("B", price=Decimal(-1)), item("C", name="")], on="sku")
    assert pointers(caught) == ["/1/price", "/2/name"]
    assert stored() == []


def test_listeners_hold_for_the_insert_and_for_the_change(products, item, session):
    heard = []

    def listener(_mapper, _connection, target):
        heard.append(target.sku)

    ProductFactory(sku="B")
    for name in ("before_insert", "before_update"):
        event.listen(Product, name, listener)
    try:
        products.upsert([item("A"), item("B")], on="sku")
        session.commit()
    finally:
        for name in ("before_insert", "before_update"):
            event.remove(Product, name, listener)
    assert heard == ["A", "B"]


def test_one_key_twice_is_refused(products, item):
    with pytest.raises(InvalidError) as caught:
        products.upsert([item("A"), item("B"), item("a")], on="sku")
    assert pointers(caught) == ["/2/sku"]
    assert caught.value.detail == "The same as in item 0."


def test_an_item_without_the_key_is_refused(products, item):
    with pytest.raises(InvalidError) as caught:
        products.upsert([item("A"), item(None), {"name": "no sku"}], on="sku")
    assert pointers(caught) == ["/1/sku", "/2/sku"]


def test_another_unique_value_that_is_taken_is_a_conflict(session):
    del session
    UserFactory(username="ada", email="ada@example.com")
    with pytest.raises(ConflictError) as caught, db.transaction():
        Repository(User).upsert([{"username": "bob", "email": "ADA@example.com"}], on="username")
    assert pointers(caught) == ["/email"]


@pytest.mark.parametrize("on", ["skuu", "price", ["sku", "name"], "uq_product_sku_live"])
def test_a_key_that_is_none_is_refused_with_the_nearest(products, item, on):
    with pytest.raises(ValueError, match=r"Product: There is no unique key '.*'; did you mean|possible: id"):
        products.upsert([item("A")], on=on)


def test_the_keys_of_a_model_are_its_unique_indexes_constraints_and_primary_key():
    assert [key.attributes for key in unique_keys(User)] == [("id",), ("email",), ("username",)]
    assert [key.attributes for key in unique_keys(Profile)] == [("id",), ("user_id",)]
    assert [key.attributes for key in unique_keys(OrderItem)] == [("id",)]


# -- at the same time


def test_upserts_at_the_same_time_insert_each_row_once_and_never_deadlock(app, session):
    del session
    names = [f"tag {number}" for number in range(40)]
    results, errors = [], []
    barrier = threading.Barrier(4)

    def work(turn):
        rows = [{"name": name} for name in (names if turn % 2 else reversed(names))]
        try:
            with app.app_context():
                barrier.wait()
                with transaction(db.session()):
                    results.append(sum(found.inserted for found in Repository(Tag).upsert(rows, on="name")))
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(results) == 40
    with db.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Tag.__table__)) == 40
