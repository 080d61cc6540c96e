"""Filters, from the query string to the rows, against their meaning in plain Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core.query.allowlist import Kind, Limits
from api.core.query.cursor import CursorCodec
from api.core.query.params import parse_list
from tests.core.query.reference import DOCUMENTS, POOLS, Field, document_filters, filters, groups
from tests.core.query.strategies import examples, store
from tests.core.query.things import Base, things

if TYPE_CHECKING:
    from tests.core.query.reference import Condition
    from tests.core.query.strategies import World

ALLOWED = things().allow_list(Limits(conditions_max=200))
COLUMNS = {
    "small": Kind.INTEGER,
    "number": Kind.INTEGER,
    "price": Kind.DECIMAL,
    "ratio": Kind.NUMBER,
    "title": Kind.TEXT,
    "flag": Kind.BOOLEAN,
    "moment": Kind.TIMESTAMP,
    "day": Kind.DATE,
    "token": Kind.UUID,
}
DOCUMENT = Field("document", Kind.JSON, lambda row: [row["document"]])


def column(name: str) -> Field:
    """A field of the thing itself."""
    return Field(name, COLUMNS[name], lambda row: [row[name]])


def relations(world: World) -> list[Field]:
    """Fields of the rows that a thing refers to; deleted ones are as good as not there."""

    def live(table: str, **wanted: Any) -> list[dict[str, Any]]:
        return [
            row
            for row in world[table]
            if row.get("deleted_at") is None and all(row[name] == value for name, value in wanted.items())
        ]

    def owners(row: dict[str, Any]) -> list[dict[str, Any]]:
        return live("owners", id=row["owner_id"])

    def labels(row: dict[str, Any]) -> list[dict[str, Any]]:
        pairs = [pair for pair in world["thing_labels"] if pair["thing_id"] == row["id"]]
        return [label for pair in pairs for label in live("labels", id=pair["label_id"])]

    return [
        Field("owner.name", Kind.TEXT, lambda row: [owner["name"] for owner in owners(row)]),
        Field(
            "owner.boss.name",
            Kind.TEXT,
            lambda row: [boss["name"] for owner in owners(row) for boss in live("owners", id=owner["boss_id"])],
        ),
        Field("note.text", Kind.TEXT, lambda row: [note["content"] for note in live("notes", thing_id=row["id"])]),
        Field("parts.size", Kind.INTEGER, lambda row: [part["size"] for part in live("parts", thing_id=row["id"])]),
        Field("labels.name", Kind.TEXT, lambda row: [label["name"] for label in labels(row)]),
    ]


deletions = st.none() | POOLS[Kind.TIMESTAMP]


def optional(kind: Kind) -> st.SearchStrategy[Any]:
    return st.none() | POOLS[kind]


@st.composite
def rows(draw: st.DrawFn, *, related: bool) -> World:
    """Six things, and if they are asked for, what they refer to."""
    count = 2 if related else 0
    owners = [
        {"id": n, "name": draw(optional(Kind.TEXT)), "boss_id": draw(st.sampled_from([None, n - 1])) if n > 1 else None}
        for n in range(1, count + 1)
    ]
    things_ = [
        {name: draw(optional(kind)) for name, kind in COLUMNS.items()}
        | {
            "id": n,
            "rank": 0,
            "document": draw(st.none() | DOCUMENTS),
            "owner_id": draw(st.sampled_from([None, *range(1, count + 1)])),
        }
        for n in range(1, 7)
    ]
    labels = [{"id": n, "name": draw(optional(Kind.TEXT)), "deleted_at": draw(deletions)} for n in range(1, count + 1)]
    pairs = draw(st.sets(st.tuples(st.integers(1, 6), st.integers(1, 2)), max_size=6)) if related else set()
    parts = [
        {
            "id": n,
            "thing_id": draw(st.integers(1, 6)),
            "size": draw(optional(Kind.INTEGER)),
            "deleted_at": draw(deletions),
        }
        for n in range(1, 3 * count)
    ]
    return {
        "owners": [owner | {"deleted_at": draw(deletions)} for owner in owners],
        "labels": labels,
        "things": things_,
        "thing_labels": [{"thing_id": thing, "label_id": label} for thing, label in sorted(pairs)],
        "parts": parts,
        "notes": [{"id": n, "thing_id": n, "content": draw(optional(Kind.TEXT))} for n in range(1, count + 1)],
    }


@pytest.fixture
def check(thing_reader, thing_scratch):
    """Assert that conditions find exactly the things for which they hold."""

    def assert_found(world: World, conditions: list[Condition]) -> None:
        with thing_scratch() as session:
            store(session, Base.metadata, world)
            for condition in conditions:
                pairs = [(condition.name, condition.text), ("fields", "id"), ("limit", "100")]
                plan = parse_list(pairs, ALLOWED, CursorCodec("secret"))
                found = json.loads(thing_reader.page(session.connection(), plan).items)
                expected = [row["id"] for row in world["things"] if condition.holds(row)]
                assert [item["id"] for item in found] == expected, condition

    return assert_found


@pytest.mark.parametrize("name", COLUMNS)
def test_every_operator_of_a_column_finds_the_rows_it_means(check, name):
    @examples(15)
    @given(world=rows(related=False), conditions=st.lists(filters(column(name)), min_size=5, max_size=5))
    def run(world, conditions):
        check(world, conditions)

    run()


def test_conditions_on_related_rows_find_the_rows_they_mean(check):
    @examples(40)
    @given(data=st.data())
    def run(data):
        world = data.draw(rows(related=True))
        fields = relations(world)
        check(world, [data.draw(filters(field)) for field in fields])

    run()


def test_conditions_inside_documents_find_the_rows_they_mean(check):
    @examples(60)
    @given(world=rows(related=False), conditions=st.lists(document_filters(DOCUMENT), min_size=5, max_size=5))
    def run(world, conditions):
        check(world, conditions)

    run()


def test_nested_groups_find_the_rows_they_mean(check):
    @examples(50)
    @given(data=st.data())
    def run(data):
        world = data.draw(rows(related=True))
        fields = [*(column(name) for name in COLUMNS), *relations(world)]
        single = st.sampled_from(fields).flatmap(filters) | document_filters(DOCUMENT).filter(_fits_a_group)
        check(world, data.draw(st.lists(groups(single), min_size=3, max_size=3)))

    run()


def _fits_a_group(condition: Condition) -> bool:
    """A name inside a group holds none of the grammar's own characters."""
    return not set("=,()") & set(condition.name)


