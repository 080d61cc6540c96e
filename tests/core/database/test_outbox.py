"""The outbox: an event is there when its transaction is committed, and never was when that is undone."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

import select as sockets
import time
import uuid
from contextlib import closing, contextmanager

import psycopg2
import pytest
from sqlalchemy import delete, insert, make_url, select, text, update

from api.core.database.outbox import OutboxEvent, publish, unpublished
from api.extensions import db
from api.resources.orders.models import Order
from tests.factories import OrderFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")

ORDERS = "/api/v1/orders"


def events():
    """Topic and payload of every event that others see, in the order of publication."""
    with db.engine.connect() as connection:
        table = OutboxEvent.__table__
        return [tuple(row) for row in connection.execute(select(table.c.topic, table.c.payload).order_by("sequence"))]


def topics():
    return [topic for topic, _ in events()]


# -- exactly when the transaction commits


def test_an_event_is_there_once_its_transaction_is_committed_and_not_before():
    with db.transaction() as session:
        publish(session, "orders.paid", {"id": 1})
        assert events() == []
    assert events() == [("orders.paid", {"id": 1})]


def test_an_event_of_a_transaction_that_is_undone_never_was():
    with pytest.raises(ValueError, match="no"), db.transaction() as session:
        publish(session, "orders.paid", {})
        raise ValueError("no")
    assert events() == []


def test_the_events_of_a_savepoint_that_is_undone_never_were_and_the_others_are_there():
    with db.transaction() as session:
        publish(session, "before", {})
        with pytest.raises(ValueError, match="no"), db.transaction():
            publish(session, "lost", {})
            raise ValueError("no")
        publish(session, "after", {})
    assert topics() == ["before", "after"]


def test_an_event_has_a_uuid_of_version_7_and_a_place_in_the_sequence():
    with db.transaction() as session:
        ids = [publish(session, "a", {}), publish(session, "b", {})]
    assert [key.version for key in ids] == [7, 7]
    assert {key.variant for key in ids} == {uuid.RFC_4122}
    milliseconds = ids[0].int >> 80
    assert abs(milliseconds / 1000 - time.time()) < 60
    assert topics() == ["a", "b"]


@pytest.mark.parametrize("topic", ["", "Orders", "orders.", ".paid", "orders paid", "x" * 101, "orders\n"])
def test_what_is_no_topic_is_refused(topic):
    with pytest.raises(ValueError, match=r"orders\.paid"), db.transaction() as session:
        publish(session, topic, {})


# -- notifications


@contextmanager
def listening():
    """A connection that listens; call it for the number of notifications that have come by now."""
    url = make_url(db.engine.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("LISTEN outbox_events")

        def received(seconds):
            sockets.select([connection], [], [], seconds)
            connection.poll()
            number = len(connection.notifies)
            connection.notifies.clear()
            return number

        yield received


def test_listeners_are_told_at_the_commit_once_a_transaction():
    with listening() as received:
        with db.transaction() as session:
            publish(session, "a", {})
            publish(session, "b", {})
            assert received(0.1) == 0
        assert received(5) == 1


def test_listeners_are_not_told_of_what_is_undone():
    with listening() as received:
        with pytest.raises(ValueError, match="no"), db.transaction() as session:
            publish(session, "a", {})
            raise ValueError("no")
        assert received(0.1) == 0


def test_listeners_are_told_of_an_event_that_plain_sql_has_inserted():
    with listening() as received:
        with db.engine.begin() as connection:
            connection.execute(text("""INSERT INTO outbox_events (topic, payload) VALUES ('a', '{}')"""))
        assert received(5) == 1
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT id FROM outbox_events")).version == 7


# -- models that publish their changes


def test_an_order_publishes_what_happens_to_it_with_its_id_and_version(client):
    product, user = ProductFactory(), UserFactory()
    body = {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 1}]}
    created = client.post(ORDERS, json=body)
    url = created.headers["Location"]
    client.patch(url, json={"status": "cancelled"})
    client.delete(url)
    client.post(f"{url}/restore")
    key = created.json["id"]
    assert events() == [
        ("orders.created", {"id": key, "version": 1}),
        ("orders.updated", {"id": key, "version": 2}),
        ("orders.deleted", {"id": key, "version": 3}),
        ("orders.restored", {"id": key, "version": 4}),
    ]


def test_a_request_that_is_refused_publishes_nothing(client):
    order = OrderFactory(status="pending")
    with db.transaction() as session:
        session.execute(delete(OutboxEvent))
    assert client.delete(f"{ORDERS}/{order.id}").status_code == 409
    assert client.patch(f"{ORDERS}/{order.id}", json={"status": "delivered"}).status_code == 409
    assert client.patch(f"{ORDERS}/{order.id}", json={"metadata": {}}).status_code == 200
    assert events() == []


def test_models_that_do_not_ask_for_it_publish_nothing(client):
    assert client.post("/api/v1/tags", json={"name": "a"}).status_code == 201
    assert events() == []


@pytest.fixture
def orders(database):
    """Three orders, whose creation has been handled."""
    del database
    made = OrderFactory.create_batch(3)
    with db.transaction() as session:
        session.execute(delete(OutboxEvent))
    return sorted(str(order.id) for order in made)


def published():
    return sorted((topic, payload["id"]) for topic, payload in events())


def test_a_change_in_bulk_is_published_row_by_row(orders):
    with db.transaction() as session:
        session.execute(update(Order).values(metadata_={"changed": True}))
    assert published() == [("orders.updated", key) for key in orders]


def test_what_plain_sql_does_is_published_too(orders):
    with db.transaction() as session:
        session.execute(text("UPDATE orders SET deleted_at = now()"))
        session.execute(text("UPDATE orders SET deleted_at = NULL"))
    assert sorted(set(published())) == [(f"orders.{verb}", key) for verb in ("deleted", "restored") for key in orders]


def test_a_removal_for_good_is_a_deletion_unless_that_has_been_told(orders):
    with db.transaction() as session:
        session.execute(text("UPDATE orders SET deleted_at = now() WHERE id = CAST(:id AS uuid)"), {"id": orders[0]})
        session.execute(text("DELETE FROM orders"))
    assert published() == [("orders.deleted", key) for key in orders]


def test_rows_that_are_inserted_in_bulk_are_published():
    user = UserFactory()
    with db.transaction() as session:
        session.execute(insert(Order), [{"user_id": user.id, "total_amount": 1} for _ in range(3)])
    assert topics() == ["orders.created"] * 3


@pytest.mark.usefixtures("orders")
def test_what_is_loaded_from_elsewhere_can_be_kept_from_being_news_for_one_transaction():
    with db.transaction() as session:
        unpublished(session)
        session.execute(update(Order).values(metadata_={"loaded": True}))
        publish(session, "orders.loaded", {})
    with db.transaction() as session:
        session.execute(text("UPDATE orders SET metadata = '{}'"))
    assert topics() == ["orders.loaded"] + ["orders.updated"] * 3


def test_whoever_may_change_the_rows_need_not_be_allowed_to_write_events(orders):
    with db.owner_engine.begin() as connection:
        connection.execute(text("CREATE ROLE clerk"))
        connection.execute(text("GRANT SELECT, UPDATE ON orders TO clerk"))
    try:
        with db.owner_engine.begin() as connection:
            connection.execute(text("SET LOCAL ROLE clerk"))
            connection.execute(text("UPDATE orders SET status = 'shipped'"))
    finally:
        with db.owner_engine.begin() as connection:
            connection.execute(text("DROP OWNED BY clerk"))
            connection.execute(text("DROP ROLE clerk"))
    assert published() == [("orders.updated", key) for key in orders]
