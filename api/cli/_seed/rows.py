"""Makes rows: plain tuples in the order of the columns named here, the same ones for the same random numbers."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from math import sqrt
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from api.cli._seed import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

USERS: Final = ("id", "username", "email", "password_hash", "is_active", "created_at", "updated_at")
PROFILES: Final = ("user_id", "full_name", "phone", "country", "bio", "created_at", "updated_at")
USER_ROLES: Final = ("user_id", "role_id", "created_at")
PRODUCTS: Final = (
    "id", "sku", "name", "description", "price", "stock_quantity", "category_id", "metadata",
    "created_at", "updated_at",
)  # fmt: skip
PRODUCT_TAGS: Final = ("product_id", "tag_id", "created_at")
ORDERS: Final = ("id", "user_id", "status", "total_amount", "metadata", "created_at", "updated_at", "version")
ORDER_ITEMS: Final = ("order_id", "product_id", "quantity", "unit_price", "created_at", "updated_at")

Row = tuple[Any, ...]
T = TypeVar("T")

DAY: Final = timedelta(days=1)
# Orders are of these last days; users and products are there before, in the year that precedes.
ORDER_DAYS: Final = 730
# Pence; the most that a total can be.
TOTAL_MAX: Final = 9_999_999_999
# An open order leaves at least so many of a product to those who come to try the shop.
STOCK_LEFT: Final = 10

_ITEM_COUNTS: Final = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5)
_QUANTITIES: Final = (1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 6)
# Shares of all.
_CANCELLED: Final = 0.06
_ACTIVE: Final = 0.97
_BIOS: Final = 0.3
_SOLD_OUT: Final = 0.04
_GIFTS: Final = 0.12
_CARDS: Final = 0.5
# Up to this age in days, the status of so many orders; what comes next is that of the others.
_STAGES: Final = (
    (3.0, "pending", 0.7, "processing"),
    (10.0, "processing", 0.5, "shipped"),
    (21.0, "shipped", 0.6, "delivered"),
)
_OPEN: Final = frozenset({"pending", "processing"})
# How many times a row has been saved by then, and how many days after the order the last time was, at most.
_PROGRESS: Final = {
    "pending": (1, 0),
    "processing": (2, 1),
    "shipped": (3, 3),
    "delivered": (4, 6),
    "cancelled": (2, 2),
}


class _Weighted(NamedTuple):
    names: tuple[str, ...]
    sums: tuple[int, ...]


def _weighted(weights: Mapping[str, int]) -> _Weighted:
    return _Weighted((*weights,), (*accumulate(weights.values()),))


_COUNTRIES: Final = _weighted({name: weight for name, (_, weight) in words.COUNTRIES.items()})
_CHANNELS: Final = _weighted(words.CHANNELS)
_ROLES: Final = _weighted({name: weight for name, (_, weight) in words.ROLES.items()})
_SHELVES: Final = (*words.SHELVES.items(),)


@dataclass(frozen=True, slots=True)
class Buyer:
    """A user who may order."""

    id: int
    country: str | None


@dataclass(slots=True)
class Ware:
    """A product that may be ordered; the price is in pence."""

    id: int
    pence: int
    stock: int


@dataclass(slots=True)
class Orders:
    """Orders, their items, and how many of which product the open ones among them hold."""

    orders: list[Row] = field(default_factory=list)
    items: list[Row] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)


class Maker:
    """Makes up users, products and orders."""

    def __init__(self, random: Random, until: datetime) -> None:
        """Draw from `random`; the newest order is made at `until`."""
        self.random = random
        self.until = until
        self.since = until - ORDER_DAYS * DAY

    def user(self, key: int, password_hash: str | None, roles: Mapping[str, int]) -> tuple[Row, Row, Row]:
        """A user, the profile and the role, as rows of three tables."""
        draw = self.random
        first, last = draw.choice(words.FIRST_NAMES), draw.choice(words.LAST_NAMES)
        username = f"{first}.{last}.{key}".lower()
        created = self._before_orders()
        country = self._one_of(_COUNTRIES)
        phone = f"+{words.COUNTRIES[country][0]} {draw.randrange(100, 1000)} {draw.randrange(1_000_000):07}"
        bio = draw.choice(words.BIOS) if draw.random() < _BIOS else None
        role = roles[self._one_of(_ROLES)]
        is_active = draw.random() < _ACTIVE
        return (
            (key, username, f"{username}@example.com", password_hash, is_active, created, created),
            (key, f"{first} {last}", phone, country, bio, created, created),
            (key, role, created),
        )

    def product(self, key: int, categories: Mapping[str, int], tags: Mapping[str, int]) -> tuple[Row, list[Row]]:
        """A product, and its tags as rows of their own."""
        draw = self.random
        category, shelf = draw.choice(_SHELVES)
        style, material, thing = draw.choice(words.STYLES), draw.choice(words.MATERIALS), draw.choice(shelf.things)
        colour = draw.choice(words.COLOURS)
        created = self._before_orders()
        # Most are cheap, few are dear.
        pence = int(shelf.cheapest * (shelf.dearest / shelf.cheapest) ** (draw.random() ** 1.5))
        price = pence - pence % 10 + draw.choice((0, 5, 9))
        stock = 0 if draw.random() < _SOLD_OUT else draw.randrange(20, 500)
        metadata = {"colour": colour, "material": material, "weight_grams": 10 * draw.randrange(2, 250)}
        row = (
            key,
            f"{shelf.code}-{key:06}",
            f"{style} {material.title()} {thing}",
            f"{style} {thing.lower()} of {material}, in {colour}.",
            pounds(price),
            stock,
            categories[category],
            json.dumps(metadata),
            created,
            created,
        )
        chosen = draw.sample([*tags.values()], draw.randrange(4))
        return row, [(key, tag, created) for tag in chosen]

    def orders(self, numbers: range, count: int, buyers: Sequence[Buyer], wares: Sequence[Ware]) -> Orders:
        """The orders with these numbers out of `count`, the oldest first; the shop grows from day to day."""
        made = Orders()
        for number in numbers:
            age = (self.until - self.since) * (1 - sqrt((number + self.random.random()) / count))
            self._add_order(made, self.until - age, self._favourite(buyers), wares)
        return made

    def _add_order(self, made: Orders, created: datetime, buyer: Buyer, wares: Sequence[Ware]) -> None:
        draw = self.random
        key = uuid7(created, draw)
        basket = self._basket(wares)
        status = self._status((self.until - created) / DAY)
        if status in _OPEN:
            if all(ware.stock >= quantity + STOCK_LEFT for ware, quantity in basket):
                for ware, quantity in basket:
                    ware.stock -= quantity
                    made.taken[ware.id] += quantity
            else:
                status = "shipped"
        version, days = _PROGRESS[status]
        updated = min(created + days * draw.random() * DAY, self.until)
        total = sum(ware.pence * quantity for ware, quantity in basket)
        metadata = self._order_metadata(buyer.country)
        made.orders.append((key, buyer.id, status, pounds(total), metadata, created, updated, version))
        made.items.extend((key, ware.id, quantity, pounds(ware.pence), created, created) for ware, quantity in basket)

    def _basket(self, wares: Sequence[Ware]) -> list[tuple[Ware, int]]:
        """Different products, and how many of each; no more than a total can hold."""
        chosen: dict[int, tuple[Ware, int]] = {}
        total = 0
        for _ in range(self.random.choice(_ITEM_COUNTS)):
            ware, quantity = self._favourite(wares), self.random.choice(_QUANTITIES)
            if total + ware.pence * quantity > TOTAL_MAX:
                quantity = 1
            if ware.id not in chosen and total + ware.pence * quantity <= TOTAL_MAX:
                chosen[ware.id] = (ware, quantity)
                total += ware.pence * quantity
        return [*chosen.values()]

    def _favourite(self, choices: Sequence[T]) -> T:
        """One of them; some are chosen far more often than others."""
        return choices[int(len(choices) * self.random.random() ** 2)]

    def _status(self, age: float) -> str:
        """Where an order of that `age` in days has arrived."""
        draw = self.random.random()
        if draw < _CANCELLED:
            return "cancelled"
        draw = self.random.random()
        for days, status, share, following in _STAGES:
            if age < days:
                return status if draw < share else following
        return "delivered"

    def _order_metadata(self, country: str | None) -> str:
        draw = self.random
        metadata: dict[str, Any] = {"country": country or self._one_of(_COUNTRIES), "channel": self._one_of(_CHANNELS)}
        if draw.random() < _GIFTS:
            metadata["gift"] = {"wrapping": draw.choice(words.COLOURS), "card": draw.random() < _CARDS}
        return json.dumps(metadata)

    def _one_of(self, weighted: _Weighted) -> str:
        return self.random.choices(weighted.names, cum_weights=weighted.sums)[0]

    def _before_orders(self) -> datetime:
        """A time in the year before the first order, in whole seconds."""
        return self.since - timedelta(seconds=self.random.randrange(365 * 86_400))


def pounds(pence: int) -> str:
    """An amount as the database reads it."""
    return f"{pence // 100}.{pence % 100:02}"


def uuid7(time: datetime, random: Random) -> uuid.UUID:
    """A UUID of version 7 (RFC 9562) of that `time`."""
    milliseconds = int(time.timestamp() * 1000)
    bits = milliseconds << 80 | 0x7 << 76 | random.getrandbits(12) << 64 | 0b10 << 62 | random.getrandbits(62)
    return uuid.UUID(int=bits)
