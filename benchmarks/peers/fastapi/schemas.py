"""What goes in and out, in pydantic's models."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Money = Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=2)]


class Row(BaseModel):
    """What is read from the attributes of an object."""

    model_config = ConfigDict(from_attributes=True)


class Stamped(Row):
    """Ends every row."""

    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class CategoryOut(Stamped):
    """A category."""

    id: int
    name: str
    description: str | None


class TagOut(Stamped):
    """A tag."""

    id: int
    name: str


class ProductOut(Stamped):
    """A product."""

    id: int
    sku: str
    name: str
    description: str | None
    price: Decimal
    stock_quantity: int
    category_id: int
    metadata: dict[str, Any] = Field(validation_alias="metadata_")


class DetailedProductOut(ProductOut):
    """A product with what belongs to it."""

    category: CategoryOut | None
    tags: list[TagOut]


class UserOut(Stamped):
    """A user."""

    id: int
    username: str
    email: str
    is_active: bool


class OrderItemOut(Row):
    """A line of an order."""

    id: int
    product_id: int
    quantity: int
    unit_price: Decimal
    product: ProductOut | None


class OrderOut(Stamped):
    """An order."""

    id: uuid.UUID
    user_id: int
    status: str
    total_amount: Decimal
    metadata: dict[str, Any] = Field(validation_alias="metadata_")


class DetailedOrderOut(OrderOut):
    """An order with its user and items."""

    user: UserOut | None
    items: list[OrderItemOut]


class Page(BaseModel):
    """Products, and where to go on."""

    items: list[ProductOut]
    next: str | None


class DetailedPage(BaseModel):
    """Products with what belongs to them."""

    items: list[DetailedProductOut]
    next: str | None


class CountedPage(Page):
    """A numbered page, and how many rows there are."""

    total: int


class Filter(BaseModel):
    """What a list can be asked for."""

    model_config = ConfigDict(extra="forbid")

    category_id: int
    price__gte: Money = Decimal(0)
    sort: Literal["price"] = "price"


class KeysetQuery(Filter):
    """A page by cursor."""

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = None


class NumberedQuery(Filter):
    """A page by number."""

    page: int = Field(1, ge=1)
    per_page: int = Field(20, ge=1, le=100)


class SearchQuery(BaseModel):
    """A page of what has the words."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field(min_length=1, max_length=200)
    page: int = Field(1, ge=1)


class ProductIn(BaseModel):
    """A new product."""

    model_config = ConfigDict(extra="forbid")

    sku: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(None, max_length=10_000)
    price: Money
    stock_quantity: int = Field(0, ge=0, lt=2**31)
    category_id: int
    metadata: dict[str, Any] = {}


class OrderItemIn(BaseModel):
    """A line of a new order."""

    model_config = ConfigDict(extra="forbid")

    product_id: int
    quantity: int = Field(ge=1, lt=2**31)


class OrderIn(BaseModel):
    """A new order."""

    model_config = ConfigDict(extra="forbid")

    user_id: int
    items: list[OrderItemIn] = Field(min_length=1, max_length=100)
    metadata: dict[str, Any] = {}
