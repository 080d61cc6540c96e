"""Categories, one for each product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marshmallow.validate import Length
from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, relationship

from api.core.database.history import HistoryMixin
from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.search import Search
from api.core.database.text_rules import Label
from api.core.database.types import column
from api.extensions import db

if TYPE_CHECKING:
    from api.resources.products.models import Product


class Category(IntIDModel, SoftDeleteMixin, VersionMixin, HistoryMixin, db.Model):
    """A shelf of the shop."""

    __tablename__ = "categories"
    __search__ = Search("name", "description")
    __cascades__ = ("products",)

    name: Mapped[str] = column(String(100), validators=[Length(min=1), Label()])
    description: Mapped[str | None] = column(Text, validators=[Length(max=10_000)])

    products: Mapped[list[Product]] = relationship(
        "Product", back_populates="category", order_by="Product.id", passive_deletes="all"
    )


unique_among_live(Category.__table__.c.name, ignore_case=True)
