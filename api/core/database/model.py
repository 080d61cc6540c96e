"""The declarative base and the base models.

A model is `class Product(IntIDModel, SoftDeleteMixin, db.Model)`: an integer or UUID key with timestamps, what it can
do, and Flask-SQLAlchemy's model.
"""

from __future__ import annotations

import uuid

import uuid_utils.compat
from sqlalchemy import BigInteger, Identity, MetaData, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api.core.database.mixins import TimestampMixin

# A name for every constraint: a migration can drop it, and an IntegrityError can be traced to its columns.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Declarative base of all models; `db.Model` is made of it."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)

    def __repr__(self) -> str:
        """Class and key, never a column: a repr ends up in logs."""
        return f"<{type(self).__name__} {self.__dict__.get('id', 'transient')}>"


def new_uuid() -> uuid.UUID:
    """A UUID of version 7 (RFC 9562): random, yet ascending in time, so that the primary key's index stays compact."""
    return uuid_utils.compat.uuid7()


def new_uuid_text() -> str:
    """The text of a new one, in a third of the time."""
    return str(uuid_utils.uuid7())


class IntIDModel(TimestampMixin):
    """An integer key counted by the database, and timestamps."""

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True, sort_order=-100)


class UUIDModel(TimestampMixin):
    """A UUIDv7 key made by the application, and timestamps."""

    id: Mapped[uuid.UUID] = mapped_column(Uuid(as_uuid=True), primary_key=True, default=new_uuid, sort_order=-100)
