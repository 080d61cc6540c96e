"""Orders, their items, and the statuses an order passes through."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from marshmallow.validate import OneOf, Range
from sqlalchemy import ForeignKey, Index, Integer, String, event, inspect, text
from sqlalchemy.orm import Mapped, Mapper, relationship

from api.core.database.history import HistoryMixin
from api.core.database.mixins import SoftDeleteMixin, Undeletable, VersionMixin
from api.core.database.model import IntIDModel, UUIDModel
from api.core.database.outbox import PublishedMixin
from api.core.database.types import JSONDocument, Money, column
from api.core.errors import ConflictError, Violation
from api.extensions import db

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from api.resources.products.models import Product
    from api.resources.users.models import User


class Order(UUIDModel, SoftDeleteMixin, VersionMixin, HistoryMixin, PublishedMixin, db.Model):
    """What a user bought, at which prices, and how far it has come."""

    OPEN = ("pending", "processing")
    STATUS_CHOICES = ("pending", "processing", "shipped", "delivered", "cancelled")
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        "pending": frozenset({"processing", "cancelled"}),
        "processing": frozenset({"shipped", "cancelled"}),
        "shipped": frozenset({"delivered"}),
        "delivered": frozenset(),
        "cancelled": frozenset(),
    }

    __tablename__ = "orders"
    __owner__ = "user_id"
    __undeletable__ = Undeletable(
        when=lambda order: order.status.in_(order.OPEN), reason="is {status} and holds stock; cancel it first"
    )
    __table_args__ = (
        Index("ix_orders_user_id_created_at", "user_id", "created_at"),
        Index("ix_orders_status_created_at", "status", "created_at"),
        Index("ix_orders_total_amount_id", "total_amount", "id"),
        Index("ix_orders_created_at_id", "created_at", "id"),
        Index("ix_orders_metadata", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
    )

    user_id: Mapped[int] = column(ForeignKey("users.id"))
    status: Mapped[str] = column(
        String(20),
        default="pending",
        server_default="pending",
        validators=[OneOf(STATUS_CHOICES)],
        # What follows depends on what was: the stored status is loaded before it is replaced.
        active_history=True,
    )
    total_amount: Mapped[Decimal] = column(Money, validators=[Range(min=Decimal(0))])
    metadata_: Mapped[dict[str, Any]] = column(
        "metadata", JSONDocument, default=dict, server_default=text("'{}'"), nullable=False
    )

    user: Mapped[User] = relationship("User", back_populates="orders")
    items: Mapped[list[OrderItem]] = relationship(
        "OrderItem",
        back_populates="order",
        order_by="OrderItem.id",
        cascade="all, delete-orphan",
        passive_deletes=True,
    )


class OrderItem(IntIDModel, HistoryMixin, db.Model):
    """One line of an order; the price is the product's at the time of the order."""

    __tablename__ = "order_items"
    __part_of__ = "order_id"
    __table_args__ = (
        Index("ix_order_items_order_id", "order_id"),
        Index("ix_order_items_product_id", "product_id"),
    )

    order_id: Mapped[uuid.UUID] = column(ForeignKey("orders.id", ondelete="CASCADE"))
    product_id: Mapped[int] = column(ForeignKey("products.id"))
    quantity: Mapped[int] = column(Integer, validators=[Range(min=1)])
    unit_price: Mapped[Decimal] = column(Money, validators=[Range(min=Decimal(0))])

    order: Mapped[Order] = relationship("Order", back_populates="items")
    product: Mapped[Product] = relationship("Product")


@event.listens_for(Order, "before_update")
def check_transition(_mapper: Mapper[Any], _connection: Connection, target: Order) -> None:
    """Refuse a status that does not follow from the stored one.

    Raises:
        ConflictError: naming the statuses that would be allowed.
    """
    history = inspect(target).attrs.status.history
    if not history.has_changes() or not history.deleted or target.status not in Order.STATUS_CHOICES:
        return
    before = history.deleted[0]
    allowed = Order.TRANSITIONS[before]
    if target.status != before and target.status not in allowed:
        choices = f"only {' or '.join(sorted(allowed))}" if allowed else "nothing; this is final"
        detail = f"After {before!r} comes {choices}, not {target.status!r}."
        raise ConflictError(violations=[Violation(detail, pointer="/status")])
