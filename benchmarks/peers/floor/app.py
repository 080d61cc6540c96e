"""The floor: a bare WSGI function, psycopg2's pool, and SQL written by hand that returns JSON. No framework at all."""

from __future__ import annotations

import base64
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from psycopg2.pool import ThreadedConnectionPool

from benchmarks.peers.floor import sql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

Answer = tuple[str, str, list[tuple[str, str]]]
"""Status, body, further headers."""

OK = "200 OK"
CREATED = "201 Created"
UNCHANGED = "304 Not Modified"
PRODUCTS = "/api/v1/products"
ORDERS = "/api/v1/orders"
_LENGTH_MAX = 200
_STOCK_MAX = 2**31 - 1
_lock = threading.Lock()
_pool: ThreadedConnectionPool | None = None


class InvalidError(Exception):
    """The client's fault; the message says what."""


class MissingError(Exception):
    """There is no such row."""


class ShortError(Exception):
    """There is not enough in stock."""


def pool() -> ThreadedConnectionPool:
    """Of this process, made after the fork."""
    global _pool  # noqa: PLW0603 - one for each process
    with _lock:
        if _pool is None:
            threads = int(os.environ["THREADS"])
            _pool = ThreadedConnectionPool(threads, threads, os.environ["FLOOR_DATABASE_URL"])
        return _pool


@contextmanager
def cursor(*, autocommit: bool) -> Iterator[Any]:
    """A cursor on a connection of the pool; what is written is one transaction."""
    connections = _pool or pool()
    connection = connections.getconn()
    try:
        if connection.autocommit != autocommit:
            connection.autocommit = autocommit
        with connection.cursor() as opened:
            yield opened
        if not autocommit:
            connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connections.putconn(connection)


