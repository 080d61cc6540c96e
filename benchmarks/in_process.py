"""Python's own CPU time of a request, and what a page costs at a depth: `python -m benchmarks.in_process`.

The application is called in this process, as its role and with everything on, without a web server and its network.
CPU time is this process's: the database's is not in it.

    python -m benchmarks.in_process [--keep DIRECTORY] [--scale 1] [--requests 2000] [--depth 1000000]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.app import create_app
from api.config import Settings
from benchmarks.peers.account import LOGIN, make_manager
from benchmarks.peers.contenders import shipped
from benchmarks.peers.data import Scale
from benchmarks.peers.database import database, rows

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

IN_A_ROW = 50
"""Requests of one reading: the clock of CPU time is coarse."""
PAGE = "/api/v1/orders?limit=20"
STRIDE = 100


class Client:
    """Sends requests to the application itself."""

    def __init__(self, app: WSGIApplication, login: bytes) -> None:
        """Log in."""
        self._app = app
        self._token = ""
        self._token = json.loads(self.send(LOGIN, login))["access_token"]

    def environ(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """What a server would hand over."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        builder = EnvironBuilder(
            path,
            base_url="http://127.0.0.1",
            method="GET" if body is None else "POST",
            headers=headers,
            data=body,
            content_type=None if body is None else "application/json",
            environ_base={"REMOTE_ADDR": "127.0.0.1"},
        )
        return builder.get_environ()

    def send(self, path: str, body: bytes | None = None) -> bytes:
        """The body of an answer.

        Raises:
            SystemExit: for an answer that is an error.
        """
        content, status, _ = run_wsgi_app(self._app, self.environ(path, body), buffered=True)
        answer = b"".join(content)
        if not status.startswith(str(HTTPStatus.OK.value)):
            raise SystemExit(f"{path}: {status} {answer!r}")
        return answer

    def cpu(self, paths: list[str]) -> float:
        """Microseconds of CPU time for a request, the median of many readings."""
        environs = [self.environ(path) for path in paths]
        readings = []
        for start in range(0, len(environs), IN_A_ROW):
            # A server makes a new one for each request; the time to make it is not the application's.
            group = environs[start : start + IN_A_ROW]
            begin = time.process_time()
            for environ in group:
                self._call(environ)
            readings.append((time.process_time() - begin) / len(group) * 1e6)
        # The first ones plan statements and open connections.
        return median(readings[len(readings) // 4 :])

    def wall(self, path: str) -> float:
        """Milliseconds until one answer is there."""
        environ = self.environ(path)
        begin = time.perf_counter()
        self._call(environ)
        return 1000 * (time.perf_counter() - begin)

    def _call(self, environ: dict[str, Any]) -> None:
        chunks = self._app(environ, _start_response)
        for _ in chunks:
            pass
        if hasattr(chunks, "close"):
            chunks.close()


def _start_response(status: str, *_rest: Any) -> Any:
    if not status.startswith("200"):
        raise SystemExit(status)


def main() -> None:
    """Fill a database, or take the one that was kept, and measure."""
    options = _parsed()
    with tempfile.TemporaryDirectory() as name:
        kept = (options.keep or Path(name) / "bench").resolve()
        scale = Scale().shrunk(options.scale)
        with database(kept, scale, print, keep=options.keep is not None) as url:
            login = make_manager(url, kept)
            os.environ |= shipped(url)
            app = create_app(Settings.from_env())
            # Written as in production, but to nowhere.
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
                client = Client(app, login)
                _cpu(client, scale, url, options.requests)
                _depth(client, min(options.depth, scale.orders))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, help="the directory of a database that `benchmarks.peers --keep` has filled"
    )
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--depth", type=int, default=1_000_000)
    return parser.parse_args()


def _cpu(client: Client, scale: Scale, url: str, requests: int) -> None:
    """By id, a page, an order with what belongs to it."""
    orders = [key for (key,) in rows(url, "SELECT id FROM orders ORDER BY md5(id::text) LIMIT %s", requests)]
    pages = [f"/api/v1/products?category_id={n % 50 + 1}&price__gte={n % 100}.50&sort=price" for n in range(requests)]
    kinds = {
        "product by id": [f"/api/v1/products/{n * 7919 % scale.products + 1}" for n in range(requests)],
        "page of 20 filtered products": pages,
        "the same with category and tags": [f"{page}&include=category,tags" for page in pages],
        "order with user, items, products": [f"/api/v1/orders/{key}?include=user,items.product" for key in orders],
    }
    for title, paths in kinds.items():
        print(f"{title:<36}{client.cpu(paths):8.0f} µs of CPU", flush=True)


def _depth(client: Client, depth: int) -> None:
    """The first page and the one at the depth, in turns; the way there is walked, as a client would."""
    following = f"{PAGE.partition('?')[0]}?limit={STRIDE}&fields=id"
    for _ in range(depth // STRIDE - 1):
        following = json.loads(client.send(following))["next"]
    deep = f"{PAGE}&cursor={following.partition('cursor=')[2]}"
    times: dict[str, list[float]] = {PAGE: [], deep: []}
    for _ in range(300):
        for path, taken in times.items():
            taken.append(client.wall(path))
    first, last = (median(taken[50:]) for taken in times.values())
    print(f"page of 20 orders: first {first:.2f} ms, at depth {depth:,} {last:.2f} ms, ratio {last / first:.2f}")


if __name__ == "__main__":
    main()
