"""Field types: strict on the way in, and on the way out always the same text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from marshmallow import Schema, ValidationError
from marshmallow.validate import Range

from api.core.http import fields


def loaded(field, value):
    return Schema.from_dict({"x": field})().load({"x": value})["x"]


def dumped(field, value):
    return Schema.from_dict({"x": field})().dump({"x": value})["x"]


def refused(field, value):
    with pytest.raises(ValidationError) as caught:
        loaded(field, value)
    return caught.value.messages["x"]


# -- money


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", "0"), ("19.90", "19.90"), ("19.9", "19.90"), ("-5", "-5"), ("0019.90", "19.90"), ("1.9000000", "1.90")],
)
def test_an_amount_is_a_string_with_digits(text, amount):
    assert loaded(fields.Money(), text) == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [19.9, 19, True, None, "", " 1", "1 ", "1.", ".5", "+1", "1e2", "1,5", "NaN", "Infinity", "\u0661", "0x1", ["1"]],
)
def test_what_is_no_such_string_is_refused(value):
    said = refused(fields.Money(), value)
    assert said in (['Must be an amount as a string, such as "19.90".'], ["Field may not be null."])


def test_the_bounds_of_an_amount_are_its_column_s():
    assert loaded(fields.Money(digits=5, places=1), "9999.9") == Decimal("9999.9")
    assert refused(fields.Money(digits=5, places=1), "10000") == ["Must be below 10000."]
    assert refused(fields.Money(digits=5, places=1), "-10000") == ["Must be below 10000."]
    assert refused(fields.Money(digits=5, places=1), "1.05") == ["Must have at most 1 decimals."]


@pytest.mark.parametrize(
    ("amount", "text"), [("5", "5.00"), ("5.1", "5.10"), ("0", "0.00"), ("99999999.99", "99999999.99")]
)
def test_an_amount_is_written_with_all_its_decimals(amount, text):
    assert dumped(fields.Money(), Decimal(amount)) == text


def test_the_pattern_of_an_amount_says_what_is_taken():
    signed, unsigned = fields.Money(), fields.Money(validate=Range(min=0))
    for text, positive, negative in (("19.90", True, True), ("-1", False, True), ("1.234", False, False)):
        assert bool(re.match(unsigned.pattern, text)) is positive
        assert bool(re.match(signed.pattern, text)) is negative
    assert not re.match(unsigned.pattern, "100000000")
    assert re.match(unsigned.pattern, "99999999.99")


# -- times


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:30:00Z",
        "2026-01-31t12:30:00z",
        "2026-01-31T12:30:00.000000+00:00",
        "2026-01-31T14:00:00+01:30",
        "2026-01-31T00:30:00-12:00",
    ],
)
def test_a_time_with_an_offset_is_taken_as_that_moment_in_utc(text):
    moment = loaded(fields.Timestamp(), text)
    assert moment == datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:30:00",
        "2026-01-31",
        "2026-02-30T12:30:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:30Z",
        "31.01.2026",
        "now",
        "",
        1769862600,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_such_time_is_refused(value):
    assert refused(fields.Timestamp(), value) == ["Must be a time with an offset, such as 2026-01-31T12:30:00Z."]


def test_a_time_is_written_in_utc_with_microseconds():
    moment = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    assert dumped(fields.Timestamp(), moment) == "2026-01-31T12:00:00.000000Z"
    assert dumped(fields.Timestamp(), None) is None


# -- text, integers, booleans


def test_a_text_without_nul_is_taken_as_it_is():
    assert loaded(fields.String(), " Ünïcødé 🛒\n") == " Ünïcødé 🛒\n"
    assert refused(fields.String(), "a\0b") == ["Must not contain the NUL character."]
    for value in (5, True, ["a"], {"a": 1}):
        assert refused(fields.String(), value) == ["Not a valid string."]


@pytest.mark.parametrize(("value", "number"), [(5, 5), (5.0, 5), (-0.0, 0), (2**70, 2**70), (0, 0)])
def test_a_whole_number_is_an_integer(value, number):
    assert loaded(fields.Integer(), value) == number
    assert type(loaded(fields.Integer(), value)) is int


@pytest.mark.parametrize("value", [5.5, "5", True, False, "", [5], float("inf"), float("nan")])
def test_what_is_no_whole_number_is_refused(value):
    assert refused(fields.Integer(), value) == ["Not a valid integer."]


@pytest.mark.parametrize("value", ["true", 1, 0, "yes", "", [], "on"])
def test_only_true_and_false_are_booleans(value):
    assert loaded(fields.Boolean(), True) is True
    assert loaded(fields.Boolean(), False) is False
    assert refused(fields.Boolean(), value) == ["Not a valid boolean."]


# -- documents


def nested(levels):
    document = {}
    for _ in range(levels):
        document = {"a": document}
    return document


def test_a_document_may_be_nested_so_deep_and_no_deeper():
    deepest = nested(fields.JSON_DEPTH_MAX)
    assert loaded(fields.JSONObject(), deepest) == deepest
    assert refused(fields.JSONObject(), {"a": deepest}) == ["Must not be nested deeper than 32 levels."]
    assert refused(fields.JSONObject(), {"a": [[deepest]]}) == ["Must not be nested deeper than 32 levels."]


@pytest.mark.parametrize("document", [{"a": "\0"}, {"\0": 1}, {"a": [{"b": "x\0"}]}])
def test_a_document_has_no_nul(document):
    assert refused(fields.JSONObject(), document) == ["Must not contain the NUL character."]


@pytest.mark.parametrize("value", [[], "text", 5, True])
def test_a_document_is_an_object(value):
    assert refused(fields.JSONObject(), value) == ["Must be a JSON object."]
