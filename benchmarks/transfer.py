"""Export and import of many products: seconds, the peak memory of the worker that serves, and the ratio to bare COPY.

Bare COPY takes the same rows with keys in the place of names, and gives the columns that an export gives: as they are
stored, and in the form that an export gives them; for NDJSON as one JSON object.

    .venv/bin/python -m benchmarks.transfer [1000000]

Starts a PostgreSQL and gunicorn with one worker of its own, and removes them again.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg2

from api.core.database.embedded import EmbeddedPostgres
from benchmarks.peers.account import LOGIN, make_manager
from benchmarks.peers.database import api_url, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[1]
PORT = 8765
CATEGORIES = 200
COLUMNS = "sku, name, description, price, stock_quantity, metadata, category_id"
_STORED = ("created_at", "updated_at", "deleted_at")
_SHOWN = [f"""to_char({n} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {n}""" for n in _STORED]
_LIVE = "version FROM products WHERE deleted_at IS NULL ORDER BY id"
EXPORTED = {
    "as stored": f"SELECT id, {COLUMNS}, {', '.join(_STORED)}, {_LIVE}",
    "as exported": f"SELECT id, {COLUMNS.replace('price', 'price::text')}, {', '.join(_SHOWN)}, {_LIVE}",
}
ROUNDS = 5
"""Of an export and bare COPY in turns."""
COLOURS = ("red", "green", "blue", "white")


def main() -> None:
    """Measure, and print a line each."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name, _database(Path(name)) as url:
        migrate(url, Path(name))
        login = make_manager(url, Path(name))
        with _worker(url) as pid:
            measure(Path(name), number, url, pid, login)


def measure(folder: Path, number: int, url: str, pid: int, login: bytes) -> None:
    """Send all files both ways, each beside what COPY takes at that moment."""
    table, objects = _files(folder, number)
    connection = psycopg2.connect(url)
    connection.autocommit = True
    bench = Bench(connection, pid, number, _token(login))
    bench.categories()
    size = table.stat().st_size / 2**20
    print(f"{number:,} products, {size:.0f} MiB of CSV, {objects.stat().st_size / 2**20:.0f} MiB of NDJSON")
    # A cluster that has never held them takes a fifth longer.
    bench.empty()
    bench.bare_copy_in(folder / "keys.csv")
    for title, path, content_type in (
        ("import CSV", table, "text/csv"),
        ("import NDJSON", objects, "application/x-ndjson"),
    ):
        bench.empty()
        bare = bench.bare_copy_in(folder / "keys.csv")
        bench.empty()
        bench.load(title, path, content_type, "", bare)
    bench.load("CSV of what is there, upsert", table, "text/csv", "?upsert=sku", bare)
    for file_format in ("csv", "ndjson"):
        for packed in (False, True):
            bench.export(file_format, packed=packed)


class Bench:
    """One measurement after another, on the same database and worker."""

    def __init__(self, connection: Any, pid: int, number: int, token: str) -> None:
        self.connection = connection
        self.headers = {"Authorization": f"Bearer {token}"}
        self.pid = pid
        self.number = number

    def sql(self, statement: str, *values: object) -> None:
        """Run a statement."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)

    def categories(self) -> None:
        """What the products refer to."""
        self.sql("INSERT INTO categories (name) SELECT 'Shelf ' || n FROM generate_series(1, %s) n", CATEGORIES)

    def empty(self) -> None:
        """Remove all products."""
        self.sql("TRUNCATE products, history, outbox_events CASCADE")
        self.sql("VACUUM ANALYZE products")

    def bare_copy_in(self, path: Path) -> float:
        """COPY the same rows into the table by themselves, with keys instead of names."""
        started = time.monotonic()
        with path.open("rb") as file, self.connection.cursor() as cursor:
            cursor.copy_expert(f"COPY products ({COLUMNS}) FROM STDIN WITH (FORMAT csv)", file, 65_536)
        seconds = time.monotonic() - started
        print(f"{'bare COPY in':<32} {seconds:7.2f} s")
        return seconds

    def bare_copy_out(self, file_format: str, rows: str) -> float:
        """COPY the rows that an export shows, to nowhere."""
        query = rows if file_format == "csv" else f"SELECT row_to_json(r) FROM ({rows}) r"  # noqa: S608 - constants
        started = time.monotonic()
        with Path(os.devnull).open("wb") as file, self.connection.cursor() as cursor:
            cursor.copy_expert(f"COPY ({query}) TO STDOUT WITH (FORMAT csv)", file, 65_536)
        return time.monotonic() - started

    def export(self, file_format: str, *, packed: bool) -> None:
        """Fetch all products, in turns with bare COPY."""
        own: list[float] = []
        bare: dict[str, list[float]] = {title: [] for title in EXPORTED}
        before = self._memory_marked()
        for _ in range(ROUNDS):
            for form, rows in EXPORTED.items():
                bare[form].append(self.bare_copy_out(file_format, rows))
            started = time.monotonic()
            self._fetch(file_format, packed=packed)
            own.append(time.monotonic() - started)
        for form, times in bare.items():
            ratio = median(theirs / ours for theirs, ours in zip(times, own, strict=True))
            print(f"{f'bare COPY out, {file_format.upper()} {form}':<32} {median(times):7.2f} s   {ratio:5.2f} of it:")
        self._tell(f"export {file_format.upper()}{', gzip' if packed else ''}", median(own), before)

    def _fetch(self, file_format: str, *, packed: bool) -> None:
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=3600)
        headers = self.headers | ({"Accept-Encoding": "gzip"} if packed else {})
        client.request("GET", f"/api/v1/products/export?format={file_format}", headers=headers)
        response = client.getresponse()
        size = 0
        while block := response.read(65_536):
            size += len(block)
        assert response.status == http.client.OK, block  # noqa: S101
        assert size > self.number  # noqa: S101

    def load(self, title: str, path: Path, content_type: str, query: str, bare: float) -> None:
        """Send a file."""
        before = self._memory_marked()
        started = time.monotonic()
        with path.open("rb") as file:
            client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=3600, blocksize=65_536)
            headers = self.headers | {"Content-Type": content_type, "Content-Length": str(path.stat().st_size)}
            client.request("POST", f"/api/v1/products/import{query}", file, headers)
            answer = json.loads(client.getresponse().read())
        seconds = time.monotonic() - started
        assert answer["read"] == self.number, answer  # noqa: S101
        assert answer["rejected"] == 0, answer  # noqa: S101
        self._tell(title, seconds, before, f"   {bare / seconds:5.2f} of bare COPY")

    def _memory_marked(self) -> float:
        """What the worker holds now; its peak is counted from here."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")
        return _memory(self.pid, "VmRSS")

    def _tell(self, title: str, seconds: float, before: float, ratio: str = "") -> None:
        peak = _memory(self.pid, "VmHWM")
        print(f"{title:<32} {seconds:7.2f} s   peak {peak:5.0f} MiB ({before:.0f} before){ratio}", flush=True)


