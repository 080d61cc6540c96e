"""`flask db …`: forth and back, on empty and on filled databases, by one process or by several at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import flask_migrate
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text

from api.core.database import attempts
from api.core.database.attempts import Limit
from api.core.database.idempotency import Attempt, reserve
from api.extensions import db
from tests.factories import (
    APIKeyFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    ProfileFactory,
    RefreshTokenFactory,
    RoleFactory,
    TagFactory,
)

PROJECT = Path(__file__).resolve().parents[2]
MIGRATIONS = str(PROJECT / "migrations")
NOTHING: dict[str, list[str]] = {
    "columns": [],
    "constraints": [],
    "indexes": [],
    "triggers": [],
    "functions": [],
    "policies": [],
    "row security": [],
}
SCRIPTS = ScriptDirectory(MIGRATIONS)
REVISIONS = [script.revision for script in reversed([*SCRIPTS.walk_revisions()])]
HEAD = SCRIPTS.get_current_head()


def current():
    """The revision of the database, None where there is none."""
    with db.engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def fill():
    """At least one row in every table."""
    ProfileFactory(user__roles=[RoleFactory()])
    product = ProductFactory(tags=[TagFactory()])
    OrderFactory(items=[OrderItemFactory.build(product=product)])
    RefreshTokenFactory()
    APIKeyFactory()
    with db.transaction() as session:
        attempts.count(session, [Limit("login", "ada", 1, 60)])
        reserve(session, Attempt("caller", "POST", "/path", "key", b"sent"), ttl=60)
    with db.engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            assert connection.scalar(select(func.count()).select_from(table)) > 0, table.name


# -- forth and back


@pytest.mark.usefixtures("empty")
def test_up_down_and_up_again_on_a_filled_database(inventory):
    flask_migrate.upgrade()
    made = inventory()
    assert current() == HEAD
    fill()

    db.session.remove()
    flask_migrate.downgrade(revision="base")
    assert inventory() == NOTHING
    assert current() is None

    flask_migrate.upgrade()
    assert inventory() == made
    fill()


@pytest.mark.usefixtures("empty")
def test_each_migration_takes_back_exactly_what_it_does(inventory):
    assert REVISIONS
    for revision in REVISIONS:
        before = inventory()
        flask_migrate.upgrade(revision=revision)
        after = inventory()
        assert after != before, revision
        flask_migrate.downgrade(revision="-1")
        assert inventory() == before, revision
        flask_migrate.upgrade(revision="+1")
        assert inventory() == after, revision


@pytest.mark.usefixtures("empty")
def test_an_upgrade_of_what_is_up_to_date_does_nothing(inventory):
    flask_migrate.upgrade()
    fill()
    before = inventory()
    flask_migrate.upgrade()
    assert inventory() == before
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM order_items")) == 1


def test_the_migrations_have_one_head():
    assert SCRIPTS.get_heads() == [HEAD]


# -- the models and the migrations


@pytest.mark.usefixtures("migrated")
def test_the_check_finds_the_migrations_complete():
    flask_migrate.check()


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE tags DROP COLUMN deleted_at CASCADE",
        "DROP INDEX ix_products_name_id",
        "DROP INDEX uq_tags_name_live",
        "ALTER TABLE products DROP CONSTRAINT ck_products_price_range",
        "DROP TRIGGER tags_set_updated_at ON tags",
        "DROP FUNCTION set_updated_at() CASCADE",
        "DROP TRIGGER products_record_history ON products",
        "DROP TRIGGER products_record_truncate ON products",
        (
            "DROP TRIGGER users_record_history ON users; CREATE TRIGGER users_record_history "
            "AFTER INSERT OR DELETE OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION record_history('id')"
        ),
        "CREATE OR REPLACE FUNCTION record_history() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION record_history() SECURITY INVOKER",
        "DROP FUNCTION make_history_partitions(integer)",
        "ALTER TABLE products ALTER COLUMN price TYPE numeric(8, 2)",
        "ALTER TABLE products ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE profiles DROP CONSTRAINT uq_profiles_user_id",
    ],
)
@pytest.mark.usefixtures("migrated", "models_as_before")
def test_the_check_finds_what_is_missing(damage):
    with db.engine.begin() as connection:
        connection.execute(text(damage))
    with pytest.raises(SystemExit):
        flask_migrate.check()


@pytest.mark.usefixtures("migrated")
def test_the_check_overlooks_partitions_however_many_there_are():
    with db.engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM make_history_partitions(12)")) == 9
    flask_migrate.check()


@pytest.mark.usefixtures("empty")
def test_history_goes_on_where_it_is_taken_back_and_made_again():
    flask_migrate.upgrade(revision="37e2916ca686")
    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO categories (name) VALUES ('one'), ('two')"))
    flask_migrate.downgrade(revision="eb8d25c618e0")
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE categories SET name = 'three' WHERE name = 'two'"))
    flask_migrate.upgrade(revision="37e2916ca686")
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM categories WHERE name = 'three'"))
        assert connection.execute(text("SELECT operation, old ->> 'name' FROM history")).all() == [("delete", "three")]


@pytest.fixture
def models_as_before():
    """Alembic attaches each CHECK that it finds missing once more to the models' own table."""
    before = {table: set(table.constraints) for table in db.metadata.sorted_tables}
    yield
    for table, constraints in before.items():
        table.constraints = constraints


