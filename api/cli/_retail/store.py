"""Invoices become orders, through the services, a batch a transaction.

An order's key is made from its invoice number. So an invoice is recognised whatever has been done to its order since,
the database itself refuses a second order for it, and a load that broke off can simply be repeated.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from api.core.database.mixins import INCLUDE_DELETED
from api.core.database.outbox import unpublished
from api.core.database.session import transaction
from api.core.resource.service import Service
from api.resources.categories.models import Category
from api.resources.orders.models import Order, OrderItem
from api.resources.orders.service import OrderService
from api.resources.products.models import Product
from api.resources.users.models import User
from api.resources.users.service import UserService

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from api.cli._retail.lines import Line
    from api.cli._retail.stage import Invoice

SOURCE: Final = "online-retail"
CATEGORY: Final = "Retail"
# Never to change: the keys of orders that are loaded already were made with it.
_KEYS: Final = uuid.UUID("6f9a1c1e-3d0b-5c57-9b0e-2d1f7a6c4e58")
_NAME_LENGTH_MAX: Final = 200
_LETTERS_MIN: Final = 3


def order_key(invoice: str) -> uuid.UUID:
    """The key of the order that `invoice` becomes, the same for ever: a UUID of version 5."""
    return uuid.uuid5(_KEYS, invoice)


def username_of(customer: str) -> str:
    """The user that a customer becomes."""
    return f"customer-{customer}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds of an order."""

    lines: int
    quantity: int
    lines_amount: Decimal
    total: Decimal

    def is_same(self, invoice: Invoice) -> bool:
        """Whether this is the order that `invoice` becomes, as far as sums can tell."""
        quantity = sum(line.quantity for line in invoice.lines)
        expected = Stored(len(invoice.lines), quantity, invoice.total, invoice.total)
        return self == expected


@dataclass(slots=True)
class Saved:
    """What a batch, or a sum of batches, has come to. Amounts are in pounds."""

    orders_created: int = 0
    orders_found: int = 0
    users_created: int = 0
    products_created: int = 0
    lines_in_orders: int = 0
    lines_amount: Decimal = Decimal(0)
    database_lines: int = 0
    database_amount: Decimal = Decimal(0)

    def add(self, other: Saved) -> None:
        """Add another batch."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Offer:
    """What a product is called and costs, made up of lines that contradict each other.

    The name is the longest description that reads like one; the price is the highest, since less is asked for many.
    Neither depends on the order of the lines, nor on how they are spread over batches.
    """

    name: str
    price: Decimal

    def include(self, name: str, price: Decimal) -> bool:
        """Take in another line, and say whether it changed anything."""
        before = (self.name, self.price)
        self.name = max(self.name, name, key=_name_rank)
        self.price = max(self.price, price)
        return before != (self.name, self.price)


def name_of(line: Line) -> str:
    """The description, blanks made one; the stock code where it is empty or a note such as `?` or `amazon`."""
    name = " ".join(line.description.split())[:_NAME_LENGTH_MAX].rstrip()
    return name if _name_rank(name)[0] else line.sku


def _name_rank(name: str) -> tuple[bool, int, str]:
    """Sorts names by merit. The shop writes names in capitals; small letters are a clerk's remark."""
    capitals, small = len(re.findall(r"[A-Z]", name)), len(re.findall(r"[a-z]", name))
    return capitals >= _LETTERS_MIN and capitals > small, len(name), name


