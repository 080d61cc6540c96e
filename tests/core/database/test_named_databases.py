"""Several named databases: `DATABASE_URL_REPORTING` makes "reporting", with a pool and a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from flask_migrate import upgrade
from sqlalchemy import create_engine, make_url, select, text

from api.core.errors import ConflictError
from api.core.resource.repository import ReadOnlyRepository, Repository
from api.extensions import db
from api.resources.tags.models import Tag
from tests.apps import create_app

PROJECT = Path(__file__).resolve().parents[3]
DEFAULT, REPORTING = None, "reporting"


@pytest.fixture(scope="module")
def reporting_url(settings):
    """A second database on the test server, migrated to head."""
    engine = create_engine(settings.migration_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE reporting"))
    url = make_url(settings.migration_url).set(database="reporting").render_as_string(hide_password=False)
    with create_app(replace(settings, database_url=url, migration_url="")).app_context():
        upgrade()
        db.engine.dispose()
    yield url
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE reporting WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def app_with_two(settings, reporting_url, database):
    """An application with both databases; their tags are removed afterwards."""
    del database
    app = create_app(replace(settings, databases={REPORTING: reporting_url}, pool_size=3, max_overflow=1))
    yield app
    with app.app_context():
        for engine in db.engines.values():
            with engine.begin() as connection:
                connection.execute(Tag.__table__.delete())
            engine.dispose()


@pytest.fixture
def two(app_with_two):
    with app_with_two.app_context():
        yield app_with_two


def names_in(bind):
    with db.read_connection(bind) as connection:
        return connection.scalars(select(Tag.__table__.c.name).order_by(Tag.__table__.c.name)).all()


@pytest.mark.usefixtures("two")
def test_a_repository_reads_and_writes_the_database_that_it_is_bound_to():
    with db.transaction(), db.transaction(bind=REPORTING):
        Repository(Tag).add(Tag(name="here"))
        reporting = Repository(Tag, bind=REPORTING)
        reporting.add_many([Tag(name="there"), Tag(name="there, too")])
        reporting.upsert([{"name": "There"}, {"name": "upserted"}], on="name")
        reporting.update_where(Tag.name == "there, too", values={"name": "changed"})
        assert [tag.name for tag in reporting.stream(order_by=[Tag.name])] == ["There", "changed", "upserted"]
    assert names_in(DEFAULT) == ["here"]
    assert names_in(REPORTING) == ["There", "changed", "upserted"]


@pytest.mark.usefixtures("two")
def test_a_read_only_repository_may_be_bound_too():
    with db.transaction(bind=REPORTING) as session:
        session.add(Tag(name="there"))
    assert ReadOnlyRepository(Tag, bind=REPORTING).one().name == "there"
    assert ReadOnlyRepository(Tag).list() == []


@pytest.mark.usefixtures("two")
def test_each_database_has_a_transaction_of_its_own():
    def write_both_and_fail():
        with db.transaction(bind=REPORTING) as session:
            session.add(Tag(name="lost"))
            with db.transaction() as default:
                default.add(Tag(name="kept"))
            raise KeyError

    with pytest.raises(KeyError):
        write_both_and_fail()
    assert names_in(REPORTING) == []
    assert names_in(DEFAULT) == ["kept"]


@pytest.mark.usefixtures("two")
def test_what_a_named_database_refuses_is_told_as_of_the_default_one():
    with pytest.raises(ConflictError) as caught, db.transaction(bind=REPORTING):
        Repository(Tag, bind=REPORTING).add_many([Tag(name="a"), Tag(name="A")])
    assert [violation.pointer for violation in caught.value.violations] == ["/name"]


def test_a_session_is_one_for_a_context_and_ends_with_it(app_with_two):
    with app_with_two.app_context():
        session = db.session_for(REPORTING)
        assert db.session_for(REPORTING) is session
        assert session is not db.session_for()
        session.execute(text("SELECT 1"))
        assert db.engines[REPORTING].pool.checkedout() == 1
    with app_with_two.app_context():
        assert db.session_for(REPORTING) is not session
        assert db.engines[REPORTING].pool.checkedout() == 0


@pytest.mark.usefixtures("two")
def test_a_named_database_has_a_pool_with_the_same_options():
    pool = db.engines[REPORTING].pool
    assert (pool.size(), pool._max_overflow, pool._timeout) == (3, 1, 2.0)
    with db.read_connection(REPORTING) as connection:
        assert connection.scalar(text("SELECT current_database()")) == "reporting"
        assert connection.scalar(text("SHOW statement_timeout")) == "15s"
        assert connection.scalar(text("SHOW TimeZone")) == "UTC"


@pytest.mark.usefixtures("two")
def test_shutdown_closes_the_connections_of_all_databases():
    for bind in (DEFAULT, REPORTING):
        with db.read_connection(bind) as connection:
            connection.execute(text("SELECT 1"))
        assert db.engines[bind].pool.checkedin() == 1
    db.shutdown()
    assert [engine.pool.checkedin() for engine in db.engines.values()] == [0, 0]


FORKING = """
import os, sys
from sqlalchemy import text
from tests.apps import create_app
from api.config import Settings
from api.extensions import db

app = create_app(Settings(app_env="test", database_url=sys.argv[1], databases={"reporting": sys.argv[2]}))
def pids():
    with app.app_context():
        found = []
        for bind in (None, "reporting"):
            with db.read_connection(bind) as connection:
                found.append(connection.scalar(text("SELECT pg_backend_pid()")))
        return found

before = pids()
child = os.fork()
print("child" if child == 0 else "parent", set(pids()).isdisjoint(before), flush=True)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_shares_no_connection_with_any_database(settings, reporting_url):
    command = [sys.executable, "-c", FORKING, settings.database_url, reporting_url]
    done = subprocess.run(
        command, cwd=PROJECT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True, timeout=60
    )
    assert sorted(done.stdout.splitlines()) == ["child True", "parent False"]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "use",
    [
        lambda: db.transaction(bind="reportin"),
        lambda: db.session_for("reportin"),
        lambda: db.read_connection("reportin").__enter__(),
        lambda: Repository(Tag, bind="reportin").count(),
    ],
)
def test_a_database_that_is_none_is_refused_with_those_that_there_are(use):
    with pytest.raises(LookupError, match="There is no database 'reportin'; named ones: reporting"):
        use()


def test_tables_are_made_only_in_the_databases_that_the_application_has(two, app):
    del two
    with app.app_context(), pytest.warns(UserWarning, match="flask db upgrade"):
        db.create_all()
