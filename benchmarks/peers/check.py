"""A contender is only timed when its answers are right: equal to ours, and, for writes, there in the database."""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from benchmarks.peers.contenders import Answer, Server, fetch
from benchmarks.peers.database import rows
from benchmarks.peers.works import API, NUMBER, Request, Shop, Work

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARED = 25
"""Requests of each work."""
_BUYERS, _LEFT = 24, 10
_OF_ITS_OWN = frozenset({"id", "sku", "created_at", "updated_at"})
"""What differs from one new row to another."""
_numbers = itertools.count(int(time.time() * 1000) * 1000)


def send(server: Server, request: Request) -> Answer:
    """Send one request, with a number where it wants one."""
    content = request.content
    if content is not None:
        content = content.replace(NUMBER.encode(), f"{next(_numbers):016d}".encode())
    return fetch(server, request.path, request.method, content, dict(request.headers))


def comparable(value: Any, key: str = "") -> Any:
    """The value with moments as moments, however they are written, and of a page what the contenders have in common."""
    if isinstance(value, dict):
        if "items" in value and "next" in value:
            value = {name: part for name, part in value.items() if name in {"items", "next", "total"}}
            # Cursors are each contender's own.
            value["next"] = value["next"] is not None
        return {name: comparable(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [comparable(part) for part in value]
    if key.endswith("_at") and value is not None:
        return datetime.fromisoformat(value).astimezone(UTC)
    return value


def check(work: Work, ours: Server, other: Server, shop: Shop, url: str) -> None:
    """Compare what both answer to the same requests, and look for what they have written.

    Raises:
        SystemExit: with the first difference.
    """
    wanted = replace(work, variety=COMPARED)
    for pair in zip(*(wanted.requests(server, shop, 0) for server in (ours, other)), strict=True):
        before = _stock(url, pair[1])
        expected, found = (_content(server, request, work) for server, request in zip((ours, other), pair, strict=True))
        if expected != found:
            _fail(other, pair[1], f"ours gives\n{expected}\nand this one\n{found}")
        if work.status == HTTPStatus.CREATED:
            # Both have taken from it.
            _check_stock(other, pair[1], before, _stock(url, pair[1]))
    if work.name in WRITTEN:
        WRITTEN[work.name](other, shop, url)


def _content(server: Server, request: Request, work: Work) -> Any:
    answer = send(server, request)
    if answer.status != work.status:
        _fail(server, request, f"{answer.status} in the place of {work.status}: {answer.body[:500]!r}")
    if work.status == HTTPStatus.NOT_MODIFIED:
        return answer.headers.get("etag"), answer.body
    content = comparable(json.loads(answer.body))
    if work.status == HTTPStatus.CREATED:
        return {name: value for name, value in content.items() if name not in _OF_ITS_OWN}
    return content


def _lines(request: Request) -> list[dict[str, int]]:
    return (request.body or {}).get("items", [])  # type: ignore[no-any-return]


def _stock(url: str, request: Request) -> dict[int, int]:
    keys = [line["product_id"] for line in _lines(request)]
    return dict(rows(url, "SELECT id, stock_quantity FROM products WHERE id = ANY(%s)", keys)) if keys else {}


def _check_stock(server: Server, request: Request, before: dict[int, int], after: dict[int, int]) -> None:
    for line in _lines(request):
        taken = before[line["product_id"]] - after[line["product_id"]]
        if taken != 2 * line["quantity"]:
            _fail(server, request, f"{taken} were taken from the stock of product {line['product_id']}")


def _check_product(server: Server, _shop: Shop, url: str) -> None:
    """A new product is stored as it was sent; what is wrong with one is refused."""
    body = {"sku": f"CHECK-{NUMBER}", "name": "Check", "price": "1.50", "stock_quantity": 3, "category_id": 1}
    request = Request(f"{API}/products", "POST", body=body)
    answer = send(server, request)
    if answer.status != HTTPStatus.CREATED:
        _fail(server, request, f"{answer.status} {answer.body[:500]!r}")
    found = rows(
        url,
        "SELECT sku LIKE 'CHECK-%%', name, description, price, stock_quantity, category_id, metadata, version "
        "FROM products WHERE id = %s",
        json.loads(answer.body)["id"],
    )
    if found != [(True, "Check", None, Decimal("1.50"), 3, 1, {}, 1)]:
        _fail(server, request, f"stored is {found}")
    for wrong in ({"price": "-1.00"}, {"stock_quantity": -1}, {"name": ""}, {"sku": None}):
        refused = send(server, replace(request, body=body | wrong))
        if not HTTPStatus.BAD_REQUEST <= refused.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            _fail(server, request, f"{refused.status} for {wrong}")


def _check_order(server: Server, shop: Shop, url: str) -> None:
    """An order is stored with its items and prices; of the last few, as many are sold as there are, to many at once."""
    product = shop.products
    rows(url, "UPDATE products SET stock_quantity = %s WHERE id = %s", _LEFT, product)
    body = {"user_id": 1, "items": [{"product_id": product, "quantity": 1}]}
    request = Request(f"{API}/orders", "POST", body=body)
    with ThreadPoolExecutor(_BUYERS) as buyers:
        answers = list(buyers.map(lambda _: send(server, request), range(_BUYERS)))
    statuses = sorted(answer.status for answer in answers)
    ((left,),) = rows(url, "SELECT stock_quantity FROM products WHERE id = %s", product)
    if statuses != [HTTPStatus.CREATED] * _LEFT + [HTTPStatus.CONFLICT] * (_BUYERS - _LEFT) or left:
        _fail(server, request, f"{_LEFT} were in stock, {left} are left, after {statuses}")
    sold = [json.loads(answer.body)["id"] for answer in answers if answer.status == HTTPStatus.CREATED]
    stored = rows(
        url,
        "SELECT count(*), sum(total_amount) = sum(unit_price), bool_and(unit_price = p.price AND quantity = 1), "
        "bool_and(o.user_id = 1 AND o.status = 'pending') FROM orders o JOIN order_items i ON i.order_id = o.id "
        "JOIN products p ON p.id = i.product_id WHERE o.id::text = ANY(%s) AND p.id = %s",
        sold,
        product,
    )
    if stored != [(_LEFT, True, True, True)]:
        _fail(server, request, f"stored is {stored}")


WRITTEN: dict[str, Callable[[Server, Shop, str], None]] = {
    "create-product": _check_product,
    "create-order": _check_order,
}


def _fail(server: Server, request: Request, difference: str) -> None:
    sys.exit(f"{server.contender.name}, {request.method} {request.path}: {difference}")
