"""What is right is loaded in a few calls, as marshmallow loads it; of what is not, marshmallow says what is wrong."""

from __future__ import annotations

import pytest
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load, validate

from api.core.http.loading import Loader, NotRightError
from api.resources.orders.schemas import OrderSchema
from api.resources.products.schemas import ProductSchema


class Line(Schema):
    quantity = fields.Integer(required=True, validate=validate.Range(min=1))


class Sent(Schema):
    name = fields.String(required=True, validate=validate.Length(max=5))
    colour = fields.String(data_key="color", attribute="colour_", allow_none=True)
    size = fields.Integer(load_default=lambda: 3)
    lines = fields.List(fields.Nested(Line))


RIGHT = [
    {"name": "a"},
    {"name": "a", "color": "red", "size": 4},
    {"name": "a", "color": None, "lines": [{"quantity": 1}, {"quantity": 2}]},
]
WRONG = [
    {},
    {"name": None},
    {"name": 5},
    {"name": "too long"},
    {"name": "a", "colour": "red"},
    {"name": "a", "lines": [{"quantity": 0}]},
    {"name": "a", "lines": [{}]},
    [],
    None,
    "text",
]


@pytest.mark.parametrize("content", RIGHT)
def test_what_is_right_is_loaded_as_marshmallow_loads_it(content):
    assert Loader(Sent()).load(content) == Sent().load(content)


@pytest.mark.parametrize("content", WRONG)
def test_what_is_wrong_is_left_to_marshmallow(content):
    with pytest.raises(NotRightError):
        Loader(Sent()).load(content)
    with pytest.raises(ValidationError):
        Sent().load(content)


def test_of_a_part_nothing_is_required_and_nothing_filled_in():
    assert Loader(Sent(partial=True)).load({"color": "red"}) == {"colour_": "red"}
    assert Loader(Sent()).load({}, partial=True) == {}


def test_a_list_is_loaded_where_the_schema_is_of_many():
    assert Loader(Sent(many=True)).load([{"name": "a"}]) == [{"name": "a", "size": 3}]
    for content in ({"name": "a"}, [{"name": "a"}, {}]):
        with pytest.raises(NotRightError):
            Loader(Sent(many=True)).load(content)


def test_it_is_left_to_marshmallow_which_fields_may_be_missing():
    with pytest.raises(NotRightError):
        Loader(Sent()).load({"name": "a"}, partial=("name",))


class Hooked(Sent):
    @post_load
    def _changed(self, data, **_):
        return data | {"changed": True}


class Prepared(Sent):
    @pre_load
    def _changed(self, data, **_):
        return data


class Careless(Sent):
    class Meta:
        unknown = EXCLUDE


class OwnField(fields.String):
    def deserialize(self, *_args, **_options):
        return "own"


class Own(Schema):
    name = OwnField()


class Dotted(Schema):
    name = fields.String(attribute="inner.name")


class Trimmed(Schema):
    name = fields.String(pre_load=[str.strip])


@pytest.mark.parametrize("schema", [Hooked, Prepared, Careless, Own, Dotted, Trimmed])
def test_a_schema_that_does_more_is_left_to_marshmallow(schema):
    with pytest.raises(NotRightError):
        Loader(schema()).load({"name": "a"})


@pytest.mark.parametrize("schema", [ProductSchema, OrderSchema])
@pytest.mark.parametrize("variant", ["create", "replace", "patch"])
def test_the_resources_schemas_are_simple_enough(app, schema, variant):
    del app
    assert Loader(schema(variant=variant))._is_able
