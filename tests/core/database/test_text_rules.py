"""Texts in which something can be seen, and names that hide nothing: in Python, in PostgreSQL and over HTTP alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from sqlalchemy import column, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from api.core.database.text_rules import Identifier, Label, Readable
from api.core.database.validation import as_sql
from api.extensions import db
from tests.factories import CategoryFactory, ProductFactory

RULES = (Readable(), Label(), Identifier())
UNSEEN = {
    "blanks": " \u00a0\u2003\u3000",
    "tab": "\t",
    "line feed": "\n",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "right-to-left override": "\u202e",
    "isolate": "\u2066\u2069",
    "Hangul filler": "\u3164",
    "Braille blank": "\u2800",
    "variation selector": "\ufe0f",
    "tags": "\U000e0041\U000e007f",
}


def accepts(rule, value):
    try:
        rule(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("value", UNSEEN.values(), ids=UNSEEN.keys())
def test_a_text_without_anything_to_see_is_refused(rule, value):
    with pytest.raises(ValidationError, match="Must have a visible character"):
        rule(value)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("value", ["a", " a b ", "Ünïcødé", "日本語", "مرحبا", "שלום", "🛒", "-", "0"])
def test_what_can_be_seen_is_accepted_in_every_script(rule, value):
    assert rule(value) == value


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("ad\u202enim", {"Readable"}),
        ("admin\u200f", {"Readable"}),
        ("ad\u200bmin", {"Readable"}),
        ("admin\x07", {"Readable"}),
        ("two\nlines", {"Readable"}),
        ("ad\u200dmin", {"Readable", "Label"}),
        ("می\u200cخواهم", {"Readable", "Label"}),  # noqa: RUF001 - Persian
        ("👨\u200d👩\u200d👧", {"Readable", "Label"}),
        ("❤\ufe0f", {"Readable", "Label"}),
    ],
)
def test_prose_may_have_marks_a_label_joiners_and_an_identifier_neither(value, allowed):
    assert {type(rule).__name__ for rule in RULES if accepts(rule, value)} == allowed


def test_the_character_that_cannot_be_seen_is_named():
    with pytest.raises(ValidationError, match=r"Must not contain the character U\+202E, which cannot be seen."):
        Label()("ad\u202enim")


characters = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("".join(UNSEEN.values())),
    st.sampled_from("a \u2028\x7f\x85\u061c\u034f"),
)


@settings(max_examples=300, deadline=None)
@given(st.text(characters, min_size=1, max_size=4))
def test_the_pattern_in_the_document_says_the_same(value):
    for rule in RULES:
        assert bool(re.search(rule.pattern.replace("$", r"\Z"), value)) == accepts(rule, value)


def test_postgresql_says_the_same_of_every_character(session):
    """Of each character of the scripts with rules, alone and between two letters."""
    every = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    interesting = [c for c in every if ord(c) < 0x3400 or 0xE0000 <= ord(c) < 0xE0200 or 0xFE00 <= ord(c) <= 0xFFFF]
    values = [*interesting, *(f"a{character}b" for character in interesting)]
    for rule in RULES:
        condition = as_sql(rule, column("v")).compile(dialect=postgresql.dialect())
        found = session.execute(
            text(f"SELECT v FROM unnest(CAST(:values AS text[])) AS v WHERE {condition}"),  # noqa: S608
            {"values": values},
        )
        assert {*found.scalars()} == {value for value in values if accepts(rule, value)}


# -- by declaration on a column


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("categories", {"name": "\u200b"}, "name"),
        ("categories", {"name": "   "}, "name"),
        ("tags", {"name": "sale\u202e"}, "name"),
        ("roles", {"name": "ad\u200dmin"}, "name"),
        ("products", {"name": " \u3164", "sku": "A", "price": "1"}, "name"),
        ("products", {"name": "Mug", "sku": "A\ufeff", "price": "1"}, "sku"),
        ("users", {"username": "ad\u00admin", "email": "a@example.com", "password": "long enough, this"}, "username"),
        ("users", {"username": "admin", "email": '"a\u200b"@example.com', "password": "long enough, this"}, "email"),
    ],
)
def test_the_api_refuses_it_at_the_field(client, path, body, field):
    if path == "products":
        body["category_id"] = CategoryFactory().id
    response = client.post(f"/api/v1/{path}", json=body)
    assert response.status_code == 422
    assert {error["pointer"] for error in response.json["errors"]} == {f"/{field}"}


@pytest.mark.parametrize("name", ["\u200b", "Cups\u202e"])
def test_the_database_refuses_it_from_whoever_writes(session, name):
    category = CategoryFactory()
    with pytest.raises(IntegrityError, match="ck_categories_name_label"):
        session.execute(text("UPDATE categories SET name = :name WHERE id = :id"), {"name": name, "id": category.id})
    session.rollback()


def test_a_change_in_python_is_refused(session):
    product = ProductFactory()
    product.name = "\u200b"
    with pytest.raises(Exception, match="Must have a visible character"):
        db.session.flush()
    session.rollback()


def test_the_document_tells_the_pattern(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    assert schemas["TagCreate"]["properties"]["name"]["pattern"] == Label().pattern
    assert schemas["ProductCreate"]["properties"]["name"]["pattern"] == Readable().pattern