# -- by example -------------------------------------------------------------------------------------------------------

EXAMPLES: World = {
    "owners": [
        {"id": 1, "name": "Ada", "boss_id": None, "deleted_at": None},
        {"id": 2, "name": "Bob", "boss_id": 1, "deleted_at": None},
        {"id": 3, "name": "Ada", "boss_id": 1, "deleted_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
    "labels": [
        {"id": 1, "name": "new", "deleted_at": None},
        {"id": 2, "name": "sale", "deleted_at": None},
        {"id": 3, "name": "sale", "deleted_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
    "things": [
        {"id": 1, "title": "Blue Mug", "owner_id": 1, "document": {"a": 1}},
        {"id": 2, "title": "blue", "owner_id": 2, "document": {"a": "1"}},
        {"id": 3, "title": None, "owner_id": 3, "document": {"a": True}},
        {"id": 4, "title": "50% off_", "owner_id": None, "document": {"a": [1, 2]}},
        {"id": 5, "title": "", "owner_id": None, "document": {"a": {"b": 1}}},
        {"id": 6, "title": "a\\b", "owner_id": None, "document": {"a": None}},
        {"id": 7, "title": "50 off!", "owner_id": None, "document": {"a.b": "x", 'c"{%': "y"}},
        {"id": 8, "title": "d", "owner_id": None, "document": None},
    ],
    "thing_labels": [
        {"thing_id": 1, "label_id": 1},
        {"thing_id": 1, "label_id": 2},
        {"thing_id": 2, "label_id": 1},
        {"thing_id": 3, "label_id": 3},
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("title", "blue", [2]),
        ("title__ne", "blue", [1, 3, 4, 5, 6, 7, 8]),
        ("title__not_in", "blue,d", [1, 3, 4, 5, 6, 7]),
        ("title__in", ",blue", [2, 5]),
        ("title__icontains", "BLUE", [1, 2]),
        ("title__icontains", "0% off_", [4]),
        ("title__icontains", "\\", [6]),
        ("title__startswith", "blue", [2]),
        ("title__startswith", "50%", [4]),
        ("title__like", "50% off_", [4, 7]),
        ("title__like", "50\\% off\\_", [4]),
        ("title__like", "B%", [1]),
        ("title__ilike", "B%", [1, 2]),
        ("title__is_null", "true", [3]),
        ("title__is_null", "false", [1, 2, 4, 5, 6, 7, 8]),
        ("not", "(title=blue)", [1, 3, 4, 5, 6, 7, 8]),
        ("not", "(title=blue,id=2)", [1, 3, 4, 5, 6, 7, 8]),
        ("or", "(title=blue,id__gt=7)", [2, 8]),
        ("and", "(title__icontains=blue,id__lt=2)", [1]),
    ],
)
def test_a_condition_on_a_column_finds(find, name, text, found):
    assert find(name, text) == found


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("owner.name", "Ada", [1]),
        ("owner.name__ne", "Ada", [2, 3, 4, 5, 6, 7, 8]),
        ("owner.name__is_null", "true", [3, 4, 5, 6, 7, 8]),
        ("owner.name__is_null", "false", [1, 2]),
        ("owner.boss.name", "Ada", [2]),
        ("labels.name", "sale", [1]),
        ("labels.name__ne", "sale", [2, 3, 4, 5, 6, 7, 8]),
        ("labels.name__not_in", "new,sale", [3, 4, 5, 6, 7, 8]),
        ("labels.name__is_null", "true", [3, 4, 5, 6, 7, 8]),
        ("not", "(labels.name=new)", [3, 4, 5, 6, 7, 8]),
        ("and", "(labels.name=new,labels.name=sale)", [1]),
    ],
)
def test_a_condition_on_related_rows_finds(find, name, text, found):
    assert find(name, text) == found


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("document.a", "1", [1, 2]),
        ("document.a", "1.0", [1]),
        ("document.a", "true", [3]),
        ("document.a__ne", "1", [3, 4, 5, 6, 7, 8]),
        ("document.a__gt", "0", [1]),
        ("document.a__gte", "true", [3]),
        ("document.a__between", "0,9", [1]),
        ("document.a__between", "0,z", [2]),
        ("document.a__in", "1,true", [1, 2, 3]),
        ("document.a__not_in", "1,true", [4, 5, 6, 7, 8]),
        ("document.a__icontains", "1", [1, 2]),
        ("document.a__is_null", "true", [6, 7, 8]),
        ("document.a__contains", "1", [1, 4]),
        ("document.a__contains", "[2]", [4]),
        ("document.a__has_key", "b", [5]),
        ("document.a.b", "1", [5]),
        ("document.a.0", "1", [4]),
        ("document.a.-1", "2", [4]),
        ("document.a.0__ne", "1", [1, 2, 3, 5, 6, 7, 8]),
        ('document.c"{%', "y", [7]),
        ("document__has_key", "a.b", [7]),
        ("document__contains", '{"a": {}}', [5]),
        ("document__is_null", "true", [8]),
    ],
)
def test_a_condition_inside_a_document_finds(find, name, text, found):
    assert find(name, text) == found


@pytest.fixture
def find(thing_reader, thing_scratch):
    """Keys of the example things that a condition finds."""

    def found(name: str, text: str) -> list[int]:
        with thing_scratch() as session:
            store(session, Base.metadata, EXAMPLES)
            plan = parse_list([(name, text), ("fields", "id")], ALLOWED, CursorCodec("secret"))
            return [item["id"] for item in json.loads(thing_reader.page(session.connection(), plan).items)]

    return found
