"""The history's partitions: made ahead, filled from the default one, dropped when they are old."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from api.core.database.history_partitions import make_partitions, prune
from api.extensions import db

PARTS = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE 'history%' ORDER BY 1"


@pytest.fixture
def session(owner):
    """Of the role that owns the tables, as partitions are made and dropped by it."""
    return owner


@pytest.fixture
def parts(session):
    """`parts()`: the names of the partitions; those that the test makes are dropped behind it."""

    def names():
        return session.scalars(text(PARTS)).all()

    before = names()
    session.rollback()
    yield names
    session.rollback()
    for name in {*names()} - {*before}:
        session.execute(text(f"DROP TABLE {name}"))
    session.commit()


def record(session, *times):
    """An entry of each time."""
    for at in times:
        session.execute(
            text(
                "INSERT INTO history (at, table_name, row_id, operation, transaction_id) "
                "VALUES (:at, 'products', '1', 'update', 1)"
            ),
            {"at": at},
        )
    session.commit()


def stored(session):
    """Which partition holds the entry of which day."""
    found = session.execute(text("SELECT tableoid::regclass::text, at::date::text FROM history ORDER BY at"))
    return [tuple(row) for row in found]


def test_this_month_and_the_next_ones_have_a_partition(session, parts):
    expected = session.scalars(
        text(
            "SELECT to_char(now() AT TIME ZONE 'UTC' + make_interval(months => n), '\"history_\"YYYY_MM') "
            "FROM generate_series(0, 3) n"
        )
    ).all()
    assert {*expected, "history_default"} <= {*parts()}


def test_to_make_them_again_makes_nothing(session, parts):
    before = parts()
    assert make_partitions(session) == []
    assert parts() == before


@pytest.mark.usefixtures("parts")
def test_an_entry_without_a_partition_is_kept_and_moved_once_there_is_one(session):
    record(session, "2031-05-01 00:00+00", "2031-05-31 23:59:59+00", "2031-06-01 00:00+00")
    assert {name for name, _ in stored(session)} == {"history_default"}
    assert make_partitions(session, 0) == ["history_2031_05", "history_2031_06"]
    session.commit()
    assert stored(session) == [
        ("history_2031_05", "2031-05-01"),
        ("history_2031_05", "2031-05-31"),
        ("history_2031_06", "2031-06-01"),
    ]
    record(session, "2031-05-02 00:00+00")
    assert stored(session)[1] == ("history_2031_05", "2031-05-02")


def test_months_begin_in_utc_whatever_the_session_is_in(session, parts):
    session.execute(text("SET LOCAL TimeZone = 'Pacific/Auckland'"))
    session.execute(text("SET LOCAL DateStyle = 'German'"))
    record(session, "2031-05-01 00:00+00", "2031-04-30 23:59+00")
    session.execute(text("SET LOCAL TimeZone = 'Pacific/Auckland'"))
    session.execute(text("SET LOCAL DateStyle = 'German'"))
    assert make_partitions(session, 0) == ["history_2031_04", "history_2031_05"]
    session.commit()
    assert [name for name, _ in stored(session)] == ["history_2031_04", "history_2031_05"]
    assert "history_2031_05" in parts()


@pytest.mark.usefixtures("parts")
def test_a_partition_has_the_indexes_of_the_whole(session):
    record(session, "2031-05-01 00:00+00")
    make_partitions(session, 0)
    indexes = session.scalars(text("SELECT indexdef FROM pg_indexes WHERE tablename = 'history_2031_05'")).all()
    assert sorted(index.partition(" USING ")[2] for index in indexes) == [
        "btree (id, at)",
        "btree (table_name, row_id, id)",
    ]


@pytest.mark.usefixtures("parts")
def test_two_that_make_them_at_once_do_not_collide(session, database):
    record(session, "2031-05-01 00:00+00")

    def make(_):
        with database.app_context(), db.owner_transaction() as own:
            return make_partitions(own, 0)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(make, range(4))) == [[], [], [], ["history_2031_05"]]


@pytest.mark.usefixtures("parts")
def test_prune_drops_whole_months_and_empties_the_default_partition(session):
    record(session, "2020-01-15", "2020-02-15")
    make_partitions(session, 0)
    record(session, "2019-07-01")
    with db.transaction():
        pruned = prune(session, 12)
    assert (pruned.partitions, pruned.rows) == (["history_2020_01", "history_2020_02"], 1)
    assert pruned.freed > 0
    assert stored(session) == []


def test_prune_keeps_what_is_not_older_than_that(session, parts):
    def months_ago(number):
        shifted = text("SELECT date_trunc('month', now(), 'UTC') - make_interval(months => :number)")
        return session.scalar(shifted, {"number": number})

    kept, removed = months_ago(2), text("SELECT CAST(:kept AS timestamptz) - interval '1 microsecond'")
    record(session, kept, session.scalar(removed, {"kept": kept}))
    make_partitions(session, 0)
    session.commit()
    before = parts()
    pruned = prune(session, 2)
    session.commit()
    assert pruned.before == f"{kept:%Y-%m-%d}"
    assert pruned.partitions == [min(name for name in before if name != "history_default")]
    assert [day for _, day in stored(session)] == [f"{kept:%Y-%m-%d}"]


def test_a_dry_run_removes_nothing_and_tells_the_same(session, parts):
    record(session, "2020-01-15")
    make_partitions(session, 0)
    record(session, "2019-07-01")
    before = parts()
    told = prune(session, 12, dry_run=True)
    assert len(stored(session)) == 2
    assert parts() == before
    assert prune(session, 12) == told
    session.commit()
