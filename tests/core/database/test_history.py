"""What triggers write of every change: whoever makes it, and however."""

from __future__ import annotations

import io
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase

from api.core.database.context import acting_as
from api.core.database.history import History, HistoryMixin, recorded_attributes, unrecorded
from api.core.database.mixins import INCLUDE_DELETED
from api.core.database.model import IntIDModel
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.users.models import User
from tests.callers import ADMIN
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    TagFactory,
    UserFactory,
)

COLUMNS = "category_id, sku, name, price"


def entries(row=None, *, table="products"):
    """What the history holds, oldest first, of one row or of a table."""
    db.session.rollback()
    wanted = History.table_name == (type(row).__tablename__ if row is not None else table)
    found = select(History).where(wanted).order_by(History.id)
    if row is not None:
        found = found.where(History.row_id == str(row.id))
    return db.session.scalars(found).all()


def last(row):
    return entries(row)[-1]


# -- each way of changing


def by_orm(session, product):
    product.name = "Cup"
    session.commit()


def by_bulk_statement(session, product):
    session.execute(update(Product).where(Product.id == product.id).values(name="Cup"))
    session.commit()


def by_core(_session, product):
    with db.engine.begin() as connection:
        connection.execute(update(Product.__table__).where(Product.__table__.c.id == product.id).values(name="Cup"))


def by_executemany(_session, product):
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE products SET name = %s WHERE id = %s", [("Cup", product.id), ("Cup", 0)])


def by_raw_sql(_session, product):
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE products SET name = 'Cup' WHERE id = :id"), {"id": product.id})


def by_the_driver(_session, product):
    raw = db.engine.raw_connection()
    raw.cursor().execute("UPDATE products SET name = 'Cup' WHERE id = %s AND name NOT LIKE '50%%'", [product.id])
    raw.commit()
    raw.close()


def by_server_side_cursor(_session, product):
    changed = text("SELECT 1"), text("UPDATE products SET name = 'Cup' WHERE id = :id")
    with db.engine.begin() as connection:
        connection.execute(changed[0], execution_options={"stream_results": True}).all()
        connection.execute(changed[1], {"id": product.id})


WAYS = [by_orm, by_bulk_statement, by_core, by_executemany, by_raw_sql, by_the_driver, by_server_side_cursor]


@pytest.mark.parametrize("change", WAYS)
def test_every_way_of_updating_is_recorded_with_actor_and_request(session, change):
    product = ProductFactory(name="Mug")
    with acting_as("user:17", "r-1"):
        change(session, product)
    entry = last(product)
    assert (entry.operation, entry.version) == ("update", 2)
    assert (entry.old["name"], entry.new["name"]) == ("Mug", "Cup")
    assert (entry.actor, entry.request_id) == ("user:17", "r-1")


@contextmanager
def copying(columns):
    """A buffer that is copied into products when the block ends."""
    data = io.StringIO()
    yield data
    data.seek(0)
    raw = db.engine.raw_connection()
    raw.cursor().copy_expert(f"COPY products ({columns}) FROM STDIN", data)
    raw.commit()
    raw.close()


@pytest.mark.usefixtures("database")
def test_copy_is_recorded():
    category = CategoryFactory()
    with acting_as("cli:import", "r-2"), copying(COLUMNS) as data:
        for number in range(3):
            data.write(f"{category.id}\tSKU-{number}\tMug\t9.90\n")
    found = entries()
    assert [(entry.operation, entry.new["sku"]) for entry in found] == [
        ("insert", "SKU-0"),
        ("insert", "SKU-1"),
        ("insert", "SKU-2"),
    ]
    assert {(entry.actor, entry.request_id) for entry in found} == {("cli:import", "r-2")}
    assert len({entry.transaction_id for entry in found}) == 1


def test_bulk_inserts_are_recorded(session):
    category = CategoryFactory()
    rows = [{"sku": f"S{n}", "name": "Mug", "price": Decimal(1), "category_id": category.id} for n in range(5)]
    with acting_as("user:1"):
        session.execute(insert(Product), rows)
        session.commit()
    assert [entry.actor for entry in entries()] == ["user:1"] * 5


