"""Roles that users may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marshmallow.validate import Length
from sqlalchemy import String
from sqlalchemy.orm import Mapped, relationship

from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.text_rules import Identifier
from api.core.database.types import column
from api.extensions import db

if TYPE_CHECKING:
    from api.resources.users.models import User


class Role(IntIDModel, SoftDeleteMixin, VersionMixin, db.Model):
    """A named set of rights, such as `manager`."""

    __tablename__ = "roles"

    name: Mapped[str] = column(String(50), validators=[Length(min=1), Identifier()])
    description: Mapped[str | None] = column(String(500))

    users: Mapped[list[User]] = relationship("User", secondary="user_roles", back_populates="roles", order_by="User.id")


unique_among_live(Role.__table__.c.name, ignore_case=True)
