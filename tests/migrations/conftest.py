"""Databases of their own for migrations, and what is in them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import psycopg2
import pytest
from flask_migrate import upgrade
from sqlalchemy import make_url, text

from api.extensions import db
from tests.apps import create_app

PROJECT = Path(__file__).resolve().parents[2]
_number = count(1)
_INVENTORY = {
    "columns": """
        SELECT table_name, column_name, data_type, character_maximum_length, numeric_precision,
               numeric_scale, is_nullable, column_default, is_identity, identity_generation,
               generation_expression
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conname <> 'alembic_version_pkc' AND contype <> 'n'""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    # Those of the roles come with the roles.
    "policies": """
        SELECT tablename, policyname, qual FROM pg_policies WHERE schemaname = 'public' AND roles = '{public}'""",
    "row security": "SELECT relname FROM pg_class WHERE relrowsecurity",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": r"""
        SELECT regexp_replace(pg_get_functiondef(oid), '\s+', ' ', 'g') FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace""",
}


@contextmanager
def _server_connection(url):
    connection = psycopg2.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def new_database(settings):
    """`new_database()`: the URL of an empty database on the server of this run, or of a copy of another one."""
    made = []

    def make(copy_of="template0"):
        name = f"migrated_{next(_number)}"
        with _server_connection(settings.migration_url) as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        made.append(name)
        return make_url(settings.migration_url).set(database=name).render_as_string(hide_password=False)

    yield make
    with _server_connection(settings.migration_url) as cursor:
        for name in made:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _application(settings, url):
    app = create_app(replace(settings, database_url=url, migration_url=""))
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def empty(settings, new_database):
    """An application on an empty database, within its context."""
    with _application(settings, new_database()) as app:
        yield app


@pytest.fixture(scope="module")
def template(settings, new_database):
    """The name of a database that has all migrations."""
    with _application(settings, new_database()):
        upgrade()
        return db.engine.url.database


@pytest.fixture
def migrated(settings, new_database, template):
    """An application on a database that has all migrations, within its context."""
    with _application(settings, new_database(copy_of=template)) as app:
        yield app


@pytest.fixture
def inventory():
    """`inventory()`: all that migrations have made in the current database, in a form that can be compared."""

    def take():
        with db.engine.connect() as connection:
            return {kind: sorted(map(str, connection.execute(text(query)))) for kind, query in _INVENTORY.items()}

    return take


@pytest.fixture
def versions(tmp_path):
    """A copy of the migrations directory, which may be added to: `versions("b", "a", upgrade, downgrade)`."""
    directory = tmp_path / "migrations"
    shutil.copytree(PROJECT / "migrations", directory, ignore=shutil.ignore_patterns("__pycache__"))

    def add(revision, upgrade, downgrade, *, after):
        content = (
            "import sqlalchemy as sa\nfrom alembic import op\n\n"
            f"revision = {revision!r}\ndown_revision = {after!r}\nbranch_labels = None\ndepends_on = None\n\n\n"
            f"def upgrade():\n{upgrade}\n\n\ndef downgrade():\n{downgrade}\n"
        )
        (directory / "versions" / f"{revision}.py").write_text(content)

    add.directory = str(directory)
    return add
