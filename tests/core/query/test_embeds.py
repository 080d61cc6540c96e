"""What a row shows of the rows that it refers to."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from api.core.query.allowlist import Limits
from api.core.query.cursor import CursorCodec
from api.core.query.params import parse_list
from tests.core.query.strategies import store
from tests.core.query.things import Base, things

GONE = datetime(2026, 1, 1, tzinfo=UTC)
ALLOWED = things().allow_list(Limits())
WORLD = {
    "owners": [
        {"id": 1, "name": "Ada", "boss_id": None, "deleted_at": None},
        {"id": 2, "name": "Bob", "boss_id": 1, "deleted_at": None},
        {"id": 3, "name": "Cyd", "boss_id": 1, "deleted_at": GONE},
    ],
    "labels": [
        {"id": 1, "name": "b", "deleted_at": None},
        {"id": 2, "name": "a", "deleted_at": None},
        {"id": 3, "name": "a", "deleted_at": None},
        {"id": 4, "name": "c", "deleted_at": GONE},
    ],
    "things": [{"id": 1, "owner_id": 2, "number": 5}, {"id": 2, "owner_id": 3, "number": 6}],
    "parts": [
        {"id": 1, "thing_id": 1, "size": None, "deleted_at": None},
        {"id": 2, "thing_id": 1, "size": 1, "deleted_at": None},
        {"id": 3, "thing_id": 1, "size": 2, "deleted_at": None},
        {"id": 4, "thing_id": 1, "size": 2, "deleted_at": None},
        {"id": 5, "thing_id": 1, "size": 9, "deleted_at": GONE},
    ],
    "notes": [{"id": 1, "thing_id": 1, "content": "Handle with care"}],
    "thing_labels": [{"thing_id": 1, "label_id": label} for label in (1, 2, 3, 4)],
}


@pytest.fixture
def shown(thing_reader, thing_scratch):
    """The two things, as a query string asks for them."""

    def items(**parameters: str) -> list[dict[str, object]]:
        with thing_scratch() as session:
            store(session, Base.metadata, WORLD)
            plan = parse_list([*parameters.items()], ALLOWED, CursorCodec("secret"))
            return json.loads(thing_reader.page(session.connection(), plan).items)

    return items


def test_nothing_is_embedded_unless_asked_for(shown):
    assert set(shown()[0]) == {name for name in ALLOWED.fields if "." not in name}


def test_a_single_related_row_is_an_object(shown):
    assert [item["owner"] for item in shown(include="owner")] == [{"name": "Bob"}, None]


def test_a_related_row_shows_its_own_related_row(shown):
    assert shown(include="owner.boss")[0]["owner"] == {"name": "Bob", "boss": {"name": "Ada"}}


def test_a_row_that_refers_back_is_an_object_or_null(shown):
    assert [item["note"] for item in shown(include="note")] == [{"text": "Handle with care"}, None]


def test_many_related_rows_are_in_the_order_of_the_relationship(shown):
    first, second = shown(include="parts")
    assert [part["id"] for part in first["parts"]] == [3, 4, 2, 1]
    assert second["parts"] == []


def test_related_rows_of_a_many_to_many_relation_are_in_its_order_too(shown):
    first, second = shown(include="labels", fields="id")
    assert first == {"id": 1, "labels": [{"id": 3, "name": "a"}, {"id": 2, "name": "a"}, {"id": 1, "name": "b"}]}
    assert second == {"id": 2, "labels": []}


def test_chosen_fields_are_the_only_ones(shown):
    assert shown(fields="number,id") == [{"id": 1, "number": 5}, {"id": 2, "number": 6}]


def test_fields_of_an_embed_are_chosen_apart_from_those_of_the_row(shown):
    assert shown(fields="id,parts.size", include="parts,note")[0] == {
        "id": 1,
        "parts": [{"size": 2}, {"size": 2}, {"size": 1}, {"size": None}],
        "note": {"text": "Handle with care"},
    }
    assert "number" in shown(fields="parts.size", include="parts")[0]


def test_deleted_rows_are_shown_where_asked_for_but_not_embedded(shown):
    assert shown(deleted="include", include="owner")[1]["owner"] is None
    assert shown(deleted="only") == []
