"""Cursors: they come back as they went, and no other does."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import API_PREFIX
from api.core.query.cursor import CursorCodec, CursorError
from api.core.query.plan import Filter, Position, QueryPlan, Sort
from tests.core.query.strategies import calm, characters
from tests.factories import CategoryFactory, TagFactory

CODEC = CursorCodec("secret")
BINDING = QueryPlan(resource="things").fingerprint()
positions = st.builds(
    Position, st.lists(st.none() | st.text(characters), max_size=4).map(tuple), backward=st.booleans()
)


@calm
@given(positions)
def test_a_position_survives_the_way_to_the_client_and_back(position):
    assert CODEC.decode(CODEC.encode(position, BINDING), BINDING) == position


@calm
@given(positions)
def test_a_token_needs_no_escaping_in_a_url(position):
    assert all(
        character.isascii() and (character.isalnum() or character in "-_")
        for character in CODEC.encode(position, BINDING)
    )


def test_a_token_is_not_longer_than_it_has_to_be():
    assert len(CODEC.encode(Position(("☃" * 300, "1")), BINDING)) < 1.4 * 3 * 300 + 40


@calm
@given(positions, st.data())
def test_an_altered_token_is_refused(position, data):
    token = CODEC.encode(position, BINDING)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABab01-_=. !\u00e9").filter(lambda character: character != token[place]))
    altered = data.draw(
        st.sampled_from(
            [token[:place] + other + token[place + 1 :], token[:place] + other + token[place:], token[:place]]
        )
    )
    with pytest.raises(CursorError):
        CODEC.decode(altered, BINDING)


@pytest.mark.parametrize(
    "token", ["", "a", "=", "A" * 16, "A" * 100_000, "%00", "\u2603", "\ud800", "\x00", "null", " "]
)
def test_rubbish_is_refused(token):
    with pytest.raises(CursorError, match="Must be a cursor of this list, with the same filters and sort"):
        CODEC.decode(token, BINDING)


def test_another_spelling_of_a_token_is_refused():
    token = CODEC.encode(Position(("a",)), BINDING)
    assert urlsafe_b64decode(token + "==") == urlsafe_b64decode(token + "\n==")
    for other in (token + "\n", token + "=", " " + token):
        with pytest.raises(CursorError):
            CODEC.decode(other, BINDING)


def test_a_forged_token_is_refused():
    forged = urlsafe_b64encode(b"0" * 12 + b'[0,"1"]').rstrip(b"=").decode()
    with pytest.raises(CursorError):
        CODEC.decode(forged, BINDING)


def test_a_token_made_with_another_secret_is_refused():
    with pytest.raises(CursorError):
        CODEC.decode(CursorCodec("another").encode(Position(("1",)), BINDING), BINDING)


PLAN = QueryPlan(resource="things", where=(Filter(("a",), "eq", (1,)),), sort=(Sort(("id",)),))


@pytest.mark.parametrize(
    "other",
    [
        QueryPlan(resource="others", where=PLAN.where, sort=PLAN.sort),
        QueryPlan(resource="things", where=(Filter(("a",), "eq", (2,)),), sort=PLAN.sort),
        QueryPlan(resource="things", where=(Filter(("a",), "ne", (1,)),), sort=PLAN.sort),
        QueryPlan(resource="things", sort=PLAN.sort),
        QueryPlan(resource="things", where=PLAN.where, sort=(Sort(("id",), descending=True),)),
        QueryPlan(resource="things", where=PLAN.where, sort=PLAN.sort, deleted="only"),
    ],
)
def test_a_token_of_another_query_is_refused(other):
    with pytest.raises(CursorError):
        CODEC.decode(CODEC.encode(Position(("1",)), other.fingerprint()), PLAN.fingerprint())


@pytest.mark.parametrize("other", [{"fields": ("id",)}, {"include": ("owner",)}, {"count": "exact"}])
def test_what_is_shown_of_the_rows_may_change_between_pages(other):
    changed = QueryPlan(resource="things", where=PLAN.where, sort=PLAN.sort, **other)
    assert CODEC.decode(CODEC.encode(Position(("1",)), changed.fingerprint()), PLAN.fingerprint())


def test_a_cursor_of_one_list_is_refused_by_another(client):
    TagFactory.create_batch(2)
    CategoryFactory.create_batch(2)
    cursor = client.get(f"{API_PREFIX}/tags?limit=1").json["next"].partition("cursor=")[2]
    assert client.get(f"{API_PREFIX}/tags?cursor={cursor}").status_code == 200
    answer = client.get(f"{API_PREFIX}/categories?cursor={cursor}")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json["errors"]] == ["cursor"]


def test_the_longest_sort_keys_make_a_cursor_that_is_accepted(client):
    for number in range(2):
        CategoryFactory(name=f"{number}" + "\U0001f600" * 99)
    page = client.get(f"{API_PREFIX}/categories?limit=1&sort=name").json
    assert client.get(page["next"]).json["items"][0]["name"].startswith("1")
