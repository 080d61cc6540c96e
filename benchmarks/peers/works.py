"""What is asked of each contender: the requests of each work, and what of the answers must be equal.

The peers have a route for each work and nothing to decide in it; ours answers by its ordinary routes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

from benchmarks.peers.contenders import OWN, Server, fetch
from benchmarks.peers.data import CATEGORIES, MATERIALS, THINGS
from benchmarks.peers.database import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

API = "/api/v1"
PAGES = 5
"""Numbered pages that are asked for, from the first."""
NUMBER = "#" * 16
"""Replaced in each request by a number that no other one has."""
VARIETY = 1_000
"""Different requests of a work."""


@dataclass(frozen=True)
class Request:
    """One request; the contender's own headers come on top."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    @property
    def content(self) -> bytes | None:
        """The body as it is sent."""
        return None if self.body is None else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Shop:
    """The rows that requests can name."""

    products: int
    users: int
    orders: list[str]

    @classmethod
    def at(cls, url: str) -> Shop:
        """Read it from the database."""
        ((products,),) = rows(url, "SELECT count(*) FROM products WHERE sku LIKE 'SKU-%'")
        ((users,),) = rows(url, "SELECT count(*) FROM users WHERE username LIKE 'user%'")
        orders = rows(url, "SELECT id FROM orders ORDER BY md5(id::text) LIMIT %s", VARIETY)
        return cls(products, users, [str(key) for (key,) in orders])


Maker = Callable[[Server, Shop, Random], list[Request]]
"""Makes the requests that one draw leads to; `Server` is asked where a request comes out of an answer."""


@dataclass(frozen=True)
class Work:
    """A kind of request.

    `goals` holds the ratios to reach by contender: how many times its rate, and the floor's share.
    """

    name: str
    title: str
    make: Maker
    goals: Mapping[str, float] = field(default_factory=dict)
    status: int = 200
    connections: int | None = None
    """How many, where it is not the usual number."""
    variety: int = VARIETY
    of: str = ""
    """The work that this one repeats under other conditions."""

    def requests(self, server: Server, shop: Shop, seed: int) -> list[Request]:
        """What is sent to `server`; the same for all, apart from how each wants it written."""
        random = Random(seed)  # noqa: S311 - a benchmark guards nothing
        made: list[Request] = []
        while len(made) < self.variety:
            made += self.make(server, shop, random)
        return made


def _product(_server: Server, shop: Shop, random: Random) -> list[Request]:
    return [Request(f"{API}/products/{random.randint(1, shop.products)}")]


def _filter(random: Random) -> str:
    return f"category_id={random.randint(1, CATEGORIES)}&price__gte={random.randint(100, 12_000) / 100:.2f}&sort=price"


def _page(server: Server, _shop: Shop, random: Random) -> list[Request]:
    return _with_next(server, f"{API}/products?{_filter(random)}")


def _with_next(server: Server, path: str) -> list[Request]:
    """A page, and the one that its own link leads to."""
    answer = fetch(server, path)
    if answer.status != HTTPStatus.OK:
        sys.exit(f"{server.contender.name}, GET {path}: {answer.status} {answer.body[:500]!r}")
    following = json.loads(answer.body)["next"]
    if not following:
        return [Request(path)]
    # Some write the whole URL.
    parts = urlsplit(following)
    return [Request(path), Request(f"{parts.path}?{parts.query}")]


def _counted(server: Server, _shop: Shop, random: Random) -> list[Request]:
    wanted = f"{_filter(random)}&page={random.randint(1, PAGES)}&per_page=20"
    if server.contender.name == OWN:
        return [Request(f"{API}/products?{wanted}&count=exact")]
    return [Request(f"{API}/products/numbered?{wanted}")]


def _embedded(server: Server, _shop: Shop, random: Random) -> list[Request]:
    if server.contender.name == OWN:
        return _with_next(server, f"{API}/products?{_filter(random)}&include=category,tags")
    return _with_next(server, f"{API}/products/detailed?{_filter(random)}")


def _order(server: Server, shop: Shop, random: Random) -> list[Request]:
    include = "?include=user,items.product" if server.contender.name == OWN else ""
    return [Request(f"{API}/orders/{random.choice(shop.orders)}{include}")]


def _search(server: Server, _shop: Shop, random: Random) -> list[Request]:
    text = quote_plus(f"{random.choice(MATERIALS)} {random.choice(THINGS)}")
    return [Request(f"{API}/products{'' if server.contender.name == OWN else '/search'}?q={text}")]


def _create_product(_server: Server, _shop: Shop, random: Random) -> list[Request]:
    body = {
        "sku": f"NEW-{NUMBER}",
        "name": f"New {random.choice(MATERIALS)} {random.choice(THINGS)}",
        "description": "A new piece, made to go with your old ones.",
        "price": f"{random.randint(100, 20_000) / 100:.2f}",
        "stock_quantity": random.randint(0, 1000),
        "category_id": random.randint(1, CATEGORIES),
        "metadata": {"colour": "blue", "weight": random.randint(1, 5000)},
    }
    return [Request(f"{API}/products", "POST", body=body)]


def _create_order(_server: Server, shop: Shop, random: Random) -> list[Request]:
    items = [
        {"product_id": product, "quantity": random.randint(1, 4)}
        for product in random.sample(range(1, shop.products), 3)
    ]
    return [Request(f"{API}/orders", "POST", body={"user_id": random.randint(1, shop.users), "items": items})]


def _unchanged(server: Server, shop: Shop, random: Random) -> list[Request]:
    (request,) = _product(server, shop, random)
    tag = fetch(server, request.path).headers["etag"]
    return [Request(request.path, headers={"If-None-Match": tag})]


def _goals(fastapi: float, drf: float, classic: float, floor: float) -> dict[str, float]:
    return {"fastapi": fastapi, "drf": drf, "classic": classic, "floor": floor}


MANY = 64

WORKS = (
    Work("product", "one product by id", _product, _goals(2.5, 5, 2.5, 0.65)),
    Work("page", "page of 20 filtered products, and the next by cursor", _page, _goals(4, 6, 4, 0.7)),
    Work("counted", "the same with total count and offset", _counted, _goals(1.5, 2.5, 1.5, 0.9)),
    Work("embedded", "page of 20 with category and tags", _embedded, _goals(4, 6, 5, 0.7)),
    Work("order", "order with user, items and their products", _order, _goals(4, 8, 5, 0.7)),
    Work("search", "full-text search, page of 20", _search, _goals(2, 3, 2, 0.8), variety=400),
    Work("unchanged", "304 by If-None-Match", _unchanged, _goals(3, 6, 4, 0.6), status=304),
    Work("product-64", f"one product by id, {MANY} connections", _product, connections=MANY, of="product"),
    Work("page-64", f"page of 20 filtered products, {MANY} connections", _page, connections=MANY, of="page"),
    # Last, because they change what is read.
    Work("create-product", "create a product", _create_product, _goals(1.3, 2, 1.5, 0.5), status=201),
    Work(
        "create-order", "create an order of 3 items, stock taken", _create_order, _goals(1.5, 2.5, 1.5, 0.5), status=201
    ),
)
