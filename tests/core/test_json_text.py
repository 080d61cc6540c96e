"""JSON from outside: taken exactly as it was sent, or refused with what is wrong and where."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core import json_text
from api.core.json_text import DIGITS_MAX, JSONContentError, JSONSyntaxError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def is_taken(value):
    """Whether no number in `value` is beyond what is taken."""
    if isinstance(value, float):
        return value == 0 or abs(value) >= 1e-307
    if isinstance(value, int):
        return len(str(abs(value))) <= DIGITS_MAX
    if isinstance(value, dict):
        return all(is_taken(item) for item in value.values())
    return not isinstance(value, list) or all(is_taken(item) for item in value)


def refused(text):
    with pytest.raises(JSONContentError) as caught:
        json_text.loads(text if isinstance(text, bytes) else text.encode())
    return caught.value.path, str(caught.value)


@given(values.filter(is_taken), st.booleans())
def test_what_is_taken_is_what_was_sent(value, is_spaced):
    text = json.dumps(value, ensure_ascii=False, indent=1 if is_spaced else None)
    found = json_text.loads(text.encode())
    assert json.dumps(found) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":1,"a":1}', ("a",)),
        ('{"a":1,"b":{"c":[{"d":1},{"e":1,"f":2,"e":null}]}}', ("b", "c", 1, "e")),
        ('{"a":1,"\\u0061":2}', ("a",)),
        ('{"":1,"":2}', ("",)),
        ('[{"a":{"a":1}},{"a":1,"a":{}}]', (1, "a")),
    ],
)
def test_a_key_that_is_given_twice_is_refused_at_its_place(text, path):
    assert refused(text) == (path, "This key is given more than once.")


@pytest.mark.parametrize(
    "text", ['{"a":"a","b":"\\"a\\":1"}', '{"a":{"a":{"a":1}}}', '[{"a":1},{"a":1}]', '{"a":":","A":1}']
)
def test_the_same_key_in_another_object_is_another(text):
    assert json_text.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "digits", ["1" * 41, "-" + "9" * 41, "0." + "1" * 40, "1" * 20 + "." + "1" * 21, "1" * 41 + "e2"]
)
def test_a_number_of_more_than_40_digits_is_refused_at_its_place(digits):
    assert refused(f'{{"a":[0,{digits}]}}') == (("a", 1), "Must be a number of at most 40 digits.")


@pytest.mark.parametrize("number", ["1e-400", "-1.5E-999999", "0.1e-307", "1e-999999999999"])
def test_a_number_that_would_become_zero_is_refused(number):
    assert refused(f"[{number}]")[0] == (0,)


@pytest.mark.parametrize("number", ["1e400", "-1E999999", "1e999999999999999999"])
def test_a_number_that_would_become_infinite_is_no_json(number):
    with pytest.raises(JSONSyntaxError):
        json_text.loads(f"[{number}]".encode())


@pytest.mark.parametrize("number", ["9" * 40, "-" + "9" * 40, "0.0", "-0", "0e99", "0.000e-999", "1e308", "1e-307"])
def test_numbers_at_the_limits_are_taken(number):
    assert json_text.loads(f"[{number}]".encode()) == [json.loads(number)]


def test_all_digits_of_an_integer_are_kept():
    assert json_text.loads(b"[12345678901234567890123456789]") == [12345678901234567890123456789]


def test_a_text_without_end_of_levels_is_refused():
    assert refused(b"[" * 100_000)[1] == "Must not be nested deeper than 500 levels."
    assert refused(b"[" * 2000 + b"]" * 2000)[1] == "Must not be nested deeper than 500 levels."


def test_the_first_level_too_many_is_pointed_at():
    text = b'{"a":[1,{"b":{"c":[]}}]}'
    content = json_text.loads(text)
    json_text.check_depth(content, text, 5)
    with pytest.raises(JSONContentError) as caught:
        json_text.check_depth(content, text, 4)
    assert caught.value.path == ("a", 1, "b", "c")


def test_brackets_in_strings_are_no_levels():
    text = json.dumps({"a": "[{" * 1000}).encode()
    json_text.check_depth(json_text.loads(text), text, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"1" * size,
        lambda size: b"[" + b"1" * size + b"]",
        lambda size: b"0." + b"1" * size,
        lambda size: b"1e" + b"9" * size,
        lambda size: b"[" * size,
        lambda size: b'{"a":' * (size // 5),
        lambda size: b'"' + b"\\u0061" * (size // 6) + b'"',
        lambda size: b"{" + b",".join(b'"%d":1' % number for number in range(size // 10)) + b',"0":1}',
    ],
)
def test_ten_megabytes_are_refused_or_taken_in_linear_time(make):
    def seconds(size):
        text = make(size)
        started = perf_counter()
        with suppress(ValueError):
            json_text.loads(text)
        return perf_counter() - started

    seconds(100_000)
    assert seconds(10_000_000) < 60 * max(seconds(1_000_000), 0.01)


# -- what is stored


def test_a_stored_number_of_any_length_is_read():
    long = "7" * 5000
    assert json_text.stored(f'{{"a":{long},"b":1}}') == {"a": Decimal(long), "b": 1}
    assert [*json_text.unwritable({"a": [1, Decimal(long)]})] == [("a", 1)]
