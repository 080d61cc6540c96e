"""What a key, an event and a consumer cost: `python -m benchmarks.writes`, on a database of its own.

Orders are sent to the application itself, without a web server in between; medians over all of them, in milliseconds.
"""

from __future__ import annotations

import logging
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from uuid import uuid4

from flask_migrate import upgrade
from sqlalchemy import text

from api.app import create_app
from api.config import Settings
from api.core.database.consumer import Consumer
from api.core.database.outbox import publish
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

ORDERS = 200
EVENTS = 10_000
THREADS = 8
PUBLISHED = 1_600
SHOP = """
    INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com');
    INSERT INTO categories (name) VALUES ('Books');
    INSERT INTO products (sku, name, price, stock_quantity, category_id) VALUES ('A', 'A', 1, 2000000000, 1);
"""


def orders(client: FlaskClient, *, keys: bool) -> float:
    """Median milliseconds of an order."""
    body = {"user_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    taken = []
    for _ in range(ORDERS):
        headers = {"Idempotency-Key": str(uuid4())} if keys else {}
        begin = time.perf_counter()
        response = client.post("/api/v1/orders?fields=id", json=body, headers=headers)
        taken.append(time.perf_counter() - begin)
        if response.status_code != HTTPStatus.CREATED:
            raise SystemExit(response.text)
    return 1000 * median(taken)


def without(trigger: str, table: str, measure: Callable[[], float]) -> float:
    """`measure()` while the trigger is off."""

    def switch(to: str) -> None:
        with db.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {table} {to} TRIGGER {trigger}"))

    switch("DISABLE")
    try:
        return measure()
    finally:
        switch("ENABLE")


def published_at_once(app: Flask) -> float:
    """Transactions a second that publish one event each, from several threads."""

    def work(_: int) -> None:
        with app.app_context():
            for _ in range(PUBLISHED // THREADS):
                with db.transaction() as session:
                    publish(session, "some.topic", {})

    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    return PUBLISHED / (time.perf_counter() - begin)


def consumed() -> float:
    """Events a second that one consumer handles, whose handler does nothing."""
    with db.transaction() as session:
        session.execute(text("TRUNCATE outbox_events"))
        many = "INSERT INTO outbox_events (topic, payload) SELECT 'some.topic', '{}' FROM generate_series(1, :n)"
        session.execute(text(many), {"n": EVENTS})
    begin = time.perf_counter()
    with closing(Consumer(db.session(), lambda _: None)) as consumer:
        consumer.run_once()
    return EVENTS / (time.perf_counter() - begin)


def main() -> None:
    """Print one line for each figure."""
    with tempfile.TemporaryDirectory() as directory:
        app = create_app(Settings(instance_path=Path(directory), log_level="ERROR", rate_limit_address=""))
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with app.app_context():
            upgrade()
            with db.engine.begin() as connection:
                connection.exec_driver_sql(SHOP)
            client = app.test_client()
            orders(client, keys=False)
            silent = without("orders_publish_change", "orders", lambda: orders(client, keys=False))
            print(f"order, no event       {silent:8.2f} ms")
            print(f"order                 {orders(client, keys=False):8.2f} ms")
            print(f"order with a key      {orders(client, keys=True):8.2f} ms")
            silent = without("outbox_events_notify_outbox", "outbox_events", lambda: published_at_once(app))
            print(f"published, no NOTIFY  {silent:8.0f} a second")
            print(f"published             {published_at_once(app):8.0f} a second")
            print(f"consumed              {consumed():8.0f} a second")
            db.session.remove()
        db.shutdown()
        app.extensions["embedded_postgres"].stop()


if __name__ == "__main__":
    main()
