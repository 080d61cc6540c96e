"""What history costs a write: single ones through the API, and one UPDATE of many rows, with and without the trigger.

The two take turns within one run, so that whatever else the machine does slows both down alike. On a PostgreSQL of its
own, which is gone afterwards:

    python -m benchmarks.history_cost [--rows 100000] [--requests 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from flask_migrate import upgrade
from sqlalchemy import text

from api.app import create_app
from api.config import Settings
from api.core.database.embedded import EmbeddedPostgres
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask.testing import FlaskClient

PRODUCTS = "/api/v1/products"
IN_A_ROW = 10
"""Requests of a turn."""
_numbers = itertools.count()


def run(statement: str, **values: Any) -> None:
    """Execute SQL in a transaction of its own."""
    with db.engine.begin() as connection:
        connection.execute(text(statement), values)


def seconds(action: Callable[[], Any]) -> float:
    """How long `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def create(client: FlaskClient) -> None:
    """One POST."""
    body = {"sku": f"NEW-{next(_numbers)}", "name": "Blue mug", "price": "12.50", "category_id": 1}
    assert client.post(PRODUCTS, json=body).status_code == HTTPStatus.CREATED  # noqa: S101 - an error must not pass for a fast answer


def change(client: FlaskClient) -> None:
    """One PATCH."""
    number = next(_numbers)
    answer = client.patch(f"{PRODUCTS}/{number % 1000 + 1}", json={"stock_quantity": number})
    assert answer.status_code == HTTPStatus.OK  # noqa: S101 - as above


def change_all() -> None:
    """One UPDATE of every row."""
    run("UPDATE products SET stock_quantity = stock_quantity + 1")


def turns(pairs: int) -> Iterator[bool]:
    """With and without history, in turns, so that neither always comes first."""
    for number in range(2 * pairs):
        recorded = number % 4 in {0, 3}
        run(f"ALTER TABLE products {'ENABLE' if recorded else 'DISABLE'} TRIGGER products_record_history")
        yield recorded


def measure(client: FlaskClient, requests: int, rounds: int) -> dict[str, dict[bool, list[float]]]:
    """Seconds of each action, with and without history."""
    actions = {"POST": lambda: create(client), "PATCH": lambda: change(client)}
    found: dict[str, dict[bool, list[float]]] = {
        name: {True: [], False: []} for name in (*actions, "UPDATE of all rows")
    }
    for name, action in actions.items():
        for recorded in turns(requests // IN_A_ROW):
            action()
            found[name][recorded] += [seconds(action) for _ in range(IN_A_ROW)]
    for recorded in turns(rounds):
        found["UPDATE of all rows"][recorded].append(seconds(change_all))
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in ("VACUUM products", "TRUNCATE history", "CHECKPOINT"):
                connection.execute(text(statement))
    return found


def report(found: dict[str, dict[bool, list[float]]], rows: int) -> None:
    """Medians and their ratio."""
    print(f"{'':20}{'without':>12}{'with':>12}{'ratio':>8}")
    for name, times in found.items():
        without, recorded = median(times[False]), median(times[True])
        print(f"{name:20}{without * 1e3:>9.2f} ms{recorded * 1e3:>9.2f} ms{recorded / without:>8.2f}")
    more = median(found["UPDATE of all rows"][True]) - median(found["UPDATE of all rows"][False])
    print(f"{more / rows * 1e6:.1f} µs for each of {rows:,} rows")


def main() -> None:
    """Fill a database, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres")
        url = server.start().replace("postgresql://", "postgresql+psycopg2://", 1)
        try:
            app = create_app(
                Settings(
                    app_env="test", database_url=url, log_level="WARNING", statement_timeout_ms=0, rate_limit_address=""
                )
            )
            logging.disable(logging.INFO)
            with app.app_context():
                upgrade()
                run("INSERT INTO categories (name) VALUES ('Mugs')")
                run(
                    "INSERT INTO products (category_id, sku, name, price) "
                    "SELECT 1, 'SKU-' || n, 'Product ' || n, 9.90 FROM generate_series(1, :rows) n",
                    rows=options.rows,
                )
                run("ANALYZE")
                report(measure(app.test_client(), options.requests, options.rounds), options.rows)
                db.shutdown()
        finally:
            server.stop(force=True)


if __name__ == "__main__":
    main()
