"""Groups and what is worked out for them, from the query string to the answer, against plain Python over the rows."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.core.query.aggregate_params import parse_aggregate
from api.core.query.allowlist import Limits
from tests.core.query.reference import MISSING, Condition, Row, at, filters, kind_of
from tests.core.query.strategies import examples, store
from tests.core.query.test_filters import column, rows
from tests.core.query.things import Base, things

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.core.query.strategies import World

ALLOWED = things().allow_list(Limits(conditions_max=200))
KEYS = ["number", "price", "title", "flag", "token", "moment", "day", "owner.name", "owner.boss.name", "note.text"]
KEYS += ["document.a", "document.b.a", *(f"moment.{unit}" for unit in ("hour", "day", "week", "month", "quarter"))]
KEYS += ["moment.year", "day.week", "day.month", "day.year"]
ALL = Condition("id__gte", "0", lambda _: True)
MANY_KEYS = {"": [], "parts": ["parts.size"], "labels": ["labels.name"]}
MANY_NUMBERS = {"": [], "parts": ["parts.size"], "labels": []}
NUMBERS = ["small", "number", "price", "ratio", "document.a"]
ORDERED = [*NUMBERS, "moment", "day"]


# -- what an aggregation means ----------------------------------------------------------------------------------------


class Reference:
    """The groups of a world, worked out line by line: a line is a row with one of its many related rows, or none."""

    def __init__(self, world: World, many: str) -> None:
        self.world = world
        self.many = many

    def _live(self, table: str, **wanted: Any) -> list[Row]:
        found = [row for row in self.world[table] if row.get("deleted_at") is None]
        return [row for row in found if all(row[name] == value for name, value in wanted.items())]

    def lines(self, row: Row) -> list[Row]:
        if self.many == "parts":
            return self._live("parts", thing_id=row["id"]) or [{}]
        pairs = [pair for pair in self.world["thing_labels"] if pair["thing_id"] == row["id"]]
        labels = [label for pair in pairs for label in self._live("labels", id=pair["label_id"])]
        return labels or [{}] if self.many else [{}]

    def value(self, name: str, row: Row, line: Row) -> Any:
        first, *rest = name.split(".")
        if first in {"parts", "labels"}:
            return line.get(rest[0])
        if first == "owner":
            owners = self._live("owners", id=row["owner_id"])
            if len(rest) > 1:
                owners = [boss for owner in owners for boss in self._live("owners", id=owner["boss_id"])]
            return owners[0]["name"] if owners else None
        if first == "note":
            notes = self._live("notes", thing_id=row["id"])
            return notes[0]["content"] if notes else None
        if first == "document":
            found = at(row["document"], rest)
            return None if found is MISSING else found
        return truncated(row[first], rest[0]) if rest and row[first] is not None else row[first]

    def result(self, name: str, lines: Sequence[tuple[Row, Row]]) -> Any:
        """The result `name` of a group; own fields count once for a row."""
        if name == "count":
            return len({row["id"] for row, _ in lines})
        function = function_of(name)
        field = name.removeprefix(f"{function}_")
        if not field.startswith(("parts", "labels")):
            lines = [*{row["id"]: (row, line) for row, line in lines}.values()]
        found = [self.value(field, row, line) for row, line in lines]
        found = [value for value in found if value is not None]
        if function in {"count", "count_distinct"}:
            return len(found if function == "count" else {canonical(value) for value in found})
        return worked_out(function, field, found)

    def groups(self, keys: Sequence[str], holds: Callable[[Row], bool]) -> dict[Any, list[tuple[Row, Row]]]:
        lines: dict[Any, list[tuple[Row, Row]]] = defaultdict(list)
        for row in filter(holds, self.world["things"]):
            for line in self.lines(row):
                lines[canonical([shown(self.value(key, row, line)) for key in keys])].append((row, line))
        return lines if keys else lines or {canonical([]): []}


def function_of(name: str) -> str:
    """The function that the result `name` is of."""
    return next(item for item in ("count_distinct", "count", "sum", "avg", "min", "max") if name.startswith(item))


def truncated(moment: Any, unit: str) -> Any:
    """The start of the unit of time that `moment` lies in."""
    day = moment.date() if isinstance(moment, datetime) else moment
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit in {"month", "quarter", "year"}:
        month = {"month": day.month, "quarter": (day.month - 1) // 3 * 3 + 1, "year": 1}[unit]
        day = day.replace(month=month, day=1)
    return (
        datetime.combine(day, time(moment.hour if unit == "hour" else 0), UTC) if isinstance(moment, datetime) else day
    )


def worked_out(function: str, field: str, found: list[Any]) -> Any:
    if field.startswith("document"):
        found = [value for value in found if kind_of(value) == "number"]
    if not found:
        return None
    if function in {"min", "max"}:
        return shown({"min": min, "max": max}[function](found))
    total = sum((Decimal(str(value)) for value in found), Decimal(0))
    if function == "sum":
        return shown(total) if field == "price" else float(total)
    average = total / len(found)
    return str(average.quantize(Decimal("0.01"), ROUND_HALF_UP)) if field == "price" else pytest.approx(float(average))


def shown(value: Any) -> Any:
    """`value` as JSON shows it."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value if kind_of(value) != "null" or value is None else str(value)


