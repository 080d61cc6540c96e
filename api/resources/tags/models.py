"""Tags, any number for each product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marshmallow.validate import Length
from sqlalchemy import String
from sqlalchemy.orm import Mapped, relationship

from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.search import Search
from api.core.database.text_rules import Label
from api.core.database.types import column
from api.extensions import db

if TYPE_CHECKING:
    from api.resources.products.models import Product


class Tag(IntIDModel, SoftDeleteMixin, VersionMixin, db.Model):
    """A word that products are found by."""

    __tablename__ = "tags"
    __search__ = Search("name")

    name: Mapped[str] = column(String(50), validators=[Length(min=1), Label()])

    products: Mapped[list[Product]] = relationship(
        "Product", secondary="product_tags", back_populates="tags", order_by="Product.id"
    )


unique_among_live(Tag.__table__.c.name, ignore_case=True)
