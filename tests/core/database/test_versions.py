"""`version`: counts the changes of a row, and a change of a version that is gone does not happen."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from api.core.database.session import transaction
from api.core.errors import PreconditionFailedError
from api.extensions import db
from api.resources.tags.models import Tag
from tests.factories import TagFactory

pytestmark = pytest.mark.usefixtures("database")


def stored():
    with db.engine.connect() as connection:
        return connection.execute(select(Tag.__table__.c.name, Tag.__table__.c.version)).one()


def test_a_new_row_has_version_1():
    assert TagFactory().version == 1


def test_every_save_counts(session):
    tag = TagFactory()
    for name in ("second", "third"):
        tag.name = name
        session.commit()
    assert tag.version == 3
    assert stored() == ("third", 3)


def test_a_save_that_changes_nothing_does_not_count(session):
    tag = TagFactory(name="same")
    tag.name = "same"
    session.commit()
    assert stored() == ("same", 1)


def test_a_soft_delete_and_a_restore_count(session):
    tag = TagFactory()
    tag.soft_delete()
    session.commit()
    tag.restore()
    session.commit()
    assert stored().version == 3


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(text("UPDATE tags SET name = 'renamed'"), id="raw SQL"),
        pytest.param(update(Tag.__table__).values(name="renamed"), id="core"),
        pytest.param(update(Tag).values(name="renamed"), id="ORM bulk update"),
    ],
)
def test_an_update_that_goes_round_the_orm_counts_too(session, statement):
    TagFactory(name="before")
    session.execute(statement)
    session.commit()
    assert stored() == ("renamed", 2)


@pytest.mark.parametrize("statement", ["UPDATE tags SET name = name", "UPDATE tags SET name = 'x' WHERE false"])
def test_sql_that_changes_nothing_does_not_count(session, statement):
    TagFactory(name="same")
    session.execute(text(statement))
    session.commit()
    assert stored() == ("same", 1)


@pytest.mark.parametrize("synchronize", ["auto", "evaluate", "fetch", False])
def test_an_object_can_be_saved_after_a_bulk_update_of_its_row(session, synchronize):
    tag = TagFactory(name="before")
    session.execute(update(Tag).values(name="bulk"), execution_options={"synchronize_session": synchronize})
    session.commit()
    tag.name = "after"
    session.commit()
    assert stored() == ("after", 3)


@pytest.fixture
def two_readers(session):
    """The same row, read by two sessions."""
    key = TagFactory(name="before").id
    session.remove()
    with Session(db.engine) as one, Session(db.engine) as other:
        yield one, one.get(Tag, key), other, other.get(Tag, key)


def _change(session, tag):
    tag.name = "second"
    session.commit()


def _remove(session, tag):
    session.delete(tag)
    session.commit()


@pytest.mark.parametrize("second", [_change, _remove])
def test_who_changes_or_removes_what_was_changed_meanwhile_is_refused(two_readers, second):
    one, tag, other, same_tag = two_readers
    tag.name = "first"
    one.commit()
    with pytest.raises(StaleDataError):
        second(other, same_tag)
    assert stored() == ("first", 2)


def test_in_a_transaction_that_is_a_failed_precondition(two_readers):
    one, tag, other, same_tag = two_readers
    tag.name = "first"
    one.commit()
    with pytest.raises(PreconditionFailedError), transaction(other):
        same_tag.name = "second"
    assert stored() == ("first", 2)


def test_who_reads_again_may_change(two_readers):
    one, tag, other, same_tag = two_readers
    tag.name = "first"
    one.commit()
    other.rollback()
    other.refresh(same_tag)
    same_tag.name = "second"
    other.commit()
    assert stored() == ("second", 3)
