"""What goes in and out, in msgspec's structs, which Litestar reads and writes by itself."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct, field

_PRICE_END = 10**8
Count = Annotated[int, Meta(ge=0, lt=2**31)]


class CategoryOut(Struct):
    """A category."""

    id: int
    name: str
    description: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class TagOut(Struct):
    """A tag."""

    id: int
    name: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class ProductOut(Struct):
    """A product."""

    id: int
    sku: str
    name: str
    description: str | None
    price: Decimal
    stock_quantity: int
    category_id: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int
    metadata_: dict[str, Any] = field(name="metadata")


class DetailedProductOut(ProductOut):
    """A product with what belongs to it."""

    category: CategoryOut | None
    tags: list[TagOut]


class UserOut(Struct):
    """A user."""

    id: int
    username: str
    email: str
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class OrderItemOut(Struct):
    """A line of an order."""

    id: int
    product_id: int
    quantity: int
    unit_price: Decimal
    product: ProductOut | None


class OrderOut(Struct):
    """An order."""

    id: uuid.UUID
    user_id: int
    status: str
    total_amount: Decimal
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int
    metadata_: dict[str, Any] = field(name="metadata")


class DetailedOrderOut(OrderOut):
    """An order with its user and items."""

    user: UserOut | None
    items: list[OrderItemOut]


class Page(Struct):
    """Products, and where to go on."""

    items: list[ProductOut]
    next: str | None


class DetailedPage(Struct):
    """Products with what belongs to them."""

    items: list[DetailedProductOut]
    next: str | None


class CountedPage(Struct):
    """A numbered page, and how many rows there are."""

    items: list[ProductOut]
    next: str | None
    total: int


class ProductIn(Struct, forbid_unknown_fields=True):
    """A new product."""

    sku: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    price: Decimal
    category_id: int
    description: Annotated[str, Meta(max_length=10_000)] | None = None
    stock_quantity: Count = 0
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Check the price, for which msgspec has no limits.

        Raises:
            ValueError: which Litestar answers with 400.
        """
        if not 0 <= self.price < _PRICE_END:
            raise ValueError("price: Must be from 0 to 99999999.99.")


class OrderItemIn(Struct, forbid_unknown_fields=True):
    """A line of a new order."""

    product_id: int
    quantity: Annotated[int, Meta(ge=1, lt=2**31)]


class OrderIn(Struct, forbid_unknown_fields=True):
    """A new order."""

    user_id: int
    items: Annotated[list[OrderItemIn], Meta(min_length=1, max_length=100)]
    metadata: dict[str, Any] = {}