def test_soft_delete_and_restore_are_recorded_as_the_updates_they_are(session):
    product = ProductFactory()
    with acting_as("user:1"):
        product.soft_delete()
        session.commit()
        product.restore()
        session.commit()
    _, deleted, restored = entries(product)
    assert (deleted.old["deleted_at"], restored.new["deleted_at"]) == (None, None)
    assert deleted.new["deleted_at"] == restored.old["deleted_at"] != None  # noqa: E711 - a chain
    assert (deleted.actor, restored.actor) == ("user:1", "user:1")


@pytest.mark.parametrize("how", ["orm", "statement", "sql"])
def test_a_hard_delete_is_recorded_with_the_row_as_it_was(session, how):
    product = ProductFactory(name="Mug")
    with acting_as("user:1", "r-1"):
        if how == "orm":
            session.delete(product)
        elif how == "statement":
            session.execute(delete(Product))
        else:
            session.execute(text("DELETE FROM products"))
        session.commit()
    entry = entries()[-1]
    assert (entry.operation, entry.row_id, entry.new) == ("delete", str(product.id), None)
    assert (entry.old["name"], entry.actor, entry.request_id) == ("Mug", "user:1", "r-1")


def test_what_a_cascade_removes_is_recorded(session):
    order = OrderFactory(items=[OrderItemFactory.build(product=ProductFactory())])
    item, key = order.items[0].id, order.id
    with acting_as("user:1"):
        session.execute(text("DELETE FROM orders"))
        session.commit()
    removed = entries(table="order_items")[-1]
    assert (removed.operation, removed.row_id, removed.actor) == ("delete", str(item), "user:1")
    assert entries(table="orders")[-1].row_id == str(key)


def test_what_truncate_removes_is_recorded_row_by_row(session, owner):
    order = OrderFactory(items=[OrderItemFactory.build(product=ProductFactory())])
    item, key, total = order.items[0].id, order.id, order.total_amount
    with acting_as("user:1", "r-1"):
        session.commit()
        owner.execute(text("TRUNCATE orders CASCADE"))
        owner.commit()
    removed = entries(table="order_items")[-1]
    assert (removed.operation, removed.row_id, removed.new) == ("delete", str(item), None)
    gone = entries(table="orders")[-1]
    assert (gone.operation, gone.row_id, gone.actor, gone.request_id) == ("delete", str(key), "user:1", "r-1")
    assert Decimal(str(gone.old["total_amount"])) == total
    assert gone.version == 1


def test_an_upsert_is_recorded_as_what_became_of_each_row(session):
    product = ProductFactory(sku="one")
    session.execute(
        text(
            "INSERT INTO products (category_id, sku, name, price) VALUES (:c, 'ONE', 'Cup', 1), (:c, 'two', 'Pot', 2) "
            "ON CONFLICT (lower(sku)) WHERE deleted_at IS NULL DO UPDATE SET name = excluded.name"
        ),
        {"c": product.category_id},
    )
    session.commit()
    assert [(entry.operation, entry.new["name"]) for entry in entries()[1:]] == [("update", "Cup"), ("insert", "Pot")]


def test_a_change_that_is_rolled_back_leaves_nothing(session):
    product = ProductFactory()
    product.name = "Cup"
    session.flush()
    session.rollback()
    assert len(entries(product)) == 1


def test_a_change_in_a_savepoint_that_is_rolled_back_leaves_nothing(session):
    product = ProductFactory()
    with acting_as("user:1"):
        savepoint = session.begin_nested()
        session.execute(text("UPDATE products SET name = 'Cup'"))
        savepoint.rollback()
        session.execute(text("UPDATE products SET name = 'Pot'"))
        session.commit()
    assert [(entry.new["name"], entry.actor) for entry in entries(product)[1:]] == [("Pot", "user:1")]


def test_an_update_that_changes_nothing_is_not_recorded(session):
    product = ProductFactory()
    session.execute(text("UPDATE products SET name = name"))
    session.commit()
    assert len(entries(product)) == 1


