"""A repository: rows of one model in one session, from a script as from a request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, true
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.core.database.session import transaction
from api.core.errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from api.core.resource.attributes import UnknownAttributeError
from api.core.resource.repository import ReadableRepository, ReadOnlyRepository, Repository
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import Profile
from tests.factories import OrderFactory, ProductFactory, ProfileFactory, TagFactory

PROJECT = Path(__file__).resolve().parents[3]


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


# -- searching


def test_rows_are_searched_by_words_the_best_first(session):
    products = Repository(Product, session())
    for name, price in (("Mug tree", 5), ("Blue mugs", 1), ("Mug, large", 9), ("Teapot", 3)):
        ProductFactory(name=name, price=price, description="Goes with a mug." if price == 3 else None)
    assert sorted(named(products.search("mugs"))) == ["Blue mugs", "Mug tree", "Mug, large", "Teapot"]
    assert named(products.search("mug"))[-1] == "Teapot"
    assert named(products.search("mug", Product.price < 4)) == ["Blue mugs", "Teapot"]
    assert named(products.search("mug", Product.price < 4, limit=1)) == ["Blue mugs"]
    assert products.search("the") == []


def test_rows_with_a_similar_name_are_found_the_likest_first(session):
    products = ReadOnlyRepository(Product, session())
    for name in ("Keyboard stand", "Keyboard", "Teapot"):
        ProductFactory(name=name)
    assert named(products.similar_to("Keybord")) == ["Keyboard", "Keyboard stand"]
    assert named(products.similar_to("Keybord", Product.name != "Keyboard", limit=1)) == ["Keyboard stand"]


@pytest.mark.usefixtures("abc")
def test_a_deleted_row_is_not_searched(tags):
    assert named(tags.search("gone or b")) == ["b"]


@pytest.mark.parametrize("method", [Repository.search, Repository.similar_to])
def test_a_model_that_declares_no_search_cannot_be_searched(session, method):
    with pytest.raises(TypeError, match="Order declares no __search__"):
        method(Repository(Order, session()), "x")


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


# -- the session


def test_without_a_session_it_is_that_of_the_application_context(abc):
    tags = Repository(Tag)
    assert tags.session is db.session()
    assert tags.get(abc[0].id) is abc[0]


def test_a_repository_made_outside_of_any_context_uses_the_one_that_it_is_used_in(app):
    tags = Repository(Tag)
    sessions = []
    for _ in range(2):
        with app.app_context():
            assert tags.session is db.session()
            sessions.append(tags.session)
    assert sessions[0] is not sessions[1]


def test_a_session_and_a_database_are_not_both_given(session):
    with pytest.raises(TypeError, match="not both"):
        Repository(Tag, session(), bind="reporting")


def test_a_model_of_no_extension_needs_a_session():
    with pytest.raises(TypeError, match="_Plain belongs to no Flask-SQLAlchemy extension; give a session"):
        _ = Repository(_Plain).session


class _Plain:
    """A class that Flask-SQLAlchemy knows nothing of."""


# -- one, first, exists, stream


def test_one_is_the_only_row_that_meets_the_conditions(tags, abc):
    assert tags.one(Tag.name == "a") is abc[0]
    assert tags.one(Tag.name == "gone", include_deleted=True) is abc[3]


@pytest.mark.usefixtures("abc")
def test_one_is_refused_for_none_and_for_several(tags):
    with pytest.raises(NotFoundError, match="There is no Tag that meets the conditions"):
        tags.one(Tag.name == "gone")
    with pytest.raises(ConflictError, match="more than one Tag"):
        tags.one(Tag.name >= "a")


def test_first_is_the_first_in_the_order_or_none(tags, abc):
    assert tags.first() is abc[0]
    assert tags.first(Tag.name < "c", order_by=[Tag.name.desc()]) is abc[1]
    assert tags.first(Tag.name == "gone") is None
    assert tags.first(Tag.name == "gone", include_deleted=True) is abc[3]


@pytest.mark.usefixtures("abc")
def test_exists_tells_whether_a_live_row_meets_the_conditions(tags):
    assert tags.exists()
    assert tags.exists(Tag.name == "a")
    assert not tags.exists(Tag.name == "gone")
    assert tags.exists(Tag.name == "gone", include_deleted=True)


@pytest.mark.usefixtures("abc")
def test_count_counts_deleted_rows_when_asked(tags):
    assert tags.count(include_deleted=True) == 4


@pytest.mark.usefixtures("abc")
def test_stream_gives_what_list_gives(tags):
    assert named(tags.stream()) == ["a", "b", "c"]
    assert named(tags.stream(Tag.name > "a", order_by=[Tag.name.desc()])) == ["c", "b"]
    assert named(tags.stream(include_deleted=True)) == ["a", "b", "c", "gone"]


def test_stream_fetches_a_chunk_at_a_time_and_keeps_none(tags, session):
    session.execute(text("INSERT INTO tags (name) SELECT 'tag ' || n FROM generate_series(1, 5000) n"))
    most = seen = 0
    for _ in tags.stream(chunk=100):
        seen += 1
        most = max(most, len(session().identity_map))
    assert seen == 5000
    assert most <= 300


@pytest.mark.usefixtures("abc")
def test_a_stream_that_is_left_early_leaves_no_cursor_open(tags):
    stream = tags.stream(chunk=1)
    next(stream)
    open_cursors = text("SELECT count(*) FROM pg_cursors WHERE NOT is_holdable")
    assert tags.session.scalar(open_cursors) == 1
    stream.close()
    assert tags.session.scalar(open_cursors) == 0


# -- names


@pytest.mark.parametrize(
    "write",
    [
        lambda tags, _: tags.create({"nmae": "x"}),
        lambda tags, row: tags.update(row, {"nmae": "x"}),
        lambda tags, _: tags.update_where(Tag.id > 0, values={"nmae": "x"}),
        lambda tags, _: tags.upsert([{"name": "x", "nmae": "x"}], on="name"),
        lambda tags, _: tags.upsert([{"name": "x"}], on="name", update=["nmae"]),
    ],
)
def test_an_unknown_attribute_is_refused_with_the_nearest_name(tags, abc, write):
    with pytest.raises(UnknownAttributeError, match=r"Tag: There is no .*attribute 'nmae'; did you mean 'name'\?"):
        write(tags, abc[0])
    tags.session.rollback()
    assert stored_names() == ["a", "b", "c", "gone"]


def test_update_takes_relationships(session):
    product, tag = ProductFactory(), TagFactory()
    Repository(Product).update(product, {"tags": [tag], "metadata_": {"colour": "blue"}})
    session.commit()
    assert session.scalar(text("SELECT tag_id FROM product_tags")) == tag.id
    assert product.version == 2


# -- by conditions


def test_update_where_changes_what_meets_the_conditions_in_one_statement(tags, abc, statements):
    times = [row.updated_at for row in abc]
    with statements() as counted:
        assert tags.update_where(Tag.name > "a", values={"name": func.upper(Tag.name)}) == 2
    assert counted.count == 1
    tags.session.commit()
    assert stored_names() == ["a", "B", "C", "gone"]
    assert [row.version for row in abc] == [1, 2, 2, 2]
    assert abc[1].updated_at > times[1]


def test_update_where_leaves_no_loaded_object_stale(tags, abc):
    tags.update_where(Tag.name == "a", values={"name": "changed"})
    assert abc[0].name == "changed"
    tags.update(abc[0], {"name": "again"})
    assert abc[0].version == 3


@pytest.mark.usefixtures("abc")
def test_update_where_runs_the_validators(tags):
    with pytest.raises(InvalidError) as caught:
        tags.update_where(Tag.name == "a", values={"name": ""})
    assert [violation.pointer for violation in caught.value.violations] == ["/name"]


def test_update_where_takes_attributes_by_their_python_names(session):
    ProductFactory()
    assert Repository(Product).update_where(Product.id > 0, values={"metadata_": {"colour": "red"}}) == 1
    assert session.scalar(text("SELECT metadata->>'colour' FROM products")) == "red"


@pytest.mark.usefixtures("abc")
def test_delete_where_marks_rows_and_never_touches_deleted_ones(tags):
    gone_at = tags.session.scalar(text("SELECT deleted_at FROM tags WHERE name = 'gone'"))
    assert tags.delete_where(Tag.name != "a") == 2
    tags.session.commit()
    assert named(tags.list()) == ["a"]
    assert stored_names() == ["a", "b", "c", "gone"]
    assert tags.session.scalar(text("SELECT deleted_at FROM tags WHERE name = 'gone'")) == gone_at


def test_delete_where_removes_rows_for_good_when_told_to(tags, abc):
    assert tags.delete_where(Tag.name < "c", hard=True) == 2
    assert tags.delete_where(Tag.name == "gone", hard=True, include_deleted=True) == 1
    tags.session.commit()
    assert stored_names() == ["c"]
    assert abc[0] not in tags.session


def test_delete_where_removes_rows_whose_model_cannot_be_restored(session):
    ProfileFactory()
    assert Repository(Profile).delete_where(Profile.full_name == "Ada Lovelace") == 1
    assert session.scalar(text("SELECT count(*) FROM profiles")) == 0


@pytest.mark.parametrize(
    "write", [lambda tags: tags.update_where(values={"name": "x"}), lambda tags: tags.delete_where()]
)
def test_every_row_is_meant_only_where_that_is_said(tags, abc, write):
    with pytest.raises(ValueError, match=r"sqlalchemy.true\(\) means every row"):
        write(tags)
    assert tags.delete_where(true()) == len(abc) - 1


# -- read-only


def test_a_read_only_repository_reads_and_has_no_method_that_writes(abc):
    tags = ReadOnlyRepository(Tag)
    assert tags.get(abc[0].id) is abc[0]
    assert (tags.count(), tags.exists(), tags.first()) == (3, True, abc[0])
    assert named(tags.list()) == named(tags.stream()) == ["a", "b", "c"]
    public = {name for name in dir(ReadOnlyRepository) if not name.startswith("_")}
    searching = {"search", "similar_to"}
    assert public == {"count", "exists", "first", "get", "list", "one", "select", "session", "stream"} | searching


# -- types

TYPED = """
from collections.abc import Iterator, Sequence
from typing import assert_type
from api.core.resource.repository import ReadableRepository, ReadOnlyRepository, Repository
from api.core.resource.upsert import Upserted
from api.resources.tags.models import Tag

tags = Repository(Tag)
assert_type(tags.get(1), Tag | None)
assert_type(tags.require(1), Tag)
assert_type(tags.one(), Tag)
assert_type(tags.first(), Tag | None)
assert_type(tags.list(), Sequence[Tag])
assert_type(tags.stream(), Iterator[Tag])
assert_type(tags.add(Tag()), Tag)
assert_type(tags.add_many([Tag()]), Sequence[Tag])
assert_type(tags.upsert([], on="name"), list[Upserted[Tag]])
assert_type(ReadOnlyRepository(Tag, bind="reporting").list(), Sequence[Tag])
readable: ReadableRepository[Tag] = tags
tags.add("no tag")  # type: ignore[arg-type]
ReadOnlyRepository(Tag).add(Tag())  # type: ignore[attr-defined]
"""


def test_a_repository_is_typed_to_its_model(tmp_path):
    script = tmp_path / "typed.py"
    script.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--warn-unused-ignores", str(script)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
