"""`created_at` and `updated_at`: UTC, moved by every change and by nothing else, however the change is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import StatementError

from api.extensions import db
from api.resources.tags.models import Tag
from tests.factories import TagFactory

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tag(session):
    """A tag of an hour ago."""
    row = TagFactory()
    session.execute(
        text("UPDATE tags SET created_at = now() - interval '1 hour', updated_at = now() - interval '1 hour'")
    )
    session.commit()
    session.refresh(row)
    return row


def stored(column):
    with db.engine.connect() as connection:
        return connection.scalar(select(getattr(Tag.__table__.c, column)))


def recent(moment):
    return abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_a_new_row_has_both_times_in_utc():
    row = TagFactory()
    assert row.created_at == row.updated_at
    assert row.created_at.tzinfo is UTC
    assert recent(row.created_at)


def test_a_save_through_the_orm_moves_updated_at_and_tells_the_object(session, tag):
    tag.name = "renamed"
    session.commit()
    assert recent(tag.__dict__["updated_at"])
    assert tag.updated_at == stored("updated_at")


def test_a_save_leaves_created_at_alone(session, tag):
    before = tag.created_at
    tag.name = "renamed"
    session.commit()
    assert stored("created_at") == before


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(text("UPDATE tags SET name = 'renamed'"), id="raw SQL"),
        pytest.param(update(Tag.__table__).values(name="renamed"), id="core"),
        pytest.param(update(Tag).values(name="renamed"), id="ORM bulk update"),
    ],
)
def test_an_update_that_goes_round_the_listener_moves_updated_at(session, tag, statement):
    assert not recent(tag.updated_at)
    session.execute(statement)
    session.commit()
    assert recent(stored("updated_at"))


def test_a_bulk_update_by_mappings_moves_updated_at(session, tag):
    session.bulk_update_mappings(Tag, [{"id": tag.id, "name": "renamed", "version": tag.version}])
    session.commit()
    assert recent(stored("updated_at"))


@pytest.mark.parametrize("statement", ["UPDATE tags SET name = name", "UPDATE tags SET name = 'x' WHERE false"])
def test_sql_that_changes_nothing_leaves_updated_at_alone(session, tag, statement):
    session.execute(text(statement))
    session.commit()
    assert stored("updated_at") == tag.updated_at


def test_a_save_that_changes_nothing_sends_no_statement(session, tag, statements):
    tag.name = str(tag.name)
    with statements() as counted:
        session.commit()
    assert counted.count == 0
    assert stored("updated_at") == tag.updated_at


def test_an_updated_at_that_sql_sets_itself_is_kept(session, tag):
    session.execute(text("UPDATE tags SET name = 'imported', updated_at = '2001-02-03 04:05:06Z'"))
    session.commit()
    session.refresh(tag)
    assert tag.updated_at == datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_every_table_with_an_updated_at_has_the_trigger(session):
    with_trigger = session.scalars(
        text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE '%_set_updated_at'")
    ).all()
    with_column = [table.name for table in db.metadata.sorted_tables if "updated_at" in table.c]
    assert sorted(with_trigger) == sorted(with_column)
    assert len(with_column) == 8


@pytest.mark.parametrize("attribute", ["created_at", "deleted_at"])
def test_a_time_without_a_timezone_is_refused(session, tag, attribute):
    setattr(tag, attribute, datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    with pytest.raises(StatementError, match="no timezone"):
        session.flush()
    session.rollback()


def test_a_time_of_another_zone_is_kept_as_the_same_moment_in_utc(session, tag):
    tag.deleted_at = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    session.commit()
    session.refresh(tag)
    assert tag.deleted_at == datetime(2025, 12, 31, 20, tzinfo=UTC)
    assert tag.deleted_at.utcoffset() == timedelta(0)


def test_times_come_back_in_utc_whatever_the_session_s_timezone_is(session, tag):
    session.execute(text("SET LOCAL timezone = 'Asia/Kathmandu'"))
    session.refresh(tag)
    assert tag.created_at.utcoffset() == timedelta(0)
    assert recent(tag.created_at + timedelta(hours=1))


def test_times_keep_their_microseconds(session, tag):
    moment = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    tag.deleted_at = moment
    session.commit()
    session.refresh(tag)
    assert tag.deleted_at == moment
