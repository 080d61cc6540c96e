"""A new row is read in the message that inserts it; what the read has found holds until something else is sent."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO

import pytest
from sqlalchemy import event, inspect, text

from api.core.database import inserting
from api.core.database.session import transaction
from api.core.database.showing import Shown
from api.core.database.watchdog import WatchedCursor
from api.core.database.within import connection_of
from api.extensions import db
from api.resources.orders.models import Order, OrderItem
from api.resources.products.models import Product
from tests.factories import CategoryFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")

PRODUCT = "SELECT name, version FROM products WHERE id = %(key)s AND name <> %(other)s"
ORDER = (
    "SELECT status, (SELECT count(*) FROM order_items WHERE order_id = orders.id) AS items "
    "FROM orders WHERE id = %(key)s::uuid"
)


@pytest.fixture
def own(session):
    return session()


@pytest.fixture
def new_product():
    category = CategoryFactory()
    return lambda sku="a-1": Product(sku=sku, name="A", price=Decimal("1.50"), category_id=category.id)


@pytest.fixture
def new_order():
    products, user = ProductFactory.create_batch(3), UserFactory()

    def make(lines=3):
        items = [OrderItem(product_id=product.id, quantity=2, unit_price=Decimal(1)) for product in products[:lines]]
        return Order(user_id=user.id, total_amount=Decimal(6), items=items)

    return make


def shown_product(other=""):
    return Shown(PRODUCT, {"other": other})


def test_the_row_is_shown_with_what_the_database_has_filled_in(own, new_product):
    shown, product = shown_product(), new_product()
    with transaction(own):
        assert inserting.insert(own, product, shown)
        found = shown.found(connection_of(own), product.id)
    assert (found.name, found.version) == ("A", 1)
    assert inspect(product).persistent
    assert db.session.get(Product, product.id, populate_existing=True).sku == "a-1"


def test_what_else_the_database_fills_in_is_there_when_it_is_asked_for(own, new_product):
    product = new_product()
    with transaction(own):
        inserting.insert(own, product, shown_product())
        assert product.created_at == product.updated_at


def test_it_takes_one_message_with_all_that_belongs_to_the_row(own, new_order, monkeypatch):
    with transaction(own):
        inserting.insert(own, new_order(), Shown(ORDER, {}))
        shown, order, sent, execute = Shown(ORDER, {}), new_order(), [], WatchedCursor.execute
        monkeypatch.setattr(WatchedCursor, "execute", lambda *args: sent.append(args[1]) or execute(*args))
        inserting.insert(own, order, shown)
        assert shown.found(connection_of(own), order.id).items == 3
    assert len([message for message in sent if message != b"COMMIT"]) == 1


@pytest.mark.parametrize("lines", [1, 3])
def test_rows_that_belong_to_it_have_keys_in_their_order_also_of_the_second_one(own, new_order, lines):
    orders = [new_order(lines), new_order(lines)]
    with transaction(own):
        for order in orders:
            inserting.insert(own, order, Shown(ORDER, {}))
        items = [item for order in orders for item in order.items]
        known = [(item.id, item.order_id, item.product_id) for item in items]
    assert all(inspect(item).persistent for item in items)
    with db.engine.connect() as connection:
        stored = connection.execute(text("SELECT id, order_id, product_id FROM order_items ORDER BY id")).all()
    assert [(key, str(order), product) for key, order, product in stored] == [
        (key, str(order), product) for key, order, product in known
    ]


TWIN = """
CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.sku NOT LIKE 'twin%' THEN
        INSERT INTO products (sku, name, price, category_id) VALUES ('twin', 'twin', 1, NEW.category_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER twin AFTER INSERT ON products FOR EACH ROW EXECUTE FUNCTION twin()
"""


@pytest.fixture
def twins(database):
    """Each product is followed by another one."""
    del database
    with db.owner_engine.begin() as owner:
        owner.execute(text(TWIN))
    yield
    with db.owner_engine.begin() as owner:
        owner.execute(text("DROP FUNCTION twin() CASCADE"))


@pytest.mark.usefixtures("twins")
def test_a_trigger_that_writes_into_the_same_table_does_not_mix_them_up(own, new_product):
    shown, product = shown_product(), new_product()
    with transaction(own):
        inserting.insert(own, product, shown)
        assert shown.found(connection_of(own), product.id).name == "A"
        assert own.get(Product, product.id + 1).name == "twin"


def test_what_the_read_does_not_find_is_null(own, new_product):
    shown, product = shown_product(other="A"), new_product()
    with transaction(own):
        inserting.insert(own, product, shown)
        assert tuple(shown.found(connection_of(own), product.id)) == (None, None)


def update_many(session):
    session.execute(text("UPDATE products SET name = :name"), [{"name": "B"}, {"name": "C"}])


def copy_in(session):
    with session.connection().connection.cursor() as cursor:
        cursor.copy_expert("COPY tags (name) FROM STDIN", StringIO("new\n"))


def test_it_is_to_be_read_again_when_something_else_was_sent(own, new_product):
    shown, product = shown_product(), new_product()
    with transaction(own):
        inserting.insert(own, product, shown)
        own.execute(text("UPDATE products SET name = 'B'"))
        assert shown.found(connection_of(own), product.id) is None


@pytest.mark.parametrize("send", [update_many, copy_in])
def test_it_is_to_be_read_again_also_when_that_was_sent_past_a_single_statement(own, new_product, send):
    shown, product = shown_product(), new_product()
    with transaction(own):
        inserting.insert(own, product, shown)
        send(own)
        assert shown.found(connection_of(own), product.id) is None


def test_it_is_to_be_read_again_when_something_else_waits_to_be_sent(own, new_product):
    shown, product = shown_product(), new_product()
    with transaction(own):
        inserting.insert(own, product, shown)
        connection_of(own).run_later("UPDATE products SET name = %(name)s", {"name": "B"})
        assert shown.found(connection_of(own), product.id) is None


def test_another_row_has_not_been_shown(own, new_product):
    shown, product = shown_product(), new_product()
    with transaction(own):
        assert shown.found(connection_of(own), None) is None
        inserting.insert(own, product, shown)
        assert shown.found(connection_of(own), product.id + 1) is None


def test_a_row_that_is_left_to_the_unit_of_work_is_not_shown(own, new_product):
    shown, product = shown_product(), new_product()
    product.tags = []
    own.add(product)
    with transaction(own):
        assert not inserting.insert(own, product, shown)
        own.flush()
        assert shown.found(connection_of(own), product.id) is None


def test_what_a_listener_does_behind_the_insert_is_in_the_answer(client):
    category = CategoryFactory()

    def rename(_mapper, connection, target):
        connection.execute(text("UPDATE products SET name = 'renamed' WHERE id = :id"), {"id": target.id})

    event.listen(Product, "after_insert", rename)
    try:
        body = {"sku": "a", "name": "A", "price": "1.00", "category_id": category.id}
        answer = client.post("/api/v1/products", json=body)
    finally:
        event.remove(Product, "after_insert", rename)
    assert (answer.json["name"], answer.headers["ETag"]) == ("renamed", f'"{answer.json["id"]}-2"')


@pytest.mark.parametrize("path", ["products", "orders"])
def test_a_listener_behind_the_insert_sees_what_the_database_has_filled_in(client, path):
    product, user, seen = ProductFactory(), UserFactory(), []
    bodies = {
        "products": {"sku": "a", "name": "A", "price": "1.00", "category_id": product.category_id},
        "orders": {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 1}]},
    }

    def look(_mapper, _connection, target):
        seen.append(target.created_at)

    for model in (Product, Order):
        event.listen(model, "after_insert", look)
    try:
        answer = client.post(f"/api/v1/{path}", json=bodies[path])
    finally:
        for model in (Product, Order):
            event.remove(model, "after_insert", look)
    (created_at,) = seen
    assert answer.json["created_at"] == created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
