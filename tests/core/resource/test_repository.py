"""A repository: rows of one model in one session, from a script as from a request."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.core.database.session import transaction
from api.core.errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from api.core.resource.repository import ReadableRepository, Repository
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.tags.models import Tag
from api.resources.users.models import Profile
from tests.factories import OrderFactory, ProfileFactory, TagFactory


@pytest.fixture
def tags(session):
    return Repository(Tag, session())


@pytest.fixture
def abc(tags):
    """Three live tags and a deleted one."""
    rows = [TagFactory(name=name) for name in ("a", "b", "c", "gone")]
    rows[3].soft_delete()
    tags.session.commit()
    return rows


def stored_names():
    with db.engine.connect() as connection:
        return connection.scalars(select(Tag.__table__.c.name).order_by(Tag.__table__.c.id)).all()


def named(rows):
    return [row.name for row in rows]


# -- reading


def test_get_finds_a_row_by_its_key(tags, abc):
    assert tags.get(abc[0].id) is abc[0]
    assert tags.get(0) is None


def test_get_finds_a_row_by_a_uuid(session):
    order = OrderFactory()
    assert Repository(Order, session()).get(order.id) is order


def test_get_hides_a_deleted_row_unless_asked(tags, abc):
    assert tags.get(abc[3].id) is None
    assert tags.get(abc[3].id, include_deleted=True) is abc[3]


def test_get_with_a_lock_makes_others_wait(tags, abc):
    tags.get(abc[0].id, lock=True)
    with db.engine.connect() as other:
        statement = text("SELECT * FROM tags WHERE id = :id FOR UPDATE NOWAIT")
        assert other.execute(statement, {"id": abc[1].id}).one()
        with pytest.raises(OperationalError, match="could not obtain lock"):
            other.execute(statement, {"id": abc[0].id})


def test_get_with_a_lock_reads_the_row_anew(tags, abc):
    with db.engine.begin() as other:
        other.execute(text("UPDATE tags SET name = 'renamed' WHERE name = 'a'"))
    assert tags.get(abc[0].id).name == "a"
    assert tags.get(abc[0].id, lock=True).name == "renamed"


def test_require_is_a_get_that_insists(tags, abc):
    assert tags.require(abc[0].id) is abc[0]
    assert tags.require(abc[3].id, include_deleted=True, lock=True) is abc[3]
    for key in (abc[3].id, 0):
        with pytest.raises(NotFoundError):
            tags.require(key)


@pytest.mark.usefixtures("abc")
def test_list_gives_all_live_rows_by_key(tags):
    assert named(tags.list()) == ["a", "b", "c"]


@pytest.mark.usefixtures("abc")
def test_list_takes_conditions_order_limit_and_offset(tags):
    assert named(tags.list(Tag.name > "a", Tag.name < "c")) == ["b"]
    assert named(tags.list(order_by=[Tag.name.desc()])) == ["c", "b", "a"]
    assert named(tags.list(limit=2)) == ["a", "b"]
    assert named(tags.list(limit=2, offset=1)) == ["b", "c"]
    assert named(tags.list(limit=0)) == []


@pytest.mark.usefixtures("abc")
def test_list_shows_deleted_rows_when_asked(tags):
    assert named(tags.list(include_deleted=True)) == ["a", "b", "c", "gone"]


@pytest.mark.usefixtures("abc")
def test_count_counts_live_rows_that_meet_all_conditions(tags):
    assert tags.count() == 3
    assert tags.count(Tag.name > "a") == 2
    assert tags.count(Tag.name > "z") == 0


@pytest.mark.usefixtures("abc")
def test_select_goes_on_where_the_methods_end(tags):
    assert tags.session.scalars(tags.select().where(Tag.name.like("b%"))).one().name == "b"


def test_a_repository_is_readable(tags):
    def total(repository: ReadableRepository[Tag]) -> int:
        return repository.count() + len(repository.list()) + (repository.get(1) is not None)

    assert total(tags) == 0


# -- writing


def test_add_inserts_and_knows_key_and_defaults(tags, statements):
    with statements() as counted:
        tag = tags.add(Tag(name="new"))
        assert tag.id
        assert (tag.version, tag.deleted_at) == (1, None)
        assert tag.created_at
    assert counted.count <= 2


def test_add_many_inserts_in_one_statement(tags, statements):
    with statements() as counted:
        added = tags.add_many(Tag(name=f"tag {number}") for number in range(50))
    assert counted.count == 1
    assert len({tag.id for tag in added}) == 50
    assert named(added) == [f"tag {number}" for number in range(50)]


def test_update_sets_attributes_and_saves(tags, abc):
    assert tags.update(abc[0], {"name": "renamed"}) is abc[0]
    assert tags.session.scalar(text("SELECT name FROM tags WHERE id = :id"), {"id": abc[0].id}) == "renamed"
    assert abc[0].version == 2


def test_update_of_a_row_that_was_changed_meanwhile_is_refused(tags, abc):
    with db.engine.begin() as other:
        other.execute(text("UPDATE tags SET name = 'theirs', version = version + 1 WHERE name = 'a'"))
    with pytest.raises(PreconditionFailedError), db.transaction():
        tags.update(abc[0], {"name": "mine"})
    assert "theirs" in stored_names()


def test_delete_marks_a_row_whose_model_can_be_restored(tags, abc):
    tags.delete(abc[0])
    tags.session.commit()
    assert abc[0].is_deleted
    assert stored_names() == ["a", "b", "c", "gone"]


def test_delete_removes_a_row_whose_model_cannot(session):
    profile = ProfileFactory()
    Repository(Profile, session()).delete(profile)
    assert session.scalar(text("SELECT count(*) FROM profiles")) == 0


def test_a_hard_delete_removes_any_row(tags, abc):
    tags.delete(abc[0], hard=True)
    tags.delete(abc[3], hard=True)
    tags.session.commit()
    assert stored_names() == ["b", "c"]


def test_restore_brings_a_deleted_row_back(tags, abc):
    assert tags.restore(abc[3]) is abc[3]
    assert named(tags.list()) == ["a", "b", "c", "gone"]


def test_restore_leaves_a_live_row_as_it_is(tags, abc, session):
    tags.restore(abc[0])
    assert abc[0].version == 1
    profile = ProfileFactory()
    assert Repository(Profile, session()).restore(profile) is profile


def test_restore_is_a_conflict_when_the_value_is_taken(tags, abc):
    TagFactory(name="GONE")
    with pytest.raises(ConflictError), db.transaction():
        tags.restore(abc[3])


@pytest.mark.parametrize(
    "write",
    [
        lambda tags, _: tags.add(Tag(name="new")),
        lambda tags, _: tags.add_many([Tag(name="new")]),
        lambda tags, row: tags.update(row, {"name": "new"}),
        lambda tags, row: tags.delete(row),
        lambda tags, row: tags.delete(row, hard=True),
    ],
)
def test_nothing_is_committed_here(tags, abc, write):
    write(tags, abc[0])
    assert stored_names() == ["a", "b", "c", "gone"]
    tags.session.rollback()
    assert named(tags.list()) == ["a", "b", "c"]


def test_a_broken_rule_is_told_at_the_write_and_not_later(tags):
    with pytest.raises(InvalidError):
        tags.add(Tag(name=""))


# -- from a script


def test_a_script_uses_a_repository_with_a_session_of_its_own(database):
    del database
    with Session(db.engine) as session, transaction(session):
        Repository(Tag, session).add(Tag(name="scripted"))
    assert stored_names() == ["scripted"]


class TagRepository(Repository[Tag]):
    """With a method of its own."""

    def starting_with(self, prefix):
        return self.list(Tag.name.startswith(prefix, autoescape=True))


@pytest.mark.usefixtures("abc")
def test_a_subclass_adds_methods(session):
    assert named(TagRepository(Tag, session()).starting_with("b")) == ["b"]
