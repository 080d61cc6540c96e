"""Pages: walked forward and backward they are the sorted whole, whatever the sort and whatever changes meanwhile."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from api.app import API_PREFIX
from api.core.query.cursor import CursorCodec
from api.core.query.plan import Filter, Page, Position, QueryPlan, Sort
from tests.core.query.reference import at as at_path
from tests.core.query.reference import kind_of
from tests.core.query.strategies import examples, store
from tests.core.query.things import Base, Thing
from tests.factories import CategoryFactory, ProductFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.core.query.read import Rows
    from tests.core.query.strategies import World

CODEC = CursorCodec("secret")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.none() | st.integers(0, 2),
    "rank": st.integers(0, 2),
    "price": st.none() | st.sampled_from([Decimal("0.10"), Decimal("9.99")]),
    "title": st.none() | st.sampled_from(["", "a", "ab", "b'\\\"☃"]),
    "moment": st.none()
    | st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)]),
}
OWNERS = [
    {"id": 1, "name": "a", "boss_id": None, "deleted_at": None},
    {"id": 2, "name": "b", "boss_id": 1, "deleted_at": None},
    {"id": 3, "name": None, "boss_id": 2, "deleted_at": None},
    {"id": 4, "name": "a", "boss_id": 1, "deleted_at": datetime(2026, 1, 1, tzinfo=UTC)},
    {"id": 5, "name": "c", "boss_id": 4, "deleted_at": None},
]
DOCUMENTS = st.none() | st.sampled_from(
    [
        *({}, {"a": None}, {"a": 1}, {"a": 1.0}, {"a": -2.5}, {"a": 10}, {"a": "1"}, {"a": ""}, {"a": 'b"%☃'}),
        *({"a": True}, {"a": False}, {"a": [1]}, {"a": []}, {"a": {"b": 1}}, {"a": {"b": "x"}}, {"a": "y" * 9000}),
    ]
)
RELATED = {"owner.name": {1: "a", 2: "b", 5: "c"}, "owner.boss.name": {2: "a", 3: "b"}}


@st.composite
def things(draw: st.DrawFn, first: int = 1, most: int = 9) -> list[dict[str, Any]]:
    """Things with so few values that many are equal."""
    return [
        {name: draw(values) for name, values in VALUES.items()}
        | {"document": draw(DOCUMENTS)}
        | {"id": first + number, "owner_id": draw(st.sampled_from([None, 1, 2, 3, 4, 5]))}
        for number in range(draw(st.integers(0, most)))
    ]


def world(rows: list[dict[str, Any]]) -> World:
    """The things with their owners, and a note on every other one."""
    notes = [{"id": row["id"], "thing_id": row["id"], "content": f"n{row['id'] % 3}"} for row in rows[::2]]
    return {"owners": OWNERS, "things": rows, "notes": notes}


@st.composite
def sorts(draw: st.DrawFn) -> tuple[Sort, ...]:
    """Up to three keys in any direction, and the primary key."""
    possible = [*VALUES, *RELATED, "note.text", "top", "document/a", "document/a/b"]
    names = draw(st.lists(st.sampled_from(possible), unique=True, max_size=3))
    return tuple(_sort(name, descending=draw(st.booleans())) for name in [*names, "id"])


def _sort(name: str, *, descending: bool) -> Sort:
    path, *inside = name.split("/")
    return Sort(tuple(path.split(".")), descending, tuple(inside))


def in_order(data: World, sort: tuple[Sort, ...]) -> list[int]:
    """Keys of the things as the sort means it: NULLs last, first in a descending order.

    Inside documents texts come before numbers, and these before booleans; all else is as good as NULL.
    """
    notes = {note["thing_id"]: note["content"] for note in data["notes"]}

    def key(row: dict[str, Any], name: str) -> tuple[bool, Any]:
        value = RELATED[name].get(row["owner_id"]) if name in RELATED else row.get(name)
        value = {"note.text": notes.get(row["id"]), "top": row["rank"] == 0}.get(name, value)
        return value is None, 0 if value is None else value

    rows = data["things"]
    for item in reversed(sort):
        name, inside = ".".join(item.path), item.json_path
        rows = sorted(
            rows,
            key=lambda row: placed(at_path(row["document"], inside)) if inside else key(row, name),
            reverse=item.descending,
        )
    return [row["id"] for row in rows]


def placed(value: Any) -> tuple[Any, ...]:
    """Where a JSON value stands in an order; a text by its beginning."""
    place = {"string": 0, "number": 1, "boolean": 2}.get(kind_of(value), 3)
    return (place, value[:200] if place == 0 else value) if place < 3 else (3,)


def plan_for(sort: tuple[Sort, ...], size: int, **options: Any) -> QueryPlan:
    return QueryPlan(sort=sort, page=Page(size, **options), fields=("id",))


def keys_of(rows: Rows) -> list[int]:
    return [item["id"] for item in json.loads(rows.items)]


def moved(plan: QueryPlan, position: Position) -> QueryPlan:
    """The plan at a position that has gone to the client and come back."""
    token = CODEC.encode(position, plan.fingerprint())
    return plan.at(CODEC.decode(token, plan.fingerprint()))


def walk(read: Callable[[QueryPlan], Rows], plan: QueryPlan, way: str) -> Iterator[Rows]:
    """The page of `plan`, and those behind it (`next`) or before it (`previous`)."""
    for _ in range(100):
        rows = read(plan)
        yield rows
        position = getattr(rows, way)
        if position is None:
            return
        plan = moved(plan, position)
    pytest.fail("the way through the pages has no end")


@pytest.fixture
def reading(thing_reader, thing_scratch):
    """`reading(rows, check)` stores the rows and calls `check(session, read)`."""

    def run(data: World, check: Callable[[Any, Callable[[QueryPlan], Rows]], None]) -> None:
        with thing_scratch() as session:
            store(session, Base.metadata, data)
            check(session, lambda plan: thing_reader.page(session.connection(), plan))

    return run


def test_keyset_pages_are_the_sorted_whole_forward_and_backward(reading):
    @examples(80)
    @given(rows=things(), sort=sorts(), size=st.integers(1, 4))
    def run(rows, sort, size):
        data = world(rows)

        def check(_session, read):
            plan = plan_for(sort, size)
            forward = list(walk(read, plan, "next"))
            assert [key for page in forward for key in keys_of(page)] == in_order(data, sort)
            assert all(len(keys_of(page)) == size for page in forward[:-1])
            last = plan if len(forward) == 1 else moved(plan, forward[-2].next)
            back = [keys_of(page) for page in walk(read, last, "previous")]
            assert [key for page in reversed(back) for key in page] == in_order(data, sort)

        reading(data, check)

    run()


def test_the_page_before_the_next_page_is_this_page(reading):
    @examples(30)
    @given(rows=things(), sort=sorts(), size=st.integers(1, 3))
    def run(rows, sort, size):
        def check(_session, read):
            plan = plan_for(sort, size)
            pages = list(walk(read, plan, "next"))
            for page, following in pairwise(pages):
                assert keys_of(read(moved(plan, following.previous))) == keys_of(page)

        reading(world(rows), check)

    run()


def test_a_row_that_stays_is_seen_once_whatever_comes_and_goes_meanwhile(reading):
    @examples(50)
    @given(rows=things(), sort=sorts(), size=st.integers(1, 3), data=st.data())
    def run(rows, sort, size, data):
        leaving = data.draw(st.sets(st.sampled_from([row["id"] for row in rows]))) if rows else set()
        arriving = [data.draw(things(first=100 * number, most=3)) for number in (1, 2, 3)]

        def check(session, read):
            seen: list[int] = []
            leave, arrive = sorted(leaving), [*arriving]
            for page in walk(read, plan_for(sort, size), "next"):
                seen += keys_of(page)
                if leave:
                    session.execute(_removal(leave.pop()))
                if arrive and (new := arrive.pop()):
                    session.execute(insert(Thing), new)
            assert len(seen) == len(set(seen))
            staying = [key for key in in_order(world(rows), sort) if key not in leaving]
            assert [key for key in seen if key in staying] == staying

        reading(world(rows), check)

    run()


def _removal(key: int) -> Any:
    """Gone for good, or only marked, by turns."""
    if key % 2:
        return delete(Thing).where(Thing.id == key)
    return update(Thing).where(Thing.id == key).values(deleted_at=datetime.now(UTC))


def test_offset_pages_are_the_sorted_whole(reading):
    @examples(30)
    @given(rows=things(), sort=sorts(), size=st.integers(1, 4))
    def run(rows, sort, size):
        data = world(rows)

        def check(_session, read):
            pages = [read(plan_for(sort, size, offset=start)) for start in range(0, len(rows) + 1, size)]
            assert [key for page in pages for key in keys_of(page)] == in_order(data, sort)
            assert [page.more for page in pages] == [
                len(rows) > start + size for start in range(0, len(rows) + 1, size)
            ]

        reading(data, check)

    run()


ROWS = [{"id": key, "rank": key} for key in range(1, 6)]
BY_ID = (Sort(("id",)),)


def test_an_empty_list_has_no_neighbours(reading):
    def check(_session, read):
        rows = read(plan_for(BY_ID, 2))
        assert (keys_of(rows), rows.next, rows.previous, rows.more) == ([], None, None, False)

    reading(world([]), check)


def test_the_first_page_has_none_before_it_and_the_last_page_none_behind_it(reading):
    def check(_session, read):
        pages = list(walk(read, plan_for(BY_ID, 2), "next"))
        assert [keys_of(page) for page in pages] == [[1, 2], [3, 4], [5]]
        assert pages[0].previous is None
        assert pages[-1].next is None

    reading(world(ROWS), check)


def test_from_a_page_whose_rows_are_gone_the_way_leads_back_to_those_that_are_left(reading):
    def check(session, read):
        plan = plan_for(BY_ID, 2)
        behind = moved(plan, read(plan).next)
        session.execute(delete(Thing).where(Thing.id > 2))
        empty = read(behind)
        assert (keys_of(empty), empty.next) == ([], None)
        assert keys_of(read(moved(plan, empty.previous))) == [1, 2]

    reading(world(ROWS), check)


def test_before_a_page_that_has_become_the_first_one_is_nothing_but_a_way_to_the_start(reading):
    def check(session, read):
        plan = plan_for(BY_ID, 2)
        second = read(moved(plan, read(plan).next))
        session.execute(delete(Thing).where(Thing.id < 3))
        empty = read(moved(plan, second.previous))
        assert (keys_of(empty), empty.previous) == ([], None)
        assert keys_of(read(moved(plan, empty.next))) == [3, 4]

    reading(world(ROWS), check)


def test_the_end_of_a_list_is_a_position_too(reading):
    def check(_session, read):
        end = read(plan_for(BY_ID, 2, position=Position(backward=True)))
        assert (keys_of(end), end.next) == ([4, 5], None)

    reading(world(ROWS), check)


def test_pages_of_a_filtered_list_hold_only_what_it_finds(reading):
    def check(_session, read):
        plan = QueryPlan(where=(Filter(("rank",), "in", (1, 3, 5)),), sort=BY_ID, page=Page(2), fields=("id",))
        assert [keys_of(page) for page in walk(read, plan, "next")] == [[1, 3], [5]]

    reading(world(ROWS), check)


def test_a_page_needs_a_plan_with_a_page(thing_reader, thing_scratch):
    with thing_scratch() as session, pytest.raises(ValueError, match="no page"):
        thing_reader.page(session.connection(), QueryPlan(sort=BY_ID))


@pytest.mark.parametrize("sort", ["category.name", "-category.name", "category.name,-price", "-created_at", "sku"])
def test_links_lead_through_a_whole_list_and_back(client, sort):
    categories = [CategoryFactory(name="b"), CategoryFactory(name="a"), CategoryFactory(deleted_at=datetime.now(UTC))]
    for number in range(7):
        ProductFactory(category=categories[number % 3], price=Decimal(number % 2))
    whole = client.get(f"{API_PREFIX}/products", query_string={"sort": sort}).json["items"]

    pages = [client.get(f"{API_PREFIX}/products", query_string={"sort": sort, "limit": "2"}).json]
    while pages[-1]["next"]:
        pages.append(client.get(pages[-1]["next"]).json)
    back = [pages[-1]]
    while back[-1]["prev"]:
        back.append(client.get(back[-1]["prev"]).json)

    assert [item for page in pages for item in page["items"]] == whole
    assert [page["items"] for page in reversed(back)] == [page["items"] for page in pages]
    assert back[-1]["prev"] is None
