"""A JSON Schema declared on a column holds in the listener, in requests and in the OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import SchemaError
from marshmallow import ValidationError
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from api.core.database.json_schema import JSONSchema
from api.core.database.model import NAMING_CONVENTION, IntIDModel
from api.core.database.types import JSONDocument, column
from api.core.errors import InvalidError
from api.extensions import db

SIZES = {
    "type": "object",
    "required": ["unit"],
    "properties": {
        "unit": {"enum": ["cm", "in"]},
        "sizes": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
    },
    "additionalProperties": False,
}


class _Scratch(DeclarativeBase):
    """Models of this file alone, which no migration knows."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Parcel(IntIDModel, _Scratch):
    """Something with a document that has rules."""

    __tablename__ = "parcels"

    details: Mapped[dict[str, Any]] = column(JSONDocument, validators=[JSONSchema(SIZES)])


@pytest.fixture
def scratch(app):
    """A session that keeps nothing."""
    with app.app_context(), Session(db.owner_engine) as session:
        _Scratch.metadata.create_all(session.connection())
        yield session


def test_a_document_that_follows_the_schema_is_saved(scratch):
    scratch.add(Parcel(details={"unit": "cm", "sizes": [1, 2.5]}))
    scratch.flush()


@pytest.mark.parametrize(
    ("details", "pointers"),
    [
        ({}, {"/details"}),
        ({"unit": "m"}, {"/details/unit"}),
        ({"unit": "cm", "sizes": [1, 0, "x"]}, {"/details/sizes/1", "/details/sizes/2"}),
        ({"unit": "cm", "colour": 1}, {"/details"}),
    ],
)
def test_a_document_that_breaks_the_schema_is_refused_by_the_listener(scratch, details, pointers):
    scratch.add(Parcel(details=details))
    with pytest.raises(InvalidError) as refused:
        scratch.flush()
    assert {violation.pointer for violation in refused.value.violations} == pointers


def test_a_change_in_place_is_checked_as_well(scratch):
    parcel = Parcel(details={"unit": "cm", "sizes": [1]})
    scratch.add(parcel)
    scratch.flush()
    parcel.details["sizes"].append(-1)
    with pytest.raises(InvalidError) as refused:
        scratch.flush()
    assert [violation.pointer for violation in refused.value.violations] == ["/details/sizes/1"]


def test_a_schema_that_is_wrong_in_itself_is_found_at_once():
    with pytest.raises(SchemaError):
        JSONSchema({"type": "objekt"})


def test_a_long_value_is_not_repeated_in_full():
    with pytest.raises(ValidationError) as refused:
        JSONSchema({"properties": {"a": {"type": "integer"}}})({"a": "x" * 10_000})
    assert len(str(refused.value.messages)) < 300


def test_no_more_than_twenty_errors_are_listed():
    with pytest.raises(ValidationError) as refused:
        JSONSchema({"additionalProperties": {"type": "integer"}})({str(number): "x" for number in range(100)})
    assert len(refused.value.messages) == 20
