"""The extension: one pool per application and process, reads in autocommit, the query builder, and quick starts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import inspect, text

from api.core.database.extension import Database
from api.core.errors import UnavailableError
from api.extensions import db
from api.resources.tags.models import Tag
from tests.apps import create_app
from tests.factories import TagFactory

PROJECT = Path(__file__).resolve().parents[3]


# -- sessions and connections


def test_each_application_context_has_a_session_of_its_own(app):
    with app.app_context():
        outer = db.session()
        assert db.session() is outer
        with app.app_context():
            assert db.session() is not outer


def test_a_session_ends_with_its_context(app):
    with app.app_context():
        before = db.engine.pool.checkedout()
        db.session.execute(text("SELECT 1"))
        assert db.engine.pool.checkedout() == before + 1
    with app.app_context():
        assert db.engine.pool.checkedout() == before


@pytest.mark.usefixtures("database")
def test_objects_keep_their_values_after_a_commit(session, statements):
    tag = TagFactory()
    session.commit()
    with statements() as counted:
        assert tag.name
    assert counted.count == 0


@pytest.mark.usefixtures("database")
def test_a_read_connection_opens_no_transaction():
    with db.read_connection() as connection:
        connection.execute(text("SELECT 1"))
        state = text("SELECT state, xact_start = query_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert connection.execute(state).one() == ("active", True)
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with db.owner_engine.connect() as other:
            shown = other.scalar(text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
    assert shown == "idle"


@pytest.mark.usefixtures("database")
def test_a_connection_is_transactional_again_after_it_was_read_from():
    with db.read_connection() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid
        connection.execute(text("INSERT INTO tags (name) VALUES ('lost')"))
        connection.rollback()
        assert connection.scalar(text("SELECT count(*) FROM tags")) == 0


@pytest.mark.usefixtures("database")
def test_a_failure_on_a_read_connection_is_translated():
    with pytest.raises(UnavailableError), db.read_connection() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_every_option_of_the_settings_reaches_the_engine_as_it_is(settings):
    app = create_app(replace(settings, pool_size=3, max_overflow=1, pool_timeout=0.25, pool_recycle=60))
    with app.app_context():
        pool = db.engine.pool
        assert (pool.size(), pool._max_overflow, pool._timeout, pool._recycle) == (3, 1, 0.25, 60)


# -- the query builder


@pytest.mark.usefixtures("database")
def test_the_query_builder_selects_filters_orders_and_limits():
    for name in ("c", "a", "b", "z"):
        TagFactory(name=name)
    found = db.query(Tag).where(Tag.name < "z").order_by(Tag.name.asc()).limit(2).all()
    assert [tag.name for tag in found] == ["a", "b"]


@pytest.mark.usefixtures("database")
def test_the_query_builder_takes_columns():
    TagFactory(name="a")
    assert db.query(Tag.name, Tag.version).all() == [("a", 1)]


# -- pools and processes


def test_shutdown_closes_every_connection_and_the_next_use_opens_new_ones(app):
    with app.app_context():
        with db.engine.connect() as connection:
            before = connection.scalar(text("SELECT pg_backend_pid()"))
        db.shutdown()
        assert db.engine.pool.checkedin() == 0
        with db.engine.connect() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()")) != before


FORKING = """
import os, sys
from flask import Flask
from sqlalchemy import text
from tests.apps import create_app
from api.core.database.extension import Database

app, db = Flask("forking"), Database()
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
db.init_app(app)
pid = lambda connection: connection.scalar(text("SELECT pg_backend_pid()"))
with app.app_context():
    with db.engine.connect() as connection:
        before = pid(connection)
    child = os.fork()
    with db.engine.connect() as connection:
        print("child" if child == 0 else "parent", pid(connection) == before, flush=True)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with db.engine.connect() as connection:
        print("afterwards", pid(connection) == before, flush=True)
"""


def test_a_forked_process_uses_no_connection_of_its_parent(settings):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, settings.database_url],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(done.stdout.splitlines()) == ["afterwards True", "child False", "parent True"]


# -- an application without settings


@pytest.fixture
def small(settings):
    """A small application with a database object of its own, without settings and without migrations."""
    app, own = Flask("small"), Database()
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.migration_url
    own.init_app(app)
    yield app, own
    own.shutdown()


def test_without_settings_the_application_s_configuration_counts(small):
    app, own = small
    with app.app_context():
        assert own.session.scalar(text("SELECT 1")) == 1
        assert own.engine.pool.size() == 5


# -- quick starts


def test_create_all_warns_where_migrations_exist(session):
    with pytest.warns(UserWarning, match=r"migrations do not know of.*flask db upgrade"):
        db.create_all()
    assert inspect(session.connection()).has_table("tags")


def test_create_all_is_silent_where_there_are_none(small):
    app, own = small
    with app.app_context():
        own.create_all()
