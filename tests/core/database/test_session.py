"""`transaction()`: everything or nothing, and never anything left open."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, joinedload, selectinload

from api.core.database.session import STRICT_LOADING, LazyLoadError, transaction
from api.core.errors import ConflictError, UnavailableError
from api.extensions import db
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from tests.factories import ProductFactory, TagFactory

pytestmark = pytest.mark.usefixtures("database")


def stored_tags():
    """Names that another connection sees."""
    with db.engine.connect() as connection:
        return connection.scalars(select(Tag.__table__.c.name).order_by(Tag.__table__.c.name)).all()


def test_the_block_s_work_is_committed_when_it_ends():
    with db.transaction() as session:
        session.add(Tag(name="kept"))
    assert stored_tags() == ["kept"]


def test_nobody_else_sees_the_work_before_the_block_ends():
    with db.transaction() as session:
        session.add(Tag(name="kept"))
        session.flush()
        assert stored_tags() == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_in_the_block_undoes_its_work_and_comes_out_as_it_is(error):
    with pytest.raises(type(error)) as caught, db.transaction() as session:
        session.add(Tag(name="lost"))
        session.flush()
        raise error
    assert caught.value is error
    assert stored_tags() == []


def test_work_before_the_block_in_the_same_session_is_committed_with_it(session):
    session.add(Tag(name="earlier"))
    with db.transaction():
        session.add(Tag(name="later"))
    assert stored_tags() == ["earlier", "later"]


def test_an_inner_transaction_is_committed_with_the_outer_one_and_not_before():
    with db.transaction() as session:
        with db.transaction():
            session.add(Tag(name="inner"))
        assert stored_tags() == []
    assert stored_tags() == ["inner"]


def test_an_inner_failure_that_is_caught_leaves_the_outer_work():
    with db.transaction() as session:
        session.add(Tag(name="before"))
        with pytest.raises(ValueError, match="inner"), db.transaction():
            session.add(Tag(name="lost"))
            session.flush()
            raise ValueError("inner")
        session.add(Tag(name="after"))
    assert stored_tags() == ["after", "before"]


def test_an_inner_failure_of_the_database_leaves_the_outer_work_too():
    with db.transaction() as session:
        session.add(Tag(name="same"))
        session.flush()
        with pytest.raises(ConflictError), db.transaction():
            session.add(Tag(name="SAME"))
        session.add(Tag(name="other"))
    assert stored_tags() == ["other", "same"]


def test_an_inner_failure_that_is_not_caught_undoes_everything():
    with pytest.raises(ValueError, match="inner"), db.transaction() as session:
        session.add(Tag(name="outer"))
        with db.transaction():
            session.add(Tag(name="inner"))
            raise ValueError("inner")
    assert stored_tags() == []


def test_an_outer_failure_undoes_inner_work_that_had_ended_well():
    with pytest.raises(ValueError, match="outer"), db.transaction() as session:
        with db.transaction():
            session.add(Tag(name="inner"))
        raise ValueError("outer")
    assert stored_tags() == []


def test_transactions_nest_to_any_depth():
    with db.transaction() as session:
        session.add(Tag(name="1"))
        with db.transaction():
            session.add(Tag(name="2"))
            with pytest.raises(ValueError, match="deepest"), db.transaction():
                session.add(Tag(name="3"))
                raise ValueError("deepest")
    assert stored_tags() == ["1", "2"]


def _succeed():
    with db.transaction() as session:
        session.add(Tag(name="a"))


def _fail_in_python():
    with pytest.raises(ValueError, match="no"), db.transaction() as session:
        session.execute(select(Tag))
        raise ValueError("no")


def _fail_in_the_database():
    with pytest.raises(ConflictError), db.transaction() as session:
        session.add_all([Tag(name="a"), Tag(name="A")])


def _fail_in_an_inner_one():
    with pytest.raises(ConflictError), db.transaction() as session, db.transaction():
        session.add_all([Tag(name="a"), Tag(name="A")])


@pytest.mark.parametrize("outcome", [_succeed, _fail_in_python, _fail_in_the_database, _fail_in_an_inner_one])
def test_no_transaction_is_open_afterwards_and_the_connection_is_back_in_the_pool(session, outcome):
    outcome()
    assert not session().in_transaction()
    assert db.engine.pool.checkedout() == 0


@pytest.mark.parametrize("outcome", [_fail_in_python, _fail_in_the_database, _fail_in_an_inner_one])
def test_the_session_can_be_used_again_after_a_failure(outcome):
    outcome()
    with db.transaction() as session:
        session.add(Tag(name="next"))
    assert stored_tags() == ["next"]


def test_what_the_database_refuses_at_the_commit_itself_is_translated_and_undone(session):
    with pytest.raises(ConflictError), db.transaction():
        session.execute(text("CREATE TEMPORARY TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        session.execute(text("INSERT INTO late VALUES (1), (1)"))
    assert not session().in_transaction()
    assert session.scalar(text("SELECT to_regclass('late')")) is None


def test_a_connection_lost_in_the_block_is_a_503_and_the_next_transaction_works(session):
    with pytest.raises(UnavailableError), db.transaction():
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with db.owner_engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        session.add(Tag(name="lost"))
    with db.transaction():
        session.add(Tag(name="found"))
    assert stored_tags() == ["found"]


def test_any_session_can_have_a_transaction():
    with Session(db.engine) as own, transaction(own):
        own.add(Tag(name="scripted"))
    assert stored_tags() == ["scripted"]


def test_transactions_of_two_sessions_know_nothing_of_each_other():
    with pytest.raises(ValueError, match="one"), db.transaction() as one, Session(db.engine) as other:
        one.add(Tag(name="one"))
        with transaction(other):
            other.add(Tag(name="other"))
        raise ValueError("one")
    assert stored_tags() == ["other"]


# -- strict loading


@pytest.fixture
def product(session):
    """A product that is not in the session yet."""
    key = ProductFactory(tags=[TagFactory()]).id
    session.remove()
    return key


def test_a_script_loads_relations_when_it_comes_to_them(session, product):
    found = session.get(Product, product)
    assert found.category.name
    assert len(found.tags) == 1


@pytest.mark.parametrize("relation", ["category", "tags"])
def test_where_loading_is_strict_a_relation_that_was_not_asked_for_raises(session, product, relation):
    with db.transaction():
        session().info[STRICT_LOADING] = True
        found = session.get(Product, product)
        with pytest.raises(LazyLoadError, match=relation):
            getattr(found, relation)


@pytest.mark.parametrize("load", [selectinload, joinedload])
def test_where_loading_is_strict_a_relation_that_was_asked_for_is_there(session, product, load):
    with db.transaction():
        session().info[STRICT_LOADING] = True
        statement = select(Product).where(Product.id == product).options(load(Product.category), load(Product.tags))
        found = session.scalars(statement).unique().one()
        assert found.category.name
        assert len(found.tags) == 1


def test_where_loading_is_strict_the_row_s_own_columns_can_still_be_refreshed(session, product):
    with db.transaction():
        session().info[STRICT_LOADING] = True
        found = session.get(Product, product)
        session.expire(found)
        assert found.name
