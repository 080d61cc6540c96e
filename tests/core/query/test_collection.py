"""Declarations of what can be queried: what they allow, and mistakes that show at the start."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import fields
from sqlalchemy import Enum, ForeignKey, Integer, String, and_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from api.core.http.schema import BaseSchema, Embed, auto_field
from api.core.query.allowlist import FieldRule, Kind, Limits
from api.core.query.collection import Collection
from api.core.query.plan import QueryPlan
from api.core.query.projection import NoSQLFormError, sql_form
from api.core.query.read import Reader
from api.core.query.relations import JoinFormError
from tests.core.query.things import Owner, Part, PartSchema, Thing, ThingSchema, things

ALLOWED = things().allow_list(Limits())


def test_every_comparable_field_of_the_schema_can_be_filtered_by():
    own = {name for name in ALLOWED.filters if "." not in name}
    assert own == {
        *("id", "small", "number", "rank", "price", "ratio", "title", "flag", "moment", "day", "token", "ordinal"),
        *("top", "code", "document", "deleted_at"),
    }


def test_fields_of_relations_can_be_filtered_by_where_they_are_declared():
    assert {name for name in ALLOWED.filters if "." in name} == {
        *("owner.name", "owner.boss.name", "note.text", "parts.id", "parts.size", "labels.name"),
    }


def test_the_key_and_the_default_sort_can_always_be_sorted_by():
    allowed = Collection("things", Thing, ThingSchema, default_sort="-owner.name", filters=()).allow_list(Limits())
    assert allowed.sorts == {"id", "owner.name"}
    assert [(key.path, key.descending) for key in allowed.default_sort] == [(("owner", "name"), True)]


def test_an_embed_allows_those_that_lead_to_it_and_the_fields_of_all_of_them():
    allowed = Collection("things", Thing, ThingSchema, includes=("owner.boss",)).allow_list(Limits())
    assert allowed.includes == {"owner", "owner.boss"}
    assert {name for name in allowed.fields if "." in name} == {"owner.name", "owner.boss.name"}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("small", FieldRule("small", Kind.INTEGER, nullable=True, minimum=-(2**15), maximum=2**15 - 1)),
        ("rank", FieldRule("rank", Kind.INTEGER, nullable=False, minimum=-(2**31), maximum=2**31 - 1)),
        ("id", FieldRule("id", Kind.INTEGER, nullable=False, minimum=-(2**63), maximum=2**63 - 1)),
        ("top", FieldRule("top", Kind.BOOLEAN, nullable=True)),
        ("price", FieldRule("price", Kind.DECIMAL, nullable=True)),
        ("ratio", FieldRule("ratio", Kind.NUMBER, nullable=True)),
        ("moment", FieldRule("moment", Kind.TIMESTAMP, nullable=True)),
        ("day", FieldRule("day", Kind.DATE, nullable=True)),
        ("token", FieldRule("token", Kind.UUID, nullable=True)),
        ("flag", FieldRule("flag", Kind.BOOLEAN, nullable=True)),
        ("document", FieldRule("document", Kind.JSON, nullable=True)),
        (
            "parts.id",
            FieldRule("parts.id", Kind.INTEGER, nullable=True, minimum=-(2**63), maximum=2**63 - 1, many="parts"),
        ),
        (
            "parts.size",
            FieldRule("parts.size", Kind.INTEGER, nullable=True, minimum=-(2**31), maximum=2**31 - 1, many="parts"),
        ),
    ],
)
def test_a_field_is_compared_as_its_column_is(name, rule):
    assert ALLOWED.filters[name] == rule


@pytest.mark.parametrize("name", ["owner_id", "document_", "owner", "parts", "id.id", "owner.id", "nothing", ""])
def test_what_the_schema_does_not_show_cannot_be_declared(name):
    for declaration in ({"filters": (name,)}, {"sorts": (name,)}, {"default_sort": name}):
        with pytest.raises(ValueError, match=r"(Thing|Owner)Schema has no public field or relation"):
            Collection("things", Thing, ThingSchema, **declaration)


@pytest.mark.parametrize("name", ["id", "nothing", "owner.nothing", "parts.size"])
def test_what_is_no_relation_cannot_be_embedded(name):
    with pytest.raises(ValueError, match="Schema has no public field or relation"):
        Collection("things", Thing, ThingSchema, includes=(name,))


@pytest.mark.parametrize(("name", "reason"), [("document", "has no order"), ("parts.size", "'parts' has many rows")])
def test_what_has_no_single_place_in_an_order_cannot_be_the_default_order(name, reason):
    with pytest.raises(ValueError, match=reason):
        Collection("things", Thing, ThingSchema, default_sort=name)


def test_a_sort_key_with_many_values_for_a_row_is_refused():
    with pytest.raises(ValueError, match="'parts' has many rows"):
        Collection("things", Thing, ThingSchema, sorts=("parts.size",))


def test_a_document_among_the_sort_keys_stands_for_its_paths():
    assert ALLOWED.sort_documents == {"document"}
    assert "document" not in ALLOWED.sorts


def test_parts_of_every_document_that_is_shown_can_be_shown(resources):
    assert ALLOWED.documents == {"document"}
    assert resources["orders"].collection.allow_list(Limits()).documents == {"metadata", "items.product.metadata"}


def test_no_resource_can_be_asked_for_a_password(resources):
    for resource in resources.values():
        allowed = resource.collection.allow_list(Limits())
        assert not [name for name in {*allowed.filters, *allowed.sorts, *allowed.fields} if "password" in name]


class Base(DeclarativeBase):
    """Models that are never stored."""


class Shout(fields.String):
    """Text that only Python shouts."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return str(super()._serialize(value, attr, obj, **kwargs)).upper()


