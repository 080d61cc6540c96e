"""One real PostgreSQL for a run, one application on it, and an empty database before each test.

Tests commit what they write: reads run on connections of their own, which would not see into an open transaction.
"""

from __future__ import annotations

import os
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask.globals import _cv_app
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import text
from sqlalchemy.orm import Session as OwnSession

from api import registry
from api.config import Settings
from api.core.access.passwords import PASSWORDS, Cost
from api.core.database.embedded import EmbeddedPostgres
from api.core.database.roles import Roles, provision_own, url_as
from api.core.database.statements import counting
from api.extensions import db
from tests.apps import AdminClient, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from sqlalchemy.orm import Session, scoped_session
    from werkzeug.test import TestResponse

# Relationships name models of other resources: a test file may import any one of them.
registry.import_models()

# Durability is not what these tests are about.
FAST_SERVER = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}


class SeparateClient(AdminClient):
    """Sends each request in an application context of its own, as a server does, and not in the test's.

    So a request gets a session of its own, and loses it when it ends.
    """

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request."""
        outside = copy_context()
        outside.run(_cv_app.set, None)  # type: ignore[arg-type]
        return outside.run(super().open, *args, **kwargs)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how much the attacks have tried; in the process that reports, whichever has run them."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, value in getattr(report, "user_properties", ()):
            if name == "attack inputs" and report.when == "call":
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Let a hash cost next to nothing: as it is, it takes a tenth of a second and 64 MB, which is what it is for."""
    with pytest.MonkeyPatch.context() as patch:
        PASSWORDS.configure(Cost(passes=1, memory_kib=8, threads=1))
        # Each application that a test makes would set it again.
        patch.setattr(PASSWORDS, "configure", lambda _cost: None)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this run's own; `make test PG_BIN=…` takes another server's binaries."""
    binaries = os.environ.get("TEST_PG_BIN")
    postgres = EmbeddedPostgres(
        tmp_path_factory.mktemp("postgres"),
        bin_directory=Path(binaries) if binaries else None,
        server_settings=FAST_SERVER,
    )
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture(scope="session")
def settings(server: EmbeddedPostgres) -> Settings:
    """Settings of the application under test, which owns none of the tables; nothing is read from the environment."""
    url = server.url.replace("postgresql://", "postgresql+psycopg2://", 1)
    provision_own(url, Roles())
    return Settings(
        app_env="test",
        database_url=url_as(url, Roles().api),
        migration_url=url,
        log_level="WARNING",
        pool_timeout=2.0,
        rate_limit_address="",
        rate_limit_caller="",
    )


@pytest.fixture(scope="session")
def app(settings: Settings) -> Iterator[Flask]:
    """The application, on a database migrated to head."""
    application = create_app(settings)
    application.test_client_class = SeparateClient
    with application.app_context():
        upgrade()
        with db.owner_engine.begin() as owner:
            # Tests make tables of their own, which no migration grants access to.
            owner.execute(text(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {db.roles.api}, {db.roles.all_rows}"))
            owner.execute(text(f"GRANT SET ON PARAMETER deadlock_timeout TO {db.roles.api}, {db.roles.all_rows}"))
    yield application
    db.shutdown()


@pytest.fixture
def database(app: Flask) -> Iterator[Flask]:
    """An application context over an empty database."""
    with app.app_context():
        yield app
        db.session.remove()
        with db.owner_engine.begin() as connection:
            connection.exec_driver_sql(_emptying(frozenset(db.metadata.tables)))


@cache
def _emptying(_tables: frozenset[str]) -> str:
    """What empties these tables in one message; without triggers, so that it makes no history."""
    deletions = (str(table.delete()) for table in reversed(db.metadata.sorted_tables))
    return "; ".join(["SET LOCAL session_replication_role = replica", *deletions])


@pytest.fixture
def session(database: Flask) -> scoped_session[Session]:
    """The session of this test."""
    del database
    return db.session


@pytest.fixture
def owner(database: Flask) -> Iterator[Session]:
    """A session of the role that owns the tables."""
    del database
    with OwnSession(db.owner_engine) as session:
        yield session


@pytest.fixture
def client(database: Flask) -> FlaskClient:
    """An HTTP client of the application, whose caller may do everything."""
    return database.test_client()


@pytest.fixture
def statements():
    """`with statements() as counted:` counts the SQL statements of the block in `counted.count`."""
    return counting
