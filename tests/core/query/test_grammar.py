"""The grammar of lists, quotes and groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core.query.grammar import GrammarError, Member, parse_group, split_list
from tests.core.query.reference import quoted
from tests.core.query.strategies import calm

plain = st.text(st.characters(exclude_characters=',()"='), min_size=1)


def test_a_list_is_taken_apart_at_its_commas():
    assert split_list("a,b c,") == ["a", "b c", ""]


def test_a_text_without_a_comma_is_a_list_of_one():
    assert split_list("") == [""]


@calm
@given(st.lists(st.text(), min_size=1))
def test_quotes_keep_any_text_together_in_a_list(items):
    assert split_list(",".join(quoted(item) for item in items)) == items


def test_a_quote_inside_of_a_bare_item_is_a_character_like_any_other():
    assert split_list('5"x,a"') == ['5"x', 'a"']


def test_a_backslash_escapes_a_quote_and_itself_only():
    assert split_list(r'"\"\\\n"') == [r'"\\n']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a', "Expected a closing quote at position 3."),
        ('"a"b', "Expected ',' behind the closing quote at position 4."),
        ('"a\\"', "Expected a closing quote at position 5."),
    ],
)
def test_a_wrong_quote_is_refused_with_its_place(text, message):
    with pytest.raises(GrammarError) as raised:
        split_list(text)
    assert str(raised.value) == message


def test_a_group_has_members_with_names_and_values():
    assert parse_group("(a=1,b__gt=x y)", 1) == (Member("a", "1"), Member("b__gt", "x y"))


def test_a_value_may_be_empty_and_may_hold_equals_signs():
    assert parse_group("(a=,b==c=)", 1) == (Member("a", ""), Member("b", "=c="))


@calm
@given(st.lists(st.tuples(plain.filter(lambda name: name not in {"and", "or", "not"}), st.text()), min_size=1))
def test_quotes_keep_any_value_together_in_a_group(pairs):
    text = ",".join(f"{name}={quoted(value)}" for name, value in pairs)
    assert parse_group(f"({text})", 1) == tuple(Member(name, value) for name, value in pairs)


@calm
@given(st.lists(st.text(), min_size=1))
def test_brackets_keep_a_list_together_in_a_group(items):
    text = ",".join(quoted(item) for item in items)
    (member, last) = parse_group(f"(a=({text}),b=1)", 1)
    assert split_list(member.value) == items
    assert last == Member("b", "1")


def test_groups_nest():
    inner = (Member("a", "1"), Member("not", (Member("b", "2"),)))
    assert parse_group("(or=(a=1,not=(b=2)),c=3)", 3) == (Member("or", inner), Member("c", "3"))


def test_groups_nest_up_to_a_limit_and_no_deeper():
    text = "(or=(or=(a=1)))"
    assert parse_group(text, 3)
    with pytest.raises(GrammarError, match="Must not be nested deeper than 2 groups"):
        parse_group(text, 2)


def test_absurd_nesting_is_refused_like_any_other():
    with pytest.raises(GrammarError, match="deeper than 4"):
        parse_group("(or=" * 100_000, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected '(' at position 1."),
        ("a=1", "Expected '(' at position 1."),
        ("()", "Expected name=value at position 2."),
        ("(a)", "Expected name=value at position 3."),
        ("(=1)", "Expected name=value at position 2."),
        ("(a=1", "Expected ',' or ')' at position 5."),
        ("(a=1,)", "Expected name=value at position 6."),
        ("(a=1))", "Expected nothing more at position 6."),
        ("(a=1)b", "Expected nothing more at position 6."),
        ('(a="1"2)', "Expected ',' behind the closing quote at position 7."),
        ("(a=(1,2", "Expected ')' at the end of the list at position 8."),
        ("(a=(1)2)", "Expected ',' or ')' at position 7."),
        ("(or=1)", "Expected '(' at position 5."),
    ],
)
def test_what_is_no_group_is_refused_with_the_place_and_what_should_be_there(text, message):
    with pytest.raises(GrammarError) as raised:
        parse_group(text, 4)
    assert str(raised.value) == message


@calm
@given(st.text(st.sampled_from('(),="\\ora1')))
def test_any_text_is_either_a_group_or_refused(text):
    try:
        members = parse_group(text, 3)
    except GrammarError:
        return
    assert text.startswith("(")
    assert all(member.name for member in members)
