"""Behind a pooler whose server connections change hands with every transaction."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from api.core.access.caller import Caller
from api.core.database import pooler as poolers
from api.core.database.consumer import Consumer
from api.core.database.engine import engine_options
from api.core.database.history import History
from api.core.database.reading import ReadConnection
from api.extensions import db
from tests.apps import create_app
from tests.callers import as_caller
from tests.factories import ProductFactory, UserFactory
from tests.pooler import Pooler

pytestmark = pytest.mark.usefixtures("database")

ORDERS = "/api/v1/orders"
SERVERS = 2
PREPARED = "SELECT count(*) FROM pg_prepared_statements"
DOUBLED = "SELECT %(number)s::integer * 2 AS doubled"


@pytest.fixture
def pooler(settings):
    with Pooler(settings.database_url, SERVERS) as pooler:
        yield pooler


@pytest.fixture
def engine(settings, pooler):
    engine = create_engine(pooler.url, **engine_options(settings))
    yield engine
    engine.dispose()


@pytest.fixture
def behind(settings, pooler):
    """The application."""
    app = create_app(replace(settings, database_url=pooler.url))
    yield app
    with app.app_context():
        db.engine.dispose()


def doubled(engine, number):
    with ReadConnection(engine) as connection:
        return connection.exec_driver_sql(DOUBLED, {"number": number}).scalar_one()


def test_a_connection_knows_that_its_server_process_is_not_its_own(engine):
    with engine.connect() as connection:
        assert not connection.connection.driver_connection.is_direct


def test_reads_are_right_whichever_server_connection_they_meet_and_end_up_prepared_on_each(engine, pooler):
    assert [doubled(engine, number) for number in range(8)] == [number * 2 for number in range(8)]
    assert pooler.on_each(PREPARED) == [["1"]] * SERVERS


def test_reads_stay_right_when_another_client_has_everything_forgotten(engine, pooler):
    doubled(engine, 1), doubled(engine, 1)
    pooler.on_each("DEALLOCATE ALL")
    assert [doubled(engine, number) for number in range(4)] == [0, 2, 4, 6]


def test_nothing_of_who_is_acting_is_left_on_a_server_connection(behind, pooler):
    owner = UserFactory()
    client = as_caller(behind.test_client(), Caller(f"user:{owner.id}", user_id=owner.id))
    product = ProductFactory(stock_quantity=5)
    assert client.post(ORDERS, json={"items": [{"product_id": product.id, "quantity": 1}]}).status_code == 201
    assert [len(client.get(ORDERS).json["items"]) for _ in range(3)] == [1, 1, 1]
    for setting in ("app.user_id", "app.unrestricted", "app.actor", "app.request_id"):
        assert pooler.on_each(f"SELECT coalesce(current_setting('{setting}', true), '')") == [[""]] * SERVERS
    assert pooler.on_each("SELECT current_user = session_user") == [["t"]] * SERVERS
    assert pooler.on_each("SELECT count(*) FROM orders") == [["0"]] * SERVERS


def test_many_callers_at_once_see_their_own_rows_and_are_named_in_the_history(behind):
    owners = UserFactory.create_batch(4)
    product = ProductFactory(stock_quantity=1000)
    together = Barrier(len(owners))

    def order_and_look(owner):
        client = as_caller(behind.test_client(), Caller(f"user:{owner.id}", user_id=owner.id))
        wanted = {"items": [{"product_id": product.id, "quantity": 1}]}
        together.wait()
        made, seen = {}, []
        for number in range(8):
            request_id = f"request-{owner.id}-{number}"
            answer = client.post(ORDERS, json=wanted, headers={"X-Request-ID": request_id})
            assert answer.status_code == 201, answer.text
            made[answer.json["id"]] = request_id
            seen.append({item["id"] for item in client.get(f"{ORDERS}?limit=100").json["items"]} == made.keys())
            assert client.get(f"/api/v1/products/{product.id}").json["id"] == product.id
        return owner.id, made, seen

    with ThreadPoolExecutor(len(owners)) as pool:
        done = [*pool.map(order_and_look, owners)]
    assert all(all(seen) for _, _, seen in done)
    query = select(History.row_id, History.actor, History.request_id).where(History.table_name == "orders")
    with db.owner_engine.connect() as connection:
        noted = {row_id: (actor, request_id) for row_id, actor, request_id in connection.execute(query)}
    assert noted == {key: (f"user:{owner}", request_id) for owner, made, _ in done for key, request_id in made.items()}


def test_files_go_both_ways(behind):
    client = behind.test_client()
    category = ProductFactory().category_id
    head = "sku,name,price,stock_quantity,category_id\n"
    rows = "".join(f"S-{number},Thing {number},1.00,1,{category}\n" for number in range(50))
    answer = client.post("/api/v1/products/import", data=head + rows, content_type="text/csv")
    assert answer.json["inserted"] == 50, answer.text
    assert len(client.get("/api/v1/products/export?format=ndjson").text.splitlines()) == 51


def test_a_consumer_leaves_nobody_listening_on_a_connection_of_others(engine, pooler):
    with Session(engine) as session, closing(Consumer(session, print)) as consumer:
        assert consumer._listener.open()
        assert pooler.on_each("SELECT count(pg_listening_channels)::text FROM pg_listening_channels()") == [["0"]] * 2


def test_settings_that_do_not_come_through_are_named_once_with_what_to_do(engine, monkeypatch, caplog):
    monkeypatch.setattr(poolers, "_checked", set())
    with caplog.at_level(logging.WARNING), engine.connect(), engine.connect():
        pass
    (message,) = [record.getMessage() for record in caplog.records if record.name == poolers.__name__]
    assert "ALTER ROLE backend_api SET statement_timeout = '15000';" in message
    assert "SET pg_trgm.word_similarity_threshold = '0.4';" in message


def test_settings_of_the_role_are_enough(engine, pooler, monkeypatch, caplog, settings):
    monkeypatch.setattr(poolers, "_checked", set())
    pooler.on_each("; ".join(f"SET {item.replace('=', ' TO ')}" for item in options(settings)))
    with caplog.at_level(logging.WARNING), engine.connect():
        pass
    assert [record for record in caplog.records if record.name == poolers.__name__] == []


def options(settings):
    return engine_options(settings)["connect_args"]["options"].removeprefix("-c ").split(" -c ")
