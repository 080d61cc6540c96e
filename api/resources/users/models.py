"""Users, their profiles and the roles they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marshmallow.validate import Email, Length
from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Text, UniqueConstraint, func, true
from sqlalchemy.orm import Mapped, relationship

from api.core.database.history import HistoryMixin
from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.search import Search
from api.core.database.text_rules import Identifier
from api.core.database.types import UTCDateTime, column
from api.extensions import db

if TYPE_CHECKING:
    from api.resources.orders.models import Order
    from api.resources.roles.models import Role

user_roles = db.Table(
    "user_roles",
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("created_at", UTCDateTime, server_default=func.now(), nullable=False),
)


class User(IntIDModel, SoftDeleteMixin, VersionMixin, HistoryMixin, db.Model):
    """Somebody who buys, or who runs the shop."""

    __tablename__ = "users"
    __search__ = Search("username", "email", language="simple")
    __unrecorded__ = ("password_hash",)
    __owner__ = "id"
    __cascades__ = ("orders",)
    __table_args__ = (
        Index("ix_users_email_username", "email", "username"),
        Index("ix_users_created_at", "created_at"),
    )

    username: Mapped[str] = column(String(80), validators=[Length(min=3), Identifier()])
    email: Mapped[str] = column(String(120), validators=[Email(), Identifier()])
    password_hash: Mapped[str | None] = column(String(255))
    is_active: Mapped[bool] = column(Boolean, default=True, server_default=true())

    profile: Mapped[Profile | None] = relationship(
        "Profile", back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )
    roles: Mapped[list[Role]] = relationship("Role", secondary=user_roles, back_populates="users", order_by="Role.id")
    orders: Mapped[list[Order]] = relationship(
        "Order", back_populates="user", order_by="Order.id", passive_deletes="all"
    )


class Profile(IntIDModel, db.Model):
    """What a user tells of themselves; it lives and goes with its user."""

    __tablename__ = "profiles"
    __part_of__ = "user_id"
    __table_args__ = (UniqueConstraint("user_id"),)

    user_id: Mapped[int] = column(ForeignKey("users.id", ondelete="CASCADE"))
    full_name: Mapped[str | None] = column(String(120))
    phone: Mapped[str | None] = column(String(32))
    country: Mapped[str | None] = column(String(60))
    bio: Mapped[str | None] = column(Text, validators=[Length(max=10_000)])

    user: Mapped[User] = relationship("User", back_populates="profile")


unique_among_live(User.__table__.c.username, ignore_case=True)
unique_among_live(User.__table__.c.email, ignore_case=True)
