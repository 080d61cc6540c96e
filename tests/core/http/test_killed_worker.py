"""Workers, and the whole server, are killed under load; whoever sends again until it is answered has ordered once."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import text

from api.extensions import db
from tests.factories import ProductFactory, UserFactory

PROJECT = Path(__file__).resolve().parents[3]
CLIENTS = 4
SECONDS = 6.0
"""For how long new orders are made."""

PATIENCE = 30.0
STOCK = 1_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks workers up as children of gunicorn")


class Server:
    """gunicorn on a port of its own, which can be killed and started again."""

    def __init__(self, url: str, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._environment = os.environ | {
            "DATABASE_URL": url,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": "4",
            "LOG_LEVEL": "CRITICAL",
            "TMPDIR": str(directory),
        }
        self._log = (directory / "gunicorn.log").open("w")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "tests.wsgi:app"]
        self.master = subprocess.Popen(
            command, cwd=PROJECT, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def kill_a_worker(self) -> None:
        workers = psutil.Process(self.master.pid).children()
        if workers:
            random.choice(workers).kill()  # noqa: S311 - no secret

    def kill(self) -> None:
        """Kill master and workers at once."""
        os.killpg(self.master.pid, signal.SIGKILL)
        self.master.wait(PATIENCE)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.kill()
        self._log.close()


@pytest.fixture
def gunicorn(settings, tmp_path):
    server = Server(settings.database_url.replace("+psycopg2", ""), tmp_path)
    yield server
    server.close()


def send(port: int, key: str, body: str) -> tuple[int, dict[str, str], bytes] | None:
    """The answer, or None if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        connection.request("POST", "/api/v1/orders", body, headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.mark.usefixtures("database")
def test_each_key_makes_exactly_one_order_whenever_workers_and_the_server_are_killed(gunicorn):
    product, user = ProductFactory(stock_quantity=STOCK), UserFactory()
    statuses: Counter[int | None] = Counter()
    over = Event()

    def order(number: int) -> tuple[str, str]:
        """Send one order until it is answered; its key, and the id of what was made."""
        key, quantity = str(uuid4()), number % 3 + 1
        items = [{"product_id": product.id, "quantity": quantity}]
        body = json.dumps({"user_id": user.id, "items": items, "metadata": {"key": key}})
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = send(gunicorn.port, key, body)
            statuses[answer and answer[0]] += 1
            if answer is not None and answer[0] == 201:
                return key, json.loads(answer[2])["id"]
            time.sleep(0.02)
        raise TimeoutError

    def shop(_: int) -> list[tuple[str, str]]:
        made = []
        while not over.is_set():
            made.append(order(len(made)))
        return made

    with ThreadPoolExecutor(CLIENTS) as threads:
        shopping = [threads.submit(shop, number) for number in range(CLIENTS)]
        order(0)
        end = time.monotonic() + SECONDS
        kills = 0
        while time.monotonic() < end:
            time.sleep(random.uniform(0.02, 0.25))  # noqa: S311
            gunicorn.kill_a_worker()
            kills += 1
            if kills == 10:
                gunicorn.kill()
                gunicorn.start()
        over.set()
        made = dict(pair for future in shopping for pair in future.result())

    assert set(statuses) <= {201, 409, 503, None}
    assert statuses[None] > 0, "no request was hit"
    with db.engine.connect() as connection:
        stored = connection.execute(
            text(
                "SELECT o.metadata ->> 'key' AS key, o.id::text AS id, sum(i.quantity) AS quantity "
                "FROM orders o JOIN order_items i ON i.order_id = o.id GROUP BY o.id"
            )
        ).all()
        left = connection.scalar(text("SELECT stock_quantity FROM products"))
    assert len({row.key for row in stored}) == len(stored), "a key has made two orders"
    assert {row.key: row.id for row in stored if row.key in made} == made
    assert len(stored) == len(made) + 1
    assert left == STOCK - sum(row.quantity for row in stored)