@pytest.mark.usefixtures("empty")
def test_create_all_makes_the_same_as_the_migrations(inventory):
    with pytest.warns(UserWarning, match="migrations do not know of"):
        db.create_all()
    made = inventory()
    with db.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    assert inventory() == NOTHING
    flask_migrate.upgrade()
    assert made == inventory()


@pytest.mark.usefixtures("empty")
def test_what_create_all_has_made_is_up_to_date_once_it_is_stamped():
    with pytest.warns(UserWarning, match="flask db stamp head"):
        db.create_all()
    flask_migrate.stamp()
    assert current() == HEAD
    flask_migrate.check()


# -- the commands


PROGRAM = """
import sys
from api import create_app
app = create_app()
for command in sys.argv[1:]:
    result = app.test_cli_runner().invoke(args=["db", *command.split()], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    print(result.output, end="")
    print("=====")
"""
FIRST = REVISIONS[0]
COMMANDS = {
    "current before": "current",
    "printed upgrade": "upgrade --sql",
    "printed downgrade": f"downgrade {HEAD}:base --sql",
    "current after printing": "current",
    "one up": "upgrade +1",
    "current after one up": "current",
    "one down": "downgrade",
    "current after one down": "current",
    "up to a revision": f"upgrade {FIRST}",
    "current after up to a revision": "current",
    "up": "upgrade",
    "current after up": "current",
    "history": "history --indicate-current",
    "verbose history": "history -v",
    "shown": f"show {HEAD}",
    "heads": "heads",
    "check": "check",
    "down to a revision": f"downgrade {FIRST}",
    "current after down to a revision": "current",
    "all the way down": "downgrade base",
    "current after all the way down": "current",
    "stamp": "stamp head",
    "current after stamp": "current",
}


def environment(url, **variables):
    """Of a process that works on the database at `url`."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {"DATABASE_URL": url, "LOG_LEVEL": "WARNING"} | variables


@pytest.fixture(scope="module")
def printed(new_database):
    """What each of `COMMANDS` prints, run one after the other by a process of its own on an empty database."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, *COMMANDS.values()],
        cwd=PROJECT,
        env=environment(new_database()),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    return dict(zip(COMMANDS, output.split("=====\n"), strict=False))


def test_current_tells_the_revision_and_whether_it_is_the_newest(printed):
    assert printed["current before"] == ""
    assert printed["current after up"] == f"{HEAD} (head)\n"


def test_upgrade_and_downgrade_go_one_step(printed):
    assert printed["current after one up"].split() == [FIRST]
    assert printed["current after one down"] == ""


def test_upgrade_and_downgrade_go_to_a_revision(printed):
    assert printed["current after up to a revision"].split() == [FIRST]
    assert printed["current after down to a revision"].split() == [FIRST]
    assert printed["current after all the way down"] == ""


