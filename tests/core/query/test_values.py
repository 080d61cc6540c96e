"""Texts to values, of every kind."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core.query import values
from api.core.query.allowlist import FieldRule, Kind
from api.core.query.documents import DEPTH_MAX
from api.core.query.values import ValueProblemError
from tests.core.query.strategies import calm

UUID = "01890a5d-ac96-774b-bcce-b302099a8057"


def parse(kind: Kind, text: str, **bounds: int) -> object:
    return values.parse_value(text, FieldRule("field", kind, nullable=False, **bounds))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.INTEGER, "-007", -7),
        (Kind.INTEGER, "+1", 1),
        (Kind.DECIMAL, "-12.50", Decimal("-12.50")),
        (Kind.NUMBER, "0.25", Decimal("0.25")),
        (Kind.TEXT, " any text, \u2603 ", " any text, \u2603 "),
        (Kind.TEXT, "", ""),
        (Kind.BOOLEAN, "true", True),
        (Kind.BOOLEAN, "false", False),
        (Kind.DATE, "2026-01-31", date(2026, 1, 31)),
        (Kind.UUID, UUID.upper(), UUID),
    ],
)
def test_a_text_is_read_as_its_field_s_kind(kind, text, value):
    found = parse(kind, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        (
            Kind.INTEGER,
            ["", " 1", "1.0", "1e3", "0x1", "1_0", "\u0661", "9" * 31, "--1"],
            "Must be an integer of at most 30 digits.",
        ),
        (
            Kind.DECIMAL,
            ["", ".5", "5.", "1e999", "NaN", "Infinity", "1,5", "9" * 31],
            "Must be a decimal number, such as 12.50.",
        ),
        (Kind.NUMBER, ["nan", "inf", "1e5"], "Must be a decimal number, such as 12.50."),
        (Kind.BOOLEAN, ["", "True", "1", "yes"], "Must be true or false."),
        (Kind.DATE, ["", "20260131", "2026-W01-1", "2026-02-30", "2026-1-1"], "Must be a date, such as 2026-01-31."),
        (
            Kind.UUID,
            ["", UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID[:-1], UUID + "\n"],
            f"Must be a UUID, such as {UUID}.",
        ),
        (
            Kind.TIMESTAMP,
            [
                "",
                "2026-01-31",
                "2026-01-31T12:30:00",
                "2026-02-30T00:00:00Z",
                "2026-01-31T12:30:60Z",
                "0000-01-01T00:00:00Z",
                "2026-01-31T12:30:00+99:00",
                "2026-01-31T12:30:00Z\n",
                "2026-01-31T12:30:00.1234567Z",
                "0001-01-01T00:00:00+01:00",
                "9999-12-31T23:59:59-01:00",
            ],
            "Must be a time with an offset, such as 2026-01-31T12:30:00Z.",
        ),
    ],
)
def test_what_is_no_such_value_is_refused_with_an_example_of_one(kind, texts, message):
    for text in texts:
        with pytest.raises(ValueProblemError) as raised:
            parse(kind, text)
        assert (text, str(raised.value)) == (text, message)


def test_an_integer_that_its_column_cannot_hold_is_refused_with_the_range():
    assert parse(Kind.INTEGER, "-8", minimum=-8, maximum=7) == -8
    for text in ("8", "-9", "9" * 30):
        with pytest.raises(ValueProblemError, match="Must be between -8 and 7"):
            parse(Kind.INTEGER, text, minimum=-8, maximum=7)


@calm
@given(st.datetimes(timezones=st.builds(timezone, st.integers(-23, 23).map(lambda hours: timedelta(hours=hours)))))
def test_a_time_with_an_offset_is_read_as_that_moment_in_utc(moment):
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        return
    found = parse(Kind.TIMESTAMP, moment.isoformat())
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("text", ["2026-01-31t12:30:00z", "2026-01-31 12:30:00Z", "2026-01-31T13:30:00 01:00"])
def test_a_time_is_read_in_the_other_spellings_of_the_standard_and_with_a_plus_that_became_a_blank(text):
    assert parse(Kind.TIMESTAMP, text) == datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "a\udfffb"])
def test_characters_that_no_text_in_postgresql_can_hold_are_refused(text):
    with pytest.raises(ValueProblemError, match="Must not contain"):
        values.is_storable(text)


@calm
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_any_other_text_can_be_stored(text):
    assert values.is_storable(text)


@pytest.mark.parametrize("text", ["1", "-0.5", "true", "false", "0", "1e-7", "1E5", "-0"])
def test_a_json_operand_that_reads_as_a_scalar_is_one_or_a_string(text):
    assert values.json_readings(text) == (text, json.dumps(text))


@pytest.mark.parametrize("text", ["", "01", "1.", ".5", "null", "NaN", "1e999", "True", "9" * 40, "{}", '"'])
def test_any_other_json_operand_is_a_string(text):
    assert values.json_readings(text) == (json.dumps(text),)


@pytest.mark.parametrize(
    "text", ["{}", '{"a":[1,null,{"b":"\\u2603"}]}', '"\\\\u0000"', "1e300", "9" * 400, "null", '"\U0001f600"']
)
def test_a_json_document_goes_on_as_it_is(text):
    assert values.json_document(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'a':1}",
        "NaN",
        "[Infinity]",
        '{"a":1,"a":2}',
        "1e99999",
        "1" * 5000,
        "[" * 100_000,
        '"\n"',
        "0." + "1" * 500,
    ],
)
def test_what_is_no_json_document_is_refused(text):
    with pytest.raises(ValueProblemError, match="Must be JSON"):
        values.json_document(text)


@pytest.mark.parametrize("text", ['"\\u0000"', '{"\\u0000":1}', '[{"a":["\\ud800"]}]', '{"\\udfff":1}'])
def test_a_json_document_with_characters_that_cannot_be_stored_is_refused(text):
    with pytest.raises(ValueProblemError, match="Must not contain"):
        values.json_document(text)


def test_a_json_document_may_be_nested_to_a_limit():
    limit = DEPTH_MAX
    assert values.json_document("[" * limit + "]" * limit)
    with pytest.raises(ValueProblemError, match=f"deeper than {limit} levels"):
        values.json_document("[" * (limit + 1) + "]" * (limit + 1))


def test_a_pattern_must_not_end_in_the_midst_of_an_escape():
    assert values.parse_like("a\\\\") == "a\\\\"
    with pytest.raises(ValueProblemError, match="Must not end with a backslash"):
        values.parse_like("a\\\\\\")
