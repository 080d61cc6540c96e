"""The tables as SQLAlchemy's declarative models, for the contenders that are built on it; and their page cursors."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

import uuid_utils.compat
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Integer,
    Numeric,
    String,
    Table,
    Text,
    func,
    literal_column,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

PAGE_SIZE = 20


class Base(DeclarativeBase):
    """Of all models."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to declare it
        int: BigInteger,
        Decimal: Numeric(10, 2),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class Stamps:
    """What every row that is shown has."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=1)
    deleted_at: Mapped[datetime | None] = mapped_column(sort_order=1)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"), sort_order=1)


product_tags = Table(
    "product_tags",
    Base.metadata,
    Column("product_id", ForeignKey("products.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Category(Stamps, Base):
    """A shelf of the shop."""

    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(Text)


class Tag(Stamps, Base):
    """A word that products are found by."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Product(Stamps, Base):
    """A thing for sale."""

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    price: Mapped[Decimal]
    stock_quantity: Mapped[int] = mapped_column(Integer)
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")

    category: Mapped[Category] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=product_tags, order_by=Tag.id)


class User(Stamps, Base):
    """Somebody who buys."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120))
    is_active: Mapped[bool]


class Order(Stamps, Base):
    """What a user bought."""

    __tablename__ = "orders"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid_utils.compat.uuid7)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(String(20))
    total_amount: Mapped[Decimal]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")

    user: Mapped[User] = relationship()
    items: Mapped[list[OrderItem]] = relationship(order_by="OrderItem.id")


class OrderItem(Base):
    """One line of an order."""

    __tablename__ = "order_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[Decimal]

    product: Mapped[Product] = relationship()


def live(model: type[Stamps]) -> ColumnElement[bool]:
    """The soft-delete filter."""
    return model.deleted_at.is_(None)


def matches(query: str) -> ColumnElement[bool]:
    """Products that have the words of a search."""
    return literal_column("products.search_vector").bool_op("@@")(_tsquery(query))


def rank(query: str) -> ColumnElement[float]:
    """How well a product meets a search."""
    return func.ts_rank_cd(literal_column("products.search_vector"), _tsquery(query), 1)


def _tsquery(query: str) -> ColumnElement[Any]:
    return func.websearch_to_tsquery(literal_column("'english'::regconfig"), query)


def encode_cursor(last: Product) -> str:
    """Where the next page starts: behind this row."""
    return base64.urlsafe_b64encode(json.dumps([str(last.price), last.id]).encode()).decode()


def after(cursor: str) -> ColumnElement[bool]:
    """The rows behind a cursor.

    Raises:
        ValueError: for one that is none.
    """
    price, key = json.loads(base64.urlsafe_b64decode(cursor))
    return tuple_(Product.price, Product.id) > tuple_(Decimal(price), int(key))


def etag(row: Product | Order) -> str:
    """The entity tag of a row's version."""
    return f'"{row.id}-{row.version}"'
