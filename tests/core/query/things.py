"""A made-up resource that has all there can be: every type of column, NULLs everywhere, every kind of relation."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, Date, Float, ForeignKey, Integer, Numeric, SmallInteger, String, Table, Text
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from api.core.database.mixins import SoftDeleteMixin
from api.core.database.types import JSONDocument, UTCDateTime
from api.core.http import fields
from api.core.http.schema import BaseSchema, Embed, auto_field
from api.core.query.collection import Collection

_TEMPORARY = {"prefixes": ["TEMPORARY"]}


class Base(DeclarativeBase):
    """Tables of one connection, gone with it."""


thing_labels = Table(
    "thing_labels",
    Base.metadata,
    Column("thing_id", ForeignKey("things.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
    **_TEMPORARY,
)


class Owner(SoftDeleteMixin, Base):
    """What a thing belongs to; it may belong to another owner itself."""

    __tablename__ = "owners"
    __table_args__ = _TEMPORARY

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50))
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))

    boss: Mapped[Owner | None] = relationship("Owner", remote_side="Owner.id")


class Label(SoftDeleteMixin, Base):
    """What many things can bear."""

    __tablename__ = "labels"
    __table_args__ = _TEMPORARY

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50))


class Thing(SoftDeleteMixin, Base):
    """The resource."""

    __tablename__ = "things"
    __table_args__ = _TEMPORARY

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    small: Mapped[int | None] = mapped_column(SmallInteger)
    number: Mapped[int | None] = mapped_column(Integer)
    rank: Mapped[int] = mapped_column(Integer, default=0)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    ratio: Mapped[float | None] = mapped_column(Float)
    title: Mapped[str | None] = mapped_column(String(50))
    flag: Mapped[bool | None]
    moment: Mapped[datetime | None] = mapped_column(UTCDateTime)
    day: Mapped[date | None] = mapped_column(Date)
    token: Mapped[uuid.UUID | None]
    ordinal: Mapped[int | None] = mapped_column(Integer)
    document_: Mapped[dict[str, Any] | None] = mapped_column("document", JSONDocument)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))

    owner: Mapped[Owner | None] = relationship("Owner")
    note: Mapped[Note | None] = relationship("Note", back_populates="thing")
    parts: Mapped[list[Part]] = relationship("Part", order_by="[Part.size.desc().nulls_last(), Part.id]")
    labels: Mapped[list[Label]] = relationship("Label", secondary=thing_labels, order_by="Label.name, Label.id.desc()")

    @hybrid_property
    def top(self) -> bool:
        """Whether nothing ranks before it."""
        return self.rank == 0


class Part(SoftDeleteMixin, Base):
    """One of the pieces of a thing."""

    __tablename__ = "parts"
    __table_args__ = _TEMPORARY

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id"))
    size: Mapped[int | None] = mapped_column(Integer)


class Note(Base):
    """The one note on a thing."""

    __tablename__ = "notes"
    __table_args__ = _TEMPORARY

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id", ondelete="CASCADE"), unique=True)
    content: Mapped[str | None] = mapped_column(Text)

    thing: Mapped[Thing] = relationship("Thing", back_populates="note")


class BossSchema(BaseSchema):
    """The owner of an owner."""

    class Meta(BaseSchema.Meta):
        model = Owner

    name = auto_field()


class OwnerSchema(BaseSchema):
    """An owner."""

    class Meta(BaseSchema.Meta):
        model = Owner

    name = auto_field()
    boss = Embed(BossSchema)


class LabelSchema(BaseSchema):
    """A label."""

    class Meta(BaseSchema.Meta):
        model = Label

    id = auto_field()
    name = auto_field()


class PartSchema(BaseSchema):
    """A part."""

    class Meta(BaseSchema.Meta):
        model = Part

    id = auto_field()
    size = auto_field()


class NoteSchema(BaseSchema):
    """A note; `text` is not the attribute's name."""

    class Meta(BaseSchema.Meta):
        model = Note

    text = auto_field("content")


class ThingSchema(BaseSchema):
    """A thing; `document` is not the attribute's name."""

    class Meta(BaseSchema.Meta):
        model = Thing

    id = auto_field()
    small = auto_field()
    number = auto_field()
    rank = auto_field()
    price = auto_field()
    ratio = auto_field()
    title = auto_field()
    flag = auto_field()
    moment = auto_field()
    day = auto_field()
    token = auto_field()
    ordinal = auto_field()
    top = fields.Boolean()
    code = fields.Integer(attribute="ordinal", as_string=True, dump_only=True)
    document = auto_field("document_")
    deleted_at = auto_field()
    owner = Embed(OwnerSchema)
    note = Embed(NoteSchema)
    parts = Embed(PartSchema, many=True)
    labels = Embed(LabelSchema, many=True)


def things() -> Collection:
    """The collection of things."""
    return Collection(
        "things",
        Thing,
        ThingSchema,
        filters=("owner.name", "owner.boss.name", "note.text", "parts.id", "parts.size", "labels.name"),
        sorts=(
            "number",
            "rank",
            "top",
            "price",
            "title",
            "moment",
            "owner.name",
            "owner.boss.name",
            "note.text",
            "document",
        ),
        includes=("owner.boss", "note", "parts", "labels"),
    )
