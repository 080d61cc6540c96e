"""Schemas: one class for each resource; what it declares is public, and nothing else is."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from api.core.http.schema import BaseSchema, Embed, References, auto_field, page_schema, references_of
from api.resources.categories.schemas import CategorySchema
from api.resources.orders.schemas import OrderSchema
from api.resources.products.models import Product
from api.resources.products.schemas import ProductSchema
from api.resources.users.models import User
from api.resources.users.schemas import UserSchema


class MinimalSchema(BaseSchema):
    """Two columns of many."""

    class Meta(BaseSchema.Meta):
        model = User
        create_only = ("email",)

    id = auto_field(dump_only=True)
    email = auto_field()


def names(schema):
    return set(schema.fields)


def test_what_is_not_declared_is_not_there():
    assert names(MinimalSchema()) == {"id", "email"}
    assert set(MinimalSchema().dump(User(id=1, email="a@example.com", password_hash="secret"))) == {"id", "email"}


def test_a_response_has_what_may_be_read_and_a_request_what_may_be_written():
    assert "password" not in names(UserSchema())
    assert "password" in names(UserSchema(variant="create"))
    assert "id" in names(UserSchema())
    for variant in ("create", "replace", "patch"):
        assert not names(UserSchema(variant=variant)) & {
            "id",
            "created_at",
            "updated_at",
            "deleted_at",
            "version",
            "roles",
        }


def test_what_is_settled_on_creation_is_in_no_other_request():
    assert "email" in names(MinimalSchema(variant="create"))
    assert "email" not in names(MinimalSchema(variant="replace"))
    assert "email" not in names(MinimalSchema(variant="patch"))
    assert "email" in names(MinimalSchema())


def test_a_patch_requires_nothing():
    assert UserSchema(variant="patch").load({}) == {}
    with pytest.raises(ValidationError) as caught:
        UserSchema(variant="create").load({})
    assert set(caught.value.messages) == {"username", "email", "password"}


def test_a_column_s_rules_are_the_field_s():
    product = ProductSchema(variant="create")
    wrong = {"sku": "", "name": "x" * 201, "price": "-1", "stock_quantity": 2**31, "category_id": 2**63}
    with pytest.raises(ValidationError) as caught:
        product.load(wrong)
    assert set(caught.value.messages) == set(wrong)


def test_a_column_that_may_be_null_is_a_field_that_may():
    assert CategorySchema(variant="patch").load({"description": None}) == {"description": None}
    with pytest.raises(ValidationError):
        CategorySchema(variant="patch").load({"name": None})


def test_a_column_with_a_default_is_not_required():
    assert not {"stock_quantity", "metadata"} & {
        name for name, field in ProductSchema(variant="create").fields.items() if field.required
    }


def test_a_field_may_bear_another_name_than_its_attribute():
    assert ProductSchema(variant="patch").load({"metadata": {"a": 1}}) == {"metadata_": {"a": 1}}
    assert ProductSchema(only=["metadata"]).dump(Product(metadata_={"a": 1})) == {"metadata": {"a": 1}}


def test_an_embedded_schema_is_of_the_same_variant():
    assert "unit_price" in OrderSchema().fields["items"].schema.fields
    assert "unit_price" not in OrderSchema(variant="create").fields["items"].schema.fields


def test_an_embed_is_read_only_unless_it_is_declared_writable():
    assert "category" not in names(ProductSchema(variant="create"))
    assert "profile" in names(UserSchema(variant="create"))


def test_only_selects_and_never_brings_back_what_is_hidden():
    assert names(UserSchema(only=["id", "password"])) == {"id"}


def test_references_tell_their_relationship():
    assert references_of(ProductSchema) == {"tag_ids": "tags"}
    assert references_of(UserSchema) == {"role_ids": "roles"}
    assert references_of(CategorySchema) == {}


@pytest.mark.parametrize("keys", [[0], [-1], [2**63], ["1"], [True], [None], "1", list(range(1, 102))])
def test_references_are_a_bounded_list_of_keys(keys):
    schema = BaseSchema.from_dict({"tag_ids": References("tags")})()
    with pytest.raises(ValidationError):
        schema.load({"tag_ids": keys})


def test_every_variant_has_a_name_of_its_own_in_the_document():
    variants = ("response", "create", "replace", "patch")
    assert [UserSchema.component_name(variant) for variant in variants] == [
        "User",
        "UserCreate",
        "UserReplace",
        "UserPatch",
    ]


def test_a_page_has_items_and_links():
    page = page_schema(CategorySchema)
    assert set(page.fields) == {"items", "next", "prev", "total"}
    assert type(page).__name__ == "CategoryPageSchema"


def test_a_single_embedded_row_may_be_missing_and_a_list_may_not():
    assert Embed(CategorySchema).allow_none
    assert not Embed(CategorySchema, many=True).allow_none


def test_no_schema_shows_a_password():
    for schema in BaseSchema.__subclasses__():
        shown = schema().dump_fields
        assert not {name for name in shown if "password" in name}
        assert not {field.attribute for field in shown.values() if "password" in (field.attribute or "")}