class Store:
    """Writes invoices."""

    def __init__(self, session: Session) -> None:
        """Work in `session`, which must not be in a transaction."""
        self.session = session
        self._orders = OrderService(Order, session)
        self._users = UserService(User, session)
        self._products = Service(Product, session)
        self._categories = Service(Category, session)

    def save(self, invoices: Sequence[Invoice]) -> tuple[Saved, list[Invoice]]:
        """Make orders of those `invoices` that are none yet, all or nothing.

        Returns:
            What has been done, and the invoices of which there is an order with other lines; nothing is done to those.

        Raises:
            APIError: for what a rule or the database refuses.
        """
        by_key = {order_key(invoice.number): invoice for invoice in invoices}
        with transaction(self.session):
            unpublished(self.session)
            stored = self._stored(by_key)
            changed = {key for key, found in stored.items() if not found.is_same(by_key[key])}
            new = {key: invoice for key, invoice in by_key.items() if key not in stored}
            saved = self._create(new)
            saved.orders_found = len(stored) - len(changed)
            self._reconcile(saved, {key: invoice for key, invoice in by_key.items() if key not in changed})
        # The batch is done with; without this, memory would grow with the file.
        self.session.expunge_all()
        return saved, [by_key[key] for key in changed]

    def _stored(self, keys: Iterable[uuid.UUID]) -> dict[uuid.UUID, Stored]:
        """The orders with these keys, those that were deleted since included."""
        statement = (
            select(
                Order.id,
                func.count(OrderItem.id),
                func.coalesce(func.sum(OrderItem.quantity), 0),
                func.coalesce(func.sum(OrderItem.unit_price * OrderItem.quantity), 0),
                Order.total_amount,
            )
            .outerjoin(Order.items)
            .where(Order.id.in_([*keys]))
            .group_by(Order.id)
        )
        rows = self.session.execute(statement, execution_options={INCLUDE_DELETED: True})
        return {key: Stored(lines, quantity, amount, total) for key, lines, quantity, amount, total in rows}

    def _reconcile(self, saved: Saved, invoices: Mapping[uuid.UUID, Invoice]) -> None:
        """Add up what the file says, and apart from that what the database holds now."""
        for invoice in invoices.values():
            saved.lines_in_orders += len(invoice.lines)
            saved.lines_amount += invoice.total
        for found in self._stored(invoices).values():
            saved.database_lines += found.lines
            saved.database_amount += found.total

    def _create(self, invoices: Mapping[uuid.UUID, Invoice]) -> Saved:
        saved = Saved(orders_created=len(invoices))
        if not invoices:
            return saved
        users = self._user_ids(invoices.values(), saved)
        products = self._product_ids(invoices.values(), saved)
        for key, invoice in invoices.items():
            self._orders.record(_order_data(key, invoice, users, products))
        return saved

    def _user_ids(self, invoices: Iterable[Invoice], saved: Saved) -> dict[str, int]:
        """Ids by customer; a new user gets the country of the first invoice."""
        countries: dict[str, str] = {}
        for invoice in invoices:
            countries.setdefault(username_of(invoice.customer), invoice.country)
        statement = select(func.lower(User.username), User.id).where(func.lower(User.username).in_(countries))
        ids = dict(self.session.execute(statement).all())
        for username in [name for name in countries if name not in ids]:
            profile = {"country": countries[username]}
            data = {"username": username, "email": f"{username}@retail.example", "profile": profile}
            ids[username] = self._users.create(data).id
            saved.users_created += 1
        return ids

    def _product_ids(self, invoices: Iterable[Invoice], saved: Saved) -> dict[str, int]:
        """Ids by stock code. What was loaded before takes in the new lines; another product is left as it is."""
        offers: dict[str, Offer] = {}
        for line in (line for invoice in invoices for line in invoice.lines):
            offer = offers.setdefault(line.sku, Offer(name_of(line), line.price))
            offer.include(name_of(line), line.price)
        keys = [sku.lower() for sku in offers]
        found = {row.sku.upper(): row for row in self._products.repository.list(func.lower(Product.sku).in_(keys))}
        for sku, product in found.items():
            offer = Offer(product.name, product.price)
            if product.metadata_.get("source") == SOURCE and offer.include(offers[sku].name, offers[sku].price):
                self._products.update(product, {"name": offer.name, "price": offer.price})
        ids = {sku: product.id for sku, product in found.items()}
        category = self._category_id() if len(ids) < len(offers) else None
        for sku, offer in offers.items():
            if sku not in ids:
                data = {"sku": sku, "name": offer.name, "price": offer.price, "metadata_": {"source": SOURCE}}
                ids[sku] = self._products.create({**data, "category_id": category}).id
                saved.products_created += 1
        return ids

    def _category_id(self) -> int:
        found = self._categories.repository.list(func.lower(Category.name) == CATEGORY.lower())
        return (found[0] if found else self._categories.create({"name": CATEGORY})).id


def _order_data(
    key: uuid.UUID, invoice: Invoice, users: Mapping[str, int], products: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "id": key,
        "user_id": users[username_of(invoice.customer)],
        "status": "delivered",
        "created_at": invoice.date,
        "metadata_": {"invoice": invoice.number, "country": invoice.country, "source": SOURCE},
        "items": [
            {"product_id": products[line.sku], "quantity": line.quantity, "unit_price": line.price}
            for line in invoice.lines
        ],
    }