def canonical(value: Any) -> str:
    """Equal for values that PostgreSQL takes for equal: 1 is 1.0, and is not true."""

    def as_float(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: as_float(member) for key, member in item.items()}
        if isinstance(item, list):
            return [as_float(member) for member in item]
        return float(item) if kind_of(item) == "number" else item

    return json.dumps(as_float(value), sort_keys=True, default=str)


# -- what clients ask for ---------------------------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """The relation of many rows that is asked for, keys, and results."""
    many = draw(st.sampled_from(sorted(MANY_KEYS)))
    keys = draw(st.lists(st.sampled_from([*KEYS, *MANY_KEYS[many] * 9]), unique=True, max_size=3))
    possible = ["count"]
    for field in [*NUMBERS, *MANY_NUMBERS[many] * 3]:
        possible += [f"sum_{field}", f"avg_{field}"]
    possible += [f"{function}_{field}" for field in [*ORDERED, *MANY_NUMBERS[many]] for function in ("min", "max")]
    possible += [f"count_distinct_{field}" for field in [*KEYS, *MANY_KEYS[many]]]
    possible += [f"count_{field}" for field in [*KEYS, *MANY_KEYS[many]] if not field.startswith(("moment.", "day."))]
    results = draw(st.lists(st.sampled_from(possible), unique=True, min_size=1, max_size=5))
    if many and draw(st.booleans()):
        keys = [*{*keys[:2], *MANY_KEYS[many]}]
    if many and "count" not in results:
        results += ["count"]
    return many, keys, results


def asked(keys: Sequence[str], results: Sequence[str], **others: str) -> list[tuple[str, str]]:
    """The query string."""
    wanted = defaultdict(list)
    for name in results:
        function = function_of(name)
        wanted[function].append(name.removeprefix(function).removeprefix("_") or "*")
    pairs = [("group_by", ",".join(keys))] if keys else []
    return [*pairs, *((function, ",".join(names)) for function, names in wanted.items()), *others.items()]


@pytest.fixture
def aggregated(thing_reader, thing_scratch):
    """`aggregated(world, check)` calls `check(ask)`; `ask(*pairs)` gives the groups, and whether there are more."""

    def run(world: World, check: Callable[[Callable[..., tuple[list[Row], bool]]], None]) -> None:
        with thing_scratch() as session:
            store(session, Base.metadata, world)

            def ask(*pairs: tuple[str, str]) -> tuple[list[Row], bool]:
                groups = thing_reader.groups(session.connection(), parse_aggregate(pairs, ALLOWED))
                return json.loads(groups.items), groups.more

            check(ask)

    return run


def test_groups_are_those_that_python_works_out(aggregated):
    @examples(120)
    @given(world=rows(related=True), question=questions(), condition=st.just(ALL) | filters(column("number")))
    def run(world, question, condition):
        many, keys, results = question
        reference = Reference(world, many)

        def check(ask):
            groups, more = ask(*asked(keys, results), (condition.name, condition.text))
            expected = reference.groups(keys, condition.holds)
            found = {canonical([group[key] for key in keys]): group for group in groups}
            assert not more
            assert len(found) == len(groups)
            assert set(found) == set(expected)
            for key, lines in expected.items():
                for name in results:
                    assert found[key][name] == reference.result(name, lines), name

        aggregated(world, check)

    run()


