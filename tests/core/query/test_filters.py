"""Filters, from the query string to the rows, against their meaning in plain Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.core.query.allowlist import Kind, Limits
from api.core.query.cursor import CursorCodec
from api.core.query.params import parse_list
from tests.core.query.reference import DOCUMENTS, POOLS, Field, document_filters, filters, groups
from tests.core.query.strategies import store
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
    @settings(max_examples=15, deadline=None)
    @given(world=rows(related=False), conditions=st.lists(filters(column(name)), min_size=5, max_size=5))
    def run(world, conditions):
        check(world, conditions)

    run()


def test_conditions_on_related_rows_find_the_rows_they_mean(check):
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def run(data):
        world = data.draw(rows(related=True))
        fields = relations(world)
        check(world, [data.draw(filters(field)) for field in fields])

    run()


def test_conditions_inside_documents_find_the_rows_they_mean(check):
    @settings(max_examples=60, deadline=None)
    @given(world=rows(related=False), conditions=st.lists(document_filters(DOCUMENT), min_size=5, max_size=5))
    def run(world, conditions):
        check(world, conditions)

    run()


def test_nested_groups_find_the_rows_they_mean(check):
    @settings(max_examples=50, deadline=None)
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
