"""Products and the tags they bear."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from marshmallow.validate import Length, Range
from sqlalchemy import Column, ForeignKey, Index, Integer, String, Text, func, text
from sqlalchemy.orm import Mapped, relationship

from api.core.database.history import HistoryMixin
from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.search import Search
from api.core.database.text_rules import Identifier, Readable
from api.core.database.types import JSONDocument, Money, UTCDateTime, column
from api.extensions import db

if TYPE_CHECKING:
    from api.resources.categories.models import Category
    from api.resources.tags.models import Tag

product_tags = db.Table(
    "product_tags",
    Column("product_id", ForeignKey("products.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("created_at", UTCDateTime, server_default=func.now(), nullable=False),
)


class Product(IntIDModel, SoftDeleteMixin, VersionMixin, HistoryMixin, db.Model):
    """A thing for sale, and how many of it are left."""

    __tablename__ = "products"
    __search__ = Search("name", "description")
    __table_args__ = (
        Index("ix_products_category_id_price", "category_id", "price"),
        # A keyset page sorts by the key as the last column.
        Index("ix_products_name_id", "name", "id"),
        Index("ix_products_price_id", "price", "id"),
        Index("ix_products_created_at_id", "created_at", "id"),
        Index(
            "ix_products_metadata", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}
        ),
    )

    sku: Mapped[str] = column(String(64), validators=[Length(min=1), Identifier()])
    name: Mapped[str] = column(String(200), validators=[Length(min=1), Readable()])
    description: Mapped[str | None] = column(Text, validators=[Length(max=10_000)])
    price: Mapped[Decimal] = column(Money, validators=[Range(min=Decimal(0))])
    stock_quantity: Mapped[int] = column(Integer, default=0, server_default=text("0"), validators=[Range(min=0)])
    category_id: Mapped[int] = column(ForeignKey("categories.id"))
    metadata_: Mapped[dict[str, Any]] = column(
        "metadata", JSONDocument, default=dict, server_default=text("'{}'"), nullable=False
    )

    category: Mapped[Category] = relationship("Category", back_populates="products")
    tags: Mapped[list[Tag]] = relationship("Tag", secondary=product_tags, back_populates="products", order_by="Tag.id")


unique_among_live(Product.__table__.c.sku, ignore_case=True)
