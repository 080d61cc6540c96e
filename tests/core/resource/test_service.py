"""A service: the rules around a repository, for any caller; whoever calls it owns the transaction."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

import uuid
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from api.core.database.session import STRICT_LOADING, transaction
from api.core.database.watchdog import WatchedCursor
from api.core.errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from api.core.resource.service import Service
from api.extensions import db
from api.resources.orders.models import OrderItem
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from tests.factories import CategoryFactory, OrderFactory, ProductFactory, TagFactory


@pytest.fixture
def products(session):
    return Service(Product, session(), {"tag_ids": "tags"})


@pytest.fixture
def data(session):
    """What a new product needs."""
    del session
    return {"sku": "MUG-1", "name": "Mug", "price": Decimal("9.99"), "category_id": CategoryFactory().id}


def pointers(error):
    return [violation.pointer for violation in error.violations]


def stored_products():
    with db.engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM products"))


@contextmanager
def sent_messages():
    """What goes to the database."""
    with pytest.MonkeyPatch.context() as patch:
        sent, execute = [], WatchedCursor.execute
        patch.setattr(WatchedCursor, "execute", lambda *args: sent.append(args[1]) or execute(*args))
        yield sent


# -- create


def test_create_inserts_a_row(products, data):
    product = products.create(data)
    assert product.id
    assert (product.name, product.stock_quantity, product.version) == ("Mug", 0, 1)


def test_create_turns_keys_into_related_rows(products, data):
    tags = TagFactory.create_batch(2)
    product = products.create(data | {"tag_ids": [tags[1].id, tags[0].id, tags[1].id]})
    assert set(product.tags) == set(tags)


def test_create_refuses_a_parent_that_is_not_there(products, data):
    with pytest.raises(InvalidError) as caught:
        products.create(data | {"category_id": 999})
    assert pointers(caught.value) == ["/category_id"]
    assert caught.value.detail == "There is no category 999."


def test_create_refuses_a_parent_that_is_deleted(products, data):
    category = CategoryFactory()
    category.soft_delete()
    products.session.commit()
    with pytest.raises(InvalidError) as caught:
        products.create(data | {"category_id": category.id})
    assert pointers(caught.value) == ["/category_id"]


def test_create_names_every_related_row_that_is_not_there(products, data):
    live, gone = TagFactory(), TagFactory()
    gone.soft_delete()
    products.session.commit()
    with pytest.raises(InvalidError) as caught:
        products.create(data | {"category_id": 999, "tag_ids": [live.id, gone.id, 0]})
    assert pointers(caught.value) == ["/category_id", "/tag_ids/1", "/tag_ids/2"]


def test_create_refuses_a_value_that_breaks_a_rule(products, data):
    with pytest.raises(InvalidError) as caught:
        products.create(data | {"price": Decimal(-1)})
    assert pointers(caught.value) == ["/price"]


def test_create_refuses_a_value_that_is_taken(products, data):
    ProductFactory(sku="mug-1")
    with pytest.raises(ConflictError) as caught, db.transaction():
        products.create(data)
    assert pointers(caught.value) == ["/sku"]


def test_a_parent_cannot_be_deleted_between_the_check_that_it_is_there_and_the_insert(products, data):
    products.prepared(data)
    with Session(db.engine) as other:
        other.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            other.execute(text("SELECT * FROM categories FOR UPDATE"))


def test_two_transactions_may_refer_to_the_same_parent_at_once(products, data):
    products.create(data)
    with Session(db.engine) as other, transaction(other):
        other.execute(text("SET LOCAL lock_timeout = '500ms'"))
        Service(Product, other).create(data | {"sku": "other"})
    assert stored_products() == 1


# -- what is looked for in front of the next statement


@pytest.fixture
def waiting(products):
    products.asks_later = True
    return products


def test_a_parent_that_is_asked_about_later_costs_no_message_of_its_own(waiting, data, statements):
    with transaction(waiting.session):
        waiting.create(data)
        with sent_messages() as sent, statements() as counted:
            waiting.create(data | {"sku": "other"})
    assert (len(sent), counted.count) == (1, 2)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_parent_that_is_asked_about_later_is_refused_by_the_next_statement(waiting, data, is_deleted):
    key = 999
    if is_deleted:
        category = CategoryFactory()
        category.soft_delete()
        waiting.session.commit()
        key = category.id
    with pytest.raises(InvalidError) as caught, transaction(waiting.session):
        waiting.prepared(data | {"category_id": key})
        waiting.session.scalars(select(Product)).all()
        pytest.fail("was not refused")
    assert [(one.pointer, one.detail) for one in caught.value.violations] == [
        ("/category_id", f"There is no category {key}.")
    ]


def test_a_parent_that_is_asked_about_later_is_refused_by_the_commit_at_the_latest(waiting, data):
    with pytest.raises(InvalidError), transaction(waiting.session):
        waiting.prepared(data | {"category_id": 999})


def test_a_parent_that_is_asked_about_later_is_forgotten_with_its_transaction(waiting, data):
    with pytest.raises(ZeroDivisionError), transaction(waiting.session):
        waiting.prepared(data | {"category_id": 999})
        raise ZeroDivisionError
    with transaction(waiting.session):
        assert waiting.create(data).id


def test_every_parent_that_is_not_there_is_named_also_later(session):
    service = Service(OrderItem, session())
    service.asks_later = True
    key = uuid.UUID(int=1)
    with pytest.raises(InvalidError) as caught, transaction(service.session):
        service.create({"order_id": key, "product_id": 999, "quantity": 1, "unit_price": 1})
    assert [violation.detail for violation in caught.value.violations] == [
        f"There is no order {key}.",
        "There is no product 999.",
    ]


def test_a_parent_that_is_asked_about_later_cannot_be_deleted_any_more(waiting, data):
    with transaction(waiting.session) as own, Session(db.engine) as other:
        waiting.prepared(data)
        own.execute(text("SELECT 1"))
        other.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            other.execute(text("SELECT * FROM categories FOR UPDATE"))


# -- update


def test_update_changes_the_named_attributes_and_no_others(products):
    product = ProductFactory(name="Mug", stock_quantity=3)
    products.update(product, {"name": "Cup"})
    products.session.refresh(product)
    assert (product.name, product.stock_quantity, product.version) == ("Cup", 3, 2)


def test_update_replaces_related_rows(products):
    old, kept, new = TagFactory.create_batch(3)
    product = ProductFactory(tags=[old, kept])
    products.update(product, {"tag_ids": [kept.id, new.id]})
    products.session.refresh(product)
    assert [tag.id for tag in product.tags] == [kept.id, new.id]


def test_update_of_related_rows_writes_the_difference_only(products):
    old, kept, new = TagFactory.create_batch(3)
    product = ProductFactory(tags=[old, kept])
    since = text("SELECT created_at FROM product_tags WHERE tag_id = :tag")
    before = products.session.scalar(since, {"tag": kept.id})
    products.session.commit()
    products.update(product, {"tag_ids": [kept.id, new.id]})
    assert products.session.scalar(since, {"tag": kept.id}) == before
    assert products.session.scalar(since, {"tag": old.id}) is None


def test_a_change_of_related_rows_alone_moves_time_and_version(products):
    product = ProductFactory()
    before = product.updated_at
    products.update(product, {"tag_ids": [TagFactory().id]})
    products.session.refresh(product)
    assert product.version == 2
    assert product.updated_at > before


def test_update_needs_no_lazy_load(products):
    key = ProductFactory(tags=[TagFactory()]).id
    tag = TagFactory().id
    products.session.expunge_all()
    products.session.info[STRICT_LOADING] = True
    product = products.locked(key)
    products.update(product, {"tag_ids": [tag], "category_id": product.category_id})
    assert [item.id for item in product.tags] == [tag]


def test_update_refuses_a_parent_that_is_not_there(products):
    with pytest.raises(InvalidError) as caught:
        products.update(ProductFactory(), {"category_id": 999})
    assert pointers(caught.value) == ["/category_id"]


def test_a_relation_that_was_replaced_does_not_come_back_with_a_restore(products):
    live, gone = TagFactory(), TagFactory()
    product = ProductFactory(tags=[live, gone])
    gone.soft_delete()
    products.session.commit()
    products.update(product, {"tag_ids": []})
    gone.restore()
    products.session.commit()
    products.session.refresh(product)
    assert product.tags == []


# -- delete, restore


def test_delete_and_restore(products):
    product = ProductFactory()
    products.delete(product)
    assert products.repository.get(product.id) is None
    products.restore(product)
    assert products.repository.get(product.id) is product


# -- locked


def test_locked_finds_and_locks_a_row(products):
    product = ProductFactory()
    assert products.locked(product.id) is product
    with db.engine.connect() as other:
        skipping = other.execute(text("SELECT id FROM products FOR UPDATE SKIP LOCKED"))
        assert skipping.all() == []


def test_locked_checks_the_version_when_it_is_given(products):
    product = ProductFactory()
    assert products.locked(product.id, versions={1, 7}) is product
    with pytest.raises(PreconditionFailedError):
        products.locked(product.id, versions={2})


def test_locked_finds_a_deleted_row_when_asked(products):
    product = ProductFactory()
    products.delete(product)
    with pytest.raises(NotFoundError):
        products.locked(product.id)
    assert products.locked(product.id, include_deleted=True) is product


# -- transactions


@pytest.mark.parametrize(
    "write",
    [
        lambda service, data: service.create(data),
        lambda service, data: service.update(service.create(data), {"name": "other"}),
        lambda service, data: service.delete(service.create(data)),
    ],
)
def test_a_service_never_commits(products, data, write):
    write(products, data)
    assert stored_products() == 0
    products.session.rollback()
    assert products.repository.count() == 0


def test_a_script_uses_a_service_with_a_session_of_its_own(data):
    with Session(db.engine) as session, transaction(session):
        Service(Product, session).create(data)
    assert stored_products() == 1


def test_several_services_share_one_transaction(data):
    with pytest.raises(InvalidError), db.transaction() as session:
        Service(Tag, session).create({"name": "lost"})
        Service(Product, session).create(data | {"price": Decimal(-1)})
    assert db.session.scalars(select(Tag)).all() == []


class ShoutingService(Service[Tag]):
    """A rule of its own."""

    def prepared(self, data):
        values = super().prepared(data)
        return values | {"name": values["name"].upper()}


def test_a_subclass_adds_rules_to_create_and_update(session):
    service = ShoutingService(Tag, session())
    tag = service.create({"name": "sale"})
    assert tag.name == "SALE"
    assert service.update(tag, {"name": "new"}).name == "NEW"


def test_keys_of_a_uuid_parent_are_checked_as_well(session):
    order, product = OrderFactory(status="delivered"), ProductFactory()
    item = {"order_id": order.id, "product_id": product.id, "quantity": 1, "unit_price": 1}
    assert Service(OrderItem, session()).create(item).id
    order.soft_delete()
    session.commit()
    with pytest.raises(InvalidError) as caught:
        Service(OrderItem, session()).create(item)
    assert pointers(caught.value) == ["/order_id"]