def test_a_change_of_the_version_alone_is_recorded_so_that_every_version_has_its_entry(session):
    product = ProductFactory()
    product.tags = [TagFactory()]
    session.execute(text("UPDATE products SET updated_at = now() + interval '1 second'"))
    session.commit()
    assert [entry.version for entry in entries(product)] == [1, 2]


# -- what is recorded


def test_secrets_and_what_is_computed_never_get_into_the_history(session):
    user = UserFactory(password_hash="secret")
    user.password_hash = "other"
    session.commit()
    session.execute(text("DELETE FROM users"))
    session.commit()
    for entry in entries(table="users"):
        for state in (entry.old, entry.new):
            assert state is None or not {"password_hash", "search_vector"} & set(state)
    assert unrecorded(User.__table__) == ("password_hash", "search_vector")
    assert "password_hash" not in recorded_attributes(User)


@pytest.mark.usefixtures("database")
def test_all_else_is_recorded_as_the_column_holds_it():
    product = ProductFactory(price=Decimal("12.50"), metadata_={"size": {"cm": 9}})
    state = last(product).new
    assert set(state) == {column.name for column in Product.__table__.columns} - {"search_vector"}
    assert (state["metadata"], str(state["price"])) == ({"size": {"cm": 9}}, "12.5")


def test_a_mistyped_secret_is_refused_when_the_model_is_declared():
    class Own(DeclarativeBase):
        pass

    with pytest.raises(ValueError, match=r"Safe.__unrecorded__ names \['pasword'\], which are no columns of safes"):

        class Safe(IntIDModel, HistoryMixin, Own):
            __tablename__ = "safes"
            __unrecorded__ = ("pasword",)


# -- who did it


@pytest.mark.usefixtures("database")
def test_sql_that_nobody_answers_for_is_attributed_to_the_database_role():
    role = db.session.scalar(text("SELECT session_user"))
    assert last(ProductFactory()).actor == f"db:{role}"


def test_a_role_that_may_write_a_table_needs_no_right_to_its_history(owner):
    product = ProductFactory()
    session = owner
    session.execute(text("CREATE ROLE clerk"))
    session.execute(text("GRANT SELECT, UPDATE ON products TO clerk"))
    session.commit()
    try:
        session.execute(text("SET LOCAL ROLE clerk"))
        session.execute(text("UPDATE products SET name = 'Cup'"))
        session.commit()
        assert last(product).new["name"] == "Cup"
    finally:
        session.execute(text("DROP OWNED BY clerk"))
        session.execute(text("DROP ROLE clerk"))
        session.commit()


def test_what_a_request_changes_bears_its_sender_and_its_id(client):
    category = CategoryFactory()
    client.patch(f"/api/v1/categories/{category.id}", json={"name": "Cups"}, headers={"X-Request-ID": "r-3"})
    entry = last(category)
    assert (entry.actor, entry.request_id) == (ADMIN.name, "r-3")


def test_commands_are_named(database):
    outcome = database.test_cli_runner().invoke(args=["seed", "--users", "2", "--products", "2", "--orders", "2"])
    assert outcome.exit_code == 0, outcome.output
    for table in ("users", "products", "orders", "order_items"):
        assert {entry.actor for entry in entries(table=table)} == {"cli:seed"}


def test_the_time_is_that_of_the_transaction(session):
    category = CategoryFactory()
    at = session.scalar(text("SELECT now()"))
    category.name = "Cups"
    session.commit()
    assert last(category).at == at


def test_an_order_has_one_transaction_for_all_that_it_changes(client):
    product, user = ProductFactory(stock_quantity=5), UserFactory()
    body = {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 2}]}
    order = client.post("/api/v1/orders", json=body).json["id"]
    found = [*entries(table="orders"), *entries(table="order_items"), entries(product)[-1]]
    assert [entry.operation for entry in found] == ["insert", "insert", "update"]
    assert len({entry.transaction_id for entry in found}) == 1
    assert (found[0].row_id, found[2].new["stock_quantity"]) == (order, 3)
    assert db.session.get(Order, order, execution_options={INCLUDE_DELETED: True}) is not None