class Tags(fields.List[Any]):
    """A list whose SQL is known."""


@sql_form.register(Tags)
def _tags(_field: Tags, column: Any) -> Any:
    return column


class Shelf(Base):
    """A model with odd attributes."""

    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(10))
    number: Mapped[int]
    mood: Mapped[str] = mapped_column(Enum("good", "bad", name="mood"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(String))
    other_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"))

    near: Mapped[Shelf] = relationship(
        "Shelf",
        primaryjoin=lambda: and_(Shelf.id == foreign(Shelf.other_id), Shelf.name == "x"),
        remote_side=lambda: Shelf.id,
    )

    @hybrid_property
    def twice(self) -> int:
        """Computed, and PostgreSQL knows how."""
        return self.number * 2

    @property
    def thrice(self) -> int:
        """Computed, and PostgreSQL does not know how."""
        return self.number * 3


def schema_with(field: fields.Field[Any]) -> type[BaseSchema]:
    """A schema of shelves with the key and `field`."""

    class ShelfSchema(BaseSchema):
        class Meta(BaseSchema.Meta):
            model = Shelf

        id = auto_field()
        extra = field

    return ShelfSchema


@pytest.mark.parametrize(
    "field",
    [
        fields.Integer(attribute="thrice"),
        fields.Function(lambda shelf: shelf.name),
        fields.Method(),
        fields.Constant(1),
        fields.Integer(),
        Shout(attribute="name"),
        fields.Float(attribute="number", as_string=True),
        fields.DateTime(attribute="name"),
    ],
    ids=lambda field: f"{type(field).__name__} {field.attribute}",
)
def test_a_field_that_only_python_can_dump_is_refused_with_what_to_do(field):
    with pytest.raises(NoSQLFormError, match=r"ShelfSchema.extra is a .*: show a column or a hybrid_property"):
        Collection("shelves", Shelf, schema_with(field))


def test_such_a_field_is_refused_in_an_embed_too():
    class PartsSchema(PartSchema):
        class Meta(PartSchema.Meta):
            model = Part

        extra = fields.Function(len)

    class ManySchema(ThingSchema):
        class Meta(ThingSchema.Meta):
            model = Thing

        parts = Embed(PartsSchema, many=True)

    assert Collection("things", Thing, ManySchema)
    with pytest.raises(NoSQLFormError, match=r"PartsSchema.extra is a Function"):
        Collection("things", Thing, ManySchema, includes=("parts",))


def test_a_relation_by_more_than_keys_is_refused():
    class ShelfSchema(BaseSchema):
        class Meta(BaseSchema.Meta):
            model = Shelf

        id = auto_field()
        near = Embed(schema_with(fields.Integer(attribute="number")))

    for declaration in ({"includes": ("near",)}, {"filters": ("near.id",)}, {"sorts": ("near.id",)}):
        with pytest.raises(JoinFormError, match=r"Shelf.near is joined by more than foreign keys"):
            Collection("shelves", Shelf, ShelfSchema, **declaration)


def test_a_field_with_sql_of_its_own_is_shown_but_not_compared():
    schema = schema_with(Tags(fields.String(), attribute="tags"))
    assert "extra" not in Collection("shelves", Shelf, schema).allow_list(Limits()).filters
    assert "extra" in Collection("shelves", Shelf, schema).allow_list(Limits()).fields
    with pytest.raises(ValueError, match="'extra' is a Tags, which cannot be compared"):
        Collection("shelves", Shelf, schema, filters=("extra",))


@pytest.mark.parametrize("name", ["id", "mood", "tags"])
def test_a_field_is_not_compared_with_a_column_of_another_type(name):
    collection = Collection("shelves", Shelf, schema_with(fields.String(attribute=name, dump_only=True)))
    assert "extra" not in collection.allow_list(Limits()).filters


def test_a_hybrid_property_is_a_field_like_a_column():
    collection = Collection("shelves", Shelf, schema_with(fields.Integer(attribute="twice")), sorts=("extra",))
    assert collection.allow_list(Limits()).filters["extra"].kind is Kind.INTEGER
    assert Reader(collection)


def test_a_field_is_chosen_by_the_name_it_is_written_with():
    class ManySchema(BaseSchema):
        class Meta(BaseSchema.Meta):
            model = Thing

        id = auto_field()
        number = auto_field(data_key="count")
        parts = Embed(PartSchema, many=True, data_key="pieces")

    collection = Collection("things", Thing, ManySchema, includes=("pieces",))
    assert collection.allow_list(Limits()).fields == {"id", "count", "pieces.id", "pieces.size"}
    plan = QueryPlan(fields=("count", "pieces.size"), include=("pieces",))
    part = Part(id=2, size=3)
    assert collection.schema_for(plan).dump(Thing(number=1, parts=[part])) == {"count": 1, "pieces": [{"size": 3}]}


def test_a_mistake_in_an_embed_shows_before_the_first_request(monkeypatch):
    monkeypatch.setattr(Thing.labels.property, "order_by", [Owner.__table__.c.name])
    with pytest.raises(Exception, match=r"not under mapper|No column"):
        Reader(things())
