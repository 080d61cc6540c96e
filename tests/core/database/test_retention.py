"""Retention: a purger for each kind of data that ends, registered by name and run batch by batch."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from api.core.database import retention
from api.core.database.retention import Purged, delete_in_batches, parse_duration, purger, purgers
from api.extensions import db
from api.resources.tags.models import Tag
from tests.factories import TagFactory


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry of this test's own."""
    monkeypatch.setattr(retention, "_PURGERS", {})


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("4w", timedelta(weeks=4)), ("0d", timedelta(0))],
)
def test_a_duration_is_a_number_of_hours_days_or_weeks(value, meaning):
    assert parse_duration(value) == meaning


@pytest.mark.parametrize("value", ["", "90", "d", "-1d", "1.5d", "90 d", "90D", "3m", "999999d", "٣d", "1d\n"])
def test_anything_else_is_no_duration(value):
    with pytest.raises(ValueError, match="write hours, days or weeks, such as 12h, 90d or 4w"):
        parse_duration(value)


def test_a_purger_is_registered_by_name():
    @purger("sessions")
    def purge(_session, _older_than, *, dry_run):
        yield Purged(0 if dry_run else 1)

    assert purgers() == {"sessions": purge}


def test_a_name_has_one_purger():
    register = purger("sessions")
    register(lambda *_, **__: iter([]))
    with pytest.raises(ValueError, match="there is a purger of 'sessions' already"):
        register(lambda *_, **__: iter([]))


def test_what_batches_have_purged_adds_up():
    total = Purged(1, {"a": 1}) + Purged(2, {"a": 2, "b": 3})
    assert total == Purged(3, {"a": 3, "b": 3})


def test_rows_are_deleted_batch_by_batch(session):
    TagFactory.create_batch(5)
    batches = delete_in_batches(session(), Tag.__table__, Tag.__table__.c.name != "x", dry_run=False, size=2)
    assert [batch.removed for batch in batches] == [2, 2, 1]
    assert session.scalar(text("SELECT count(*) FROM tags")) == 0


def test_a_batch_is_committed_before_the_next_one(session):
    TagFactory.create_batch(5)
    batches = delete_in_batches(session(), Tag.__table__, dry_run=False, size=2)
    next(batches)
    session.rollback()
    assert session.scalar(text("SELECT count(*) FROM tags")) == 3


def test_rows_that_others_hold_are_left_for_the_next_time(session):
    TagFactory.create_batch(3)
    with db.engine.connect() as other:
        other.execute(text("SELECT * FROM tags ORDER BY id LIMIT 1 FOR UPDATE"))
        batches = delete_in_batches(session(), Tag.__table__, dry_run=False)
        assert [batch.removed for batch in batches] == [2]


def test_a_dry_run_counts_and_deletes_nothing(session):
    TagFactory(name="a")
    TagFactory(name="b")
    batches = delete_in_batches(session(), Tag.__table__, Tag.__table__.c.name == "a", dry_run=True)
    assert [batch.removed for batch in batches] == [1]
    assert session.scalar(text("SELECT count(*) FROM tags")) == 2


def test_the_size_of_a_batch_holds_for_any_plan(session):
    TagFactory.create_batch(5)
    session.commit()
    # The plan for small tables, in which a subselect would be run for each row.
    # Leave the planner only a nested loop, in which a subselect is run for each row.
    for way in ("hashjoin", "mergejoin", "material", "hashagg", "sort", "indexscan", "indexonlyscan", "bitmapscan"):
        session.execute(text(f"SET SESSION enable_{way} = off"))
    session.commit()
    batches = delete_in_batches(session(), Tag.__table__, dry_run=False, size=2)
    assert [batch.removed for batch in batches] == [2, 2, 1]
    session.execute(text("RESET ALL"))
    session.commit()