def _token(login: bytes) -> str:
    """Log in, and return the token."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    client.request("POST", LOGIN, login, {"Content-Type": "application/json"})
    token: str = json.loads(client.getresponse().read())["access_token"]
    return token


def _memory(pid: int, what: str) -> float:
    """MiB of a process, by /proc."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{what}:")) / 1024


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    """The products as CSV and NDJSON for the import, and as CSV for COPY."""
    table, objects, keys = folder / "products.csv", folder / "products.ndjson", folder / "keys.csv"
    with (
        table.open("w", encoding="utf-8", newline="") as first,
        objects.open("w", encoding="utf-8") as second,
        keys.open("w", encoding="utf-8", newline="") as third,
    ):
        with_names, with_keys = csv.writer(first), csv.writer(third)
        with_names.writerow([*COLUMNS.split(", ")[:-1], "category.name"])
        for item in range(number):
            shelf = item % CATEGORIES + 1
            description = f'A thing for the kitchen, "number {item}", that holds tea and coffee alike.'
            document = {"colour": COLOURS[item % 4], "size": {"cm": item % 50}}
            row = [f"SKU-{item:08}", f"Product {item}", description, f"{item % 9000 / 100:.2f}", item % 1000]
            text = json.dumps(document)
            with_names.writerow([*row, text, f"Shelf {shelf}"])
            with_keys.writerow([*row, text, shelf])
            second.write(
                json.dumps(
                    {**dict(zip(COLUMNS.split(", "), row, strict=False)), "metadata": document, "category_id": shelf}
                )
            )
            second.write("\n")
    return table, objects


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _worker(url: str) -> Iterator[int]:
    """Run gunicorn with one worker, whose process id it is."""
    environment = os.environ | {
        "DATABASE_URL": api_url(url),
        "ACCESS_TOKEN_TTL": "86400",
        "WEB_CONCURRENCY": "1",
        "PORT": str(PORT),
        "LOG_LEVEL": "WARNING",
        "RATE_LIMIT_ADDRESS": "",
    }
    arguments = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "api.wsgi:app"]
    master = subprocess.Popen(arguments, cwd=PROJECT, env=environment)
    try:
        yield _serving(master.pid)
    finally:
        master.send_signal(signal.SIGTERM)
        master.wait()


def _serving(master: int) -> int:
    """The worker's process id, once it answers."""
    while True:
        try:
            client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            client.request("GET", "/readyz")
            client.getresponse().read()
            break
        except OSError:
            time.sleep(0.2)
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
    return int(children[0])


if __name__ == "__main__":
    main()