def test_having_keeps_the_groups_whose_results_meet_it(aggregated):
    @examples(40)
    @given(world=rows(related=True), low=st.integers(-3, 3), most=st.integers(0, 3))
    def run(world, low, most):
        def check(ask):
            question = asked(["owner.name"], ["count", "sum_number", "avg_price"])
            whole, _ = ask(*question)
            kept, _ = ask(*question, ("having", f"count__gt=1,or=(sum__gte={low},not=(count__lt={most}))"))
            assert kept == [
                group
                for group in whole
                if group["count"] > 1
                and ((group["sum_number"] is not None and group["sum_number"] >= low) or group["count"] >= most)
            ]

        aggregated(world, check)

    run()


def test_groups_are_sorted_by_results_and_then_by_keys_and_come_in_parts(aggregated):
    @examples(40)
    @given(world=rows(related=False), descending=st.booleans(), size=st.integers(1, 3))
    def run(world, descending, size):
        def parts(ask, *question) -> Iterator[Row]:
            for start in range(0, 20, size):
                groups, more = ask(*question, ("limit", str(size)), ("offset", str(start)))
                assert len(groups) == size or not more
                yield from groups
                if not more:
                    return
            pytest.fail("there is no end")

        def check(ask):
            sort = f"{'-' if descending else ''}sum_small"
            question = [*asked(["flag", "number"], ["sum_small"]), ("sort", sort)]
            whole, more = ask(*question)
            assert not more
            assert [*parts(ask, *question)] == whole
            by_keys = sorted(
                whole, key=lambda group: [(group[key] is None, group[key] or 0) for key in ("flag", "number")]
            )
            assert whole == sorted(
                by_keys, key=lambda group: (group["sum_small"] is None, group["sum_small"] or 0), reverse=descending
            )

        aggregated(world, check)

    run()


# -- by example -------------------------------------------------------------------------------------------------------

MARCH = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
WORLD: World = {
    "owners": [],
    "labels": [{"id": 1, "name": "new", "deleted_at": None}, {"id": 2, "name": "new", "deleted_at": None}],
    "things": [
        {"id": 1, "number": 2**31 - 1, "price": Decimal("99999999.99"), "ratio": 1e308, "moment": MARCH},
        {"id": 2, "number": 2**31 - 1, "price": Decimal("99999999.98"), "ratio": 1e308, "moment": MARCH},
    ],
    "thing_labels": [{"thing_id": 1, "label_id": 1}, {"thing_id": 1, "label_id": 2}],
    "parts": [{"id": number, "thing_id": 1, "size": number, "deleted_at": None} for number in (1, 2)],
    "notes": [],
}


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ([("sum", "number,price")], [{"sum_number": 2**32 - 2, "sum_price": "199999999.97"}]),
        ([("avg", "price,number")], [{"avg_price": "99999999.99", "avg_number": 2**31 - 1}]),
        ([("sum", "ratio")], [{"sum_ratio": 2 * 10**308}]),
        ([("sum", "number"), ("having", "sum__in=(4294967294,99999999999999999999)")], [{"sum_number": 2**32 - 2}]),
        ([("having", "count__in=(2,9223372036854775807)")], [{"count": 2}]),
        ([("id", "3")], [{"count": 0}]),
        ([("id", "3"), ("sum", "number")], [{"sum_number": None}]),
        ([("id", "3"), ("group_by", "number")], []),
        ([("group_by", "moment.quarter")], [{"moment.quarter": "2026-01-01T00:00:00.000000Z", "count": 2}]),
        ([("group_by", "moment.week")], [{"moment.week": "2026-03-30T00:00:00.000000Z", "count": 2}]),
        ([("group_by", "labels.name"), ("id", "1")], [{"labels.name": "new", "count": 1}]),
        ([("sum", "parts.size,number"), ("id", "1")], [{"sum_parts.size": 3, "sum_number": 2**31 - 1}]),
        ([("group_by", "code"), ("max", "code")], [{"code": None, "max_code": None}]),
        ([("count", "*,price"), ("deleted", "only")], [{"count": 0, "count_price": 0}]),
    ],
)
def test_an_aggregation_answers(aggregated, pairs, groups):
    def check(ask):
        assert ask(*pairs) == (groups, False)

    aggregated(WORLD, check)