def test_history_tells_what_there_is_and_where_the_database_is(printed):
    assert f"{HEAD} (head) (current)" in printed["history"]
    assert [revision for revision in REVISIONS if revision not in printed["history"]] == []
    assert "Path: " in printed["verbose history"]
    assert f"Rev: {HEAD} (head)" in printed["shown"]
    assert printed["heads"] == f"{HEAD} (head)\n"


def test_check_says_that_nothing_is_missing(printed):
    assert "No new upgrade operations detected." in printed["check"]


def test_stamp_sets_the_revision(printed):
    assert printed["current after stamp"] == f"{HEAD} (head)\n"


def test_sql_is_printed_instead_of_run(printed):
    assert "CREATE TABLE products" in printed["printed upgrade"]
    assert "DROP TABLE products" in printed["printed downgrade"]
    assert printed["current after printing"] == ""


@pytest.mark.usefixtures("empty")
def test_stamp_makes_nothing(inventory):
    flask_migrate.stamp()
    assert current() == HEAD
    assert inventory() == NOTHING


# -- SQL instead of running it


def offline(command, **arguments):
    """What `--sql` prints."""
    written = StringIO()
    config = flask_migrate.current_app.extensions["migrate"].migrate.get_config(MIGRATIONS)
    config.output_buffer = written
    command(config, sql=True, **arguments)
    return written.getvalue()


@pytest.mark.usefixtures("empty")
def test_the_printed_sql_makes_the_same_as_the_migrations(inventory):
    script = offline(flask_migrate.command.upgrade, revision="head")
    assert inventory() == NOTHING
    connection = db.engine.raw_connection()
    connection.cursor().execute(script)
    connection.close()
    printed = inventory()
    assert current() == HEAD

    script = offline(flask_migrate.command.downgrade, revision=f"{HEAD}:base")
    connection = db.engine.raw_connection()
    connection.cursor().execute(script)
    connection.close()
    assert inventory() == NOTHING

    flask_migrate.upgrade()
    assert inventory() == printed


# -- several at once


def upgrading(app, **variables):
    """A process that upgrades the database of `app`."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "api", "db", "upgrade"],
        cwd=PROJECT,
        env=environment(app.extensions["settings"].database_url, LOG_LEVEL="INFO", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_processes_that_upgrade_at_once_do_not_collide(empty):
    processes = [upgrading(empty) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert current() == HEAD
    assert sum(f"-> {HEAD}" in output for output in outputs) == 1


LOCK = int(Path(MIGRATIONS, "env.py").read_text().partition("MIGRATION_LOCK = ")[2].partition("\n")[0])


def test_a_process_waits_for_the_one_before_it_for_as_long_as_that_takes(empty):
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        process = upgrading(empty, DB_LOCK_TIMEOUT_MS="50", DB_STATEMENT_TIMEOUT_MS="50")
        deadline = time.monotonic() + 30
        while not connection.scalar(others) and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert current() == HEAD


# -- how a migration runs


@pytest.mark.usefixtures("migrated")
def test_a_migration_has_time_but_does_not_make_others_wait_for_long(versions):
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    settings = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    versions("aaa", f'    op.execute("CREATE TABLE seen AS SELECT {settings}")', "    pass", after=HEAD)
    flask_migrate.upgrade(directory=versions.directory)
    with db.engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM seen")).one() == ("5s", "1h", "0")
        here = [connection.scalar(text(f"SHOW {name}")) for name in names]
    assert here == ["5s", "15s", "30s"]


@pytest.mark.usefixtures("migrated")
def test_a_migration_that_fails_leaves_nothing_behind_and_lets_the_next_one_begin(inventory, versions):
    versions("aaa", '    op.execute("CREATE TABLE half ()")\n    op.execute("nonsense")', "    pass", after=HEAD)
    before = inventory()
    with pytest.raises(Exception, match="nonsense"):
        flask_migrate.upgrade(directory=versions.directory)
    assert inventory() == before
    assert current() == HEAD
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
    flask_migrate.upgrade()
