"""Rows are checked as `schema.load()` checks them, for every resource that can be imported and whatever they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import (
    RAISE,
    Schema,
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
    validates,
    validates_schema,
)

from api.core.resource.transfer.checking import RowChecker
from tests.core.query.strategies import documents, examples, scalars, times

IMPORTABLE = ("categories", "products", "roles", "tags", "users")
RIGHT = {
    fields.String: st.sampled_from(["Mug", "mug", "a" * 30]),
    fields.Integer: st.integers(-1, 5) | st.just(3.0),
    fields.Boolean: st.booleans(),
    fields.Decimal: st.sampled_from(["0", "1.5", "19.90", "99999999.99", "-0.00", "007"]),
    fields.DateTime: times.map(lambda time: time.isoformat()),
    fields.Raw: documents,
}
awkward = st.sampled_from(
    ["", " ", "\x00", "a\x00", "1", "1.005", "NaN", "1e5", "-1", "a" * 300, "٣", "true", 2**31, -(2**63), 1e300, {}, []]
)
rubbish = scalars | awkward | documents | st.lists(scalars, max_size=2)


def right(field):
    if isinstance(field, fields.Email) or field.name == "email":
        return st.just("mug@example.org")
    return next((values for type_, values in RIGHT.items() if isinstance(field, type_)), rubbish)


def rows(schema):
    """Rows of which most fields are right, some wrong, some not there, and at times one is unknown."""
    named = {str(field.data_key or name): field for name, field in schema.load_fields.items()}
    mostly = {name: st.one_of(*[right(field)] * 7, rubbish) for name, field in named.items()}
    all_right = st.fixed_dictionaries({name: right(field) for name, field in named.items()})
    given_fields = all_right | st.fixed_dictionaries({}, optional=mostly) | st.fixed_dictionaries(mostly)
    unknown = st.dictionaries(st.sampled_from(["id", "password_hash", "skuu", "", "_schema"]), rubbish, max_size=1)
    return st.tuples(given_fields, st.just({}) | unknown).map(lambda pair: pair[0] | pair[1])


def outcome(check, row):
    """What comes of a row: its values with their types, or the messages."""
    try:
        loaded = check(row)
    except ValidationError as error:
        return "refused", error.normalized_messages()
    return "accepted", {name: (type(value), repr(value)) for name, value in loaded.items()}


def test_these_are_all_the_resources_that_can_be_imported(app):
    found = {name for name, blueprint in app.blueprints.items() if getattr(blueprint, "is_importable", False)}
    assert found == set(IMPORTABLE)


@pytest.mark.parametrize("resource", IMPORTABLE)
def test_a_row_is_accepted_or_refused_as_by_load(app, resource):
    schema = app.blueprints[resource].importable.schema
    checker = RowChecker(schema)
    met = set()

    @examples(300)
    @given(rows(schema))
    def compare(row):
        expected = outcome(schema.load, dict(row))
        assert outcome(checker.checked, dict(row)) == expected
        met.add(expected[0])

    compare()
    assert met == {"accepted", "refused"}


@pytest.mark.parametrize("resource", IMPORTABLE)
def test_right_rows_do_not_need_load(app, resource, monkeypatch):
    schema = app.blueprints[resource].importable.schema
    row = {"name": "Mug", "sku": "a", "price": "1.50", "category_id": 1, "username": "ann", "email": "a@example.org"}
    row = {name: value for name, value in row.items() if name in schema.load_fields}
    expected = schema.load(row)
    monkeypatch.setattr(type(schema), "load", lambda *_: pytest.fail("load() was called"))
    assert RowChecker(schema).checked(row) == expected


class Plain(Schema):
    class Meta:
        unknown = RAISE

    name = fields.String(data_key="Name", attribute="title", required=True)
    number = fields.Integer(load_default=lambda: 7)


class Prepared(Plain):
    @pre_load
    def prepare(self, data, **_):
        return data | {"Name": "prepared"}


class Finished(Plain):
    @post_load
    def finish(self, data, **_):
        return data | {"title": "finished"}


class FieldChecked(Plain):
    @validates("name")
    def check(self, value, **_):
        raise ValidationError(f"{value} will not do.")


class RowChecked(Plain):
    @validates_schema
    def check(self, data, **_):
        raise ValidationError(f"{data['title']} and {data['number']} do not go together.")


class Repeated(Plain):
    name = fields.String(data_key="Name", attribute="title", pre_load=[lambda text: text * 2])


class Doubled(Plain):
    name = fields.String(data_key="Name", attribute="title", post_load=[lambda text: text * 2])


class Fussy(fields.String):
    def _validate(self, value):
        raise ValidationError(f"{value} will not do.")


class FussyChecked(Plain):
    name = Fussy(data_key="Name", attribute="title")


class Validated(Plain):
    name = fields.String(data_key="Name", attribute="title", validate=validate.Length(min=2))


@pytest.mark.parametrize(
    "kind",
    [Plain, Prepared, Finished, FieldChecked, RowChecked, Repeated, Doubled, FussyChecked, Validated],
)
@pytest.mark.parametrize("row", [{"Name": "a"}, {"Name": "a", "number": "x"}, {"name": "a"}, {}], ids=str)
def test_what_a_schema_does_besides_its_fields_is_done(kind, row):
    schema = kind()
    assert outcome(RowChecker(schema).checked, dict(row)) == outcome(schema.load, dict(row))