def fetch(statement: str, values: tuple[Any, ...]) -> Any:
    """The first row of a read."""
    with cursor(autocommit=True) as opened:
        opened.execute(statement, values)
        return opened.fetchone()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The application."""
    path = environ["PATH_INFO"]
    try:
        if environ["REQUEST_METHOD"] == "POST":
            status, body, headers = POSTS[path](environ)
        elif path in LISTS:
            status, body, headers = LISTS[path](dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)))
        else:
            status, body, headers = _row(path, environ)
    except (InvalidError, ValueError, KeyError) as error:
        status, body, headers = "422 Unprocessable Content", json.dumps({"detail": str(error)}), []
    except MissingError:
        status, body, headers = "404 Not Found", '{"detail":"There is no such row."}', []
    except ShortError as error:
        status, body, headers = "409 Conflict", json.dumps({"detail": str(error)}), []
    content = body.encode()
    if status is not UNCHANGED:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    start_response(status, headers)
    return [content]


def _row(path: str, environ: WSGIEnvironment) -> Answer:
    parent, _, key = path.rpartition("/")
    if parent == PRODUCTS:
        return _product(int(key), environ.get("HTTP_IF_NONE_MATCH"))
    if parent == ORDERS:
        found = fetch(sql.ORDER, (str(uuid.UUID(key)),))
        if found is None:
            raise MissingError
        return OK, found[0], []
    raise MissingError


def _product(key: int, known: str | None) -> Answer:
    found = fetch(sql.PRODUCT_UNLESS_KNOWN, (known, key)) if known else fetch(sql.PRODUCT, (key,))
    if found is None:
        raise MissingError
    body, version = found
    tag = ("ETag", f'"{key}-{version}"')
    return (UNCHANGED, "", [tag]) if body is None else (OK, body, [tag])


def _wanted(query: dict[str, str]) -> tuple[int, str, int]:
    """Category, least price and size of the page, checked."""
    category, price, limit = int(query["category_id"]), query.get("price__gte", "0"), int(query.get("limit", "20"))
    if query.get("sort", "price") != "price" or float(price) < 0 or not 1 <= limit <= 100:  # noqa: PLR2004
        raise InvalidError("sort, price__gte or limit is wrong")
    return category, price, limit


def _keyset(path: str, first: str, after: str) -> Callable[[dict[str, str]], Answer]:
    def page(query: dict[str, str]) -> Answer:
        category, price, limit = _wanted(query)
        if cursor_text := query.get("cursor"):
            last_price, last_key = json.loads(base64.urlsafe_b64decode(cursor_text))
            rows, more, last = fetch(after, (limit, category, price, last_price, last_key, limit + 1))
        else:
            rows, more, last = fetch(first, (limit, category, price, limit + 1))
        following = "null"
        if more:
            token = base64.urlsafe_b64encode(last.encode()).decode()
            link = f"{path}?category_id={category}&price__gte={price}&sort=price&limit={limit}&cursor={token}"
            following = json.dumps(link)
        return OK, f'{{"items":{rows},"next":{following}}}', []

    return page


def _numbered(query: dict[str, str]) -> Answer:
    category, price, _ = _wanted(query)
    page, size = int(query.get("page", "1")), int(query.get("per_page", "20"))
    if page < 1 or not 1 <= size <= 100:  # noqa: PLR2004
        raise InvalidError("page or per_page is wrong")
    rows, total = fetch(sql.NUMBERED, (category, price, size, (page - 1) * size, category, price))
    following = "null"
    if page * size < total:
        link = (
            f"{PRODUCTS}/numbered?category_id={category}&price__gte={price}&sort=price&per_page={size}&page={page + 1}"
        )
        following = json.dumps(link)
    return OK, f'{{"items":{rows},"next":{following},"total":{total}}}', []


def _search(query: dict[str, str]) -> Answer:
    text = query["q"]
    if not 1 <= len(text) <= _LENGTH_MAX:
        raise InvalidError("q is too short or too long")
    rows, more = fetch(sql.SEARCH, (text,))
    following = json.dumps(f"{PRODUCTS}/search?q={text}&page=2") if more else "null"
    return OK, f'{{"items":{rows},"next":{following}}}', []


def _sent(environ: WSGIEnvironment) -> dict[str, Any]:
    body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if not isinstance(body, dict):
        raise InvalidError("The body is no object.")
    return body


def _create_product(environ: WSGIEnvironment) -> Answer:
    body = _sent(environ)
    sku, name, price, stock = body["sku"], body["name"], body["price"], body.get("stock_quantity", 0)
    texts = isinstance(sku, str) and isinstance(name, str) and isinstance(price, str)
    if not texts or not 1 <= len(sku) <= 64 or not 1 <= len(name) <= _LENGTH_MAX or float(price) < 0:  # noqa: PLR2004
        raise InvalidError("sku, name or price is wrong")
    if not isinstance(stock, int) or not 0 <= stock <= _STOCK_MAX or not isinstance(body["category_id"], int):
        raise InvalidError("stock_quantity or category_id is wrong")
    metadata = json.dumps(body.get("metadata", {}))
    with cursor(autocommit=True) as opened:
        opened.execute(
            sql.CREATE_PRODUCT, (sku, name, body.get("description"), price, stock, body["category_id"], metadata)
        )
        created, key = opened.fetchone()
    return CREATED, created, [("Location", f"{PRODUCTS}/{key}"), ("ETag", f'"{key}-1"')]


def _create_order(environ: WSGIEnvironment) -> Answer:
    body = _sent(environ)
    items: list[dict[str, int]] = body["items"]
    if not 1 <= len(items) <= 100 or any(item["quantity"] < 1 for item in items):  # noqa: PLR2004
        raise InvalidError("items is wrong")
    keys = [item["product_id"] for item in items]
    quantities = [item["quantity"] for item in items]
    with cursor(autocommit=False) as opened:
        opened.execute(sql.LOCK_PRODUCTS, (keys,))
        found = dict(opened.fetchall())
        for item in items:
            if item["product_id"] not in found:
                raise InvalidError(f"There is no product {item['product_id']}.")
            found[item["product_id"]] -= item["quantity"]
            if found[item["product_id"]] < 0:
                raise ShortError(f"There is not enough of product {item['product_id']}.")
        opened.execute(sql.CREATE_ORDER, (keys, quantities, body["user_id"]))
        created, key = opened.fetchone()
    return CREATED, created, [("Location", f"{ORDERS}/{key}"), ("ETag", f'"{key}-1"')]


LISTS: dict[str, Callable[[dict[str, str]], Answer]] = {
    PRODUCTS: _keyset(PRODUCTS, sql.PAGE, sql.NEXT_PAGE),
    f"{PRODUCTS}/detailed": _keyset(f"{PRODUCTS}/detailed", sql.DETAILED_PAGE, sql.NEXT_DETAILED_PAGE),
    f"{PRODUCTS}/numbered": _numbered,
    f"{PRODUCTS}/search": _search,
}
POSTS: dict[str, Callable[[WSGIEnvironment], Answer]] = {PRODUCTS: _create_product, ORDERS: _create_order}
