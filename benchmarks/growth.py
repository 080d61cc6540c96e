"""How the cost of a read grows with its table: `python -m benchmarks.growth [--docs docs] [--keep DIRECTORY]`.

For each size a database is filled with so many products and so many orders, and the application is asked in process.
Prints milliseconds by read and size, and draws them. 10,000,000 rows want 30 GB of disk and half an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from api.app import create_app
from api.config import Settings
from benchmarks.in_process import Client
from benchmarks.peers.account import make_manager
from benchmarks.peers.contenders import shipped
from benchmarks.peers.data import CATEGORIES, Scale
from benchmarks.peers.database import database, rows
from benchmarks.peers.plot import lines

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES = "1000,10000,100000,1000000"
PLOT = "growth.svg"
REQUESTS = 300
AT_LEAST = 5
SECONDS = 20
LIMITS = {"DB_STATEMENT_TIMEOUT_MS": "300000"}
"""What takes longer than the service allows is measured all the same."""
BUYERS = 10
"""Orders of a user."""


def main() -> None:
    """Measure one size, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--docs", type=Path, help="a directory for the plot")
    parser.add_argument("--keep", type=Path, help="a directory that keeps the filled databases for the next run")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measured(options.one, (options.keep or Path(name)).resolve() / str(options.one))))
        return
    sizes = [int(size) for size in options.sizes.split(",")]
    found: dict[str, dict[int, float]] = {}
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(size)]
        command += ["--keep", str(options.keep)] if options.keep else []
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for title, milliseconds in json.loads(result.stdout.splitlines()[-1]).items():
            found.setdefault(title, {})[size] = milliseconds
        print(f"{size:,} rows: {result.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    print(table(found, sizes))
    if options.docs:
        (options.docs / PLOT).write_text(lines(found), encoding="utf-8")


def table(found: Mapping[str, Mapping[int, float]], sizes: list[int]) -> str:
    """Milliseconds in Markdown."""
    head = ["ms by rows", *(f"{size:,}" for size in sizes)]
    body = [[title, *(f"{times[size]:.2f}" for size in sizes)] for title, times in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] + ["---:"] * len(sizes), *body])


def measured(size: int, kept: Path) -> dict[str, float]:
    """The median of milliseconds of each read, on tables of this size; their database is in `kept`, or will be."""
    with database(kept, Scale(size, max(size // BUYERS, BUYERS), size), _quiet, keep=True) as url:
        login = make_manager(url, kept)
        os.environ |= shipped(url) | LIMITS
        app = create_app(Settings.from_env())
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
            client = Client(app, login)
            return {title: _milliseconds(client, paths) for title, paths in _reads(client, url, size).items()}


def _quiet(_line: str) -> None:
    """Tell nobody."""


def _milliseconds(client: Client, paths: list[str]) -> float:
    """The median of many, or of as many as there are in `SECONDS`; the first ones warm up."""
    times: list[float] = []
    end = time.monotonic() + SECONDS
    while len(times) < REQUESTS and (len(times) < AT_LEAST or time.monotonic() < end):
        times.append(client.wall(paths[len(times) % len(paths)]))
    return median(times[len(times) // 4 :])


def _reads(client: Client, url: str, size: int) -> dict[str, list[str]]:
    """Paths by read."""
    orders = [key for (key,) in rows(url, "SELECT id FROM orders ORDER BY md5(id::text) LIMIT 200")]
    filters = [f"category_id={n % CATEGORIES + 1}&price__gte={n % 100}.50&sort=price" for n in range(200)]
    pages = [f"/api/v1/products?{wanted}" for wanted in filters]
    following = [json.loads(client.send(page))["next"] or page for page in pages]
    return {
        "product by id": [f"/api/v1/products/{n * 7919 % size + 1}" for n in range(200)],
        "page of 20 filtered products": pages,
        "next page by cursor": following,
        "page with category and tags": [f"{page}&include=category,tags" for page in pages],
        "page of 20 of all orders": ["/api/v1/orders"],
        "order with user, items, products": [f"/api/v1/orders/{key}?include=user,items.product" for key in orders],
        "page with exact count": [f"{page}&page=1&per_page=20&count=exact" for page in pages],
        "search by two words": [f"/api/v1/products?q={words}" for words in ("steel+teapot", "oak+bench", "wool+rug")],
    }


if __name__ == "__main__":
    main()
