"""When the database or the pool is out: 503 with `Retry-After` in good time, and recovery without a restart."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from flask_migrate import upgrade
from sqlalchemy import select, text

from api.core.database.embedded import EmbeddedPostgres
from api.core.database.watchdog import PING, WatchedCursor
from api.core.resource.repository import Repository
from api.extensions import db
from api.resources.tags.models import Tag
from tests.apps import create_app
from tests.factories import TagFactory

TAGS = "/api/v1/tags"


def unavailable(response):
    assert response.status_code == 503
    assert response.mimetype == "application/problem+json"
    assert response.json["title"] == "Service unavailable"
    assert 0 < int(response.headers["Retry-After"]) < 60
    return True


@pytest.fixture
def app_with(settings, database):
    """`app_with(pool_size=1)`: another application on the test database, with these settings."""
    del database
    apps = []

    def make(**changes):
        apps.append(create_app(replace(settings, **changes)))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def test_with_no_connection_left_every_request_is_answered_within_the_pool_s_timeout(app_with):
    app = app_with(pool_size=1, max_overflow=0, pool_timeout=0.3)
    tag = TagFactory()
    client = app.test_client()
    with app.app_context(), db.engine.connect():
        for send in (
            lambda: client.get(TAGS),
            lambda: client.get(f"{TAGS}/{tag.id}"),
            lambda: client.post(TAGS, json={"name": "new"}),
            lambda: client.delete(f"{TAGS}/{tag.id}"),
        ):
            begin = time.monotonic()
            assert unavailable(send())
            assert 0.3 <= time.monotonic() - begin < 1.5
    assert client.get(TAGS).status_code == 200
    assert client.post(TAGS, json={"name": "new"}).status_code == 201


def test_a_row_that_another_transaction_holds_is_answered_within_the_lock_timeout(app_with):
    client = app_with(lock_timeout_ms=100).test_client()
    tag = TagFactory()
    with db.transaction() as session:
        session.execute(select(Tag).where(Tag.id == tag.id).with_for_update())
        begin = time.monotonic()
        assert unavailable(client.patch(f"{TAGS}/{tag.id}", json={"name": "new"}))
        assert time.monotonic() - begin < 2
        assert client.get(f"{TAGS}/{tag.id}").status_code == 200
    assert client.patch(f"{TAGS}/{tag.id}", json={"name": "new"}).status_code == 200


def test_a_table_that_is_locked_is_answered_within_the_statement_timeout(app_with, session):
    client = app_with(statement_timeout_ms=100).test_client()
    session.execute(text("LOCK TABLE tags IN ACCESS EXCLUSIVE MODE"))
    assert unavailable(client.get(TAGS))
    session.rollback()
    assert client.get(TAGS).status_code == 200


def test_connections_that_died_are_replaced_without_anybody_noticing(app_with, session):
    app = app_with()
    client = app.test_client()
    assert client.get(TAGS).status_code == 200
    idle = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'idle'"
    session.execute(text("SET LOCAL ROLE NONE"))
    ended = session.scalars(text(f"SELECT pg_terminate_backend(pid, 5000) {idle}")).all()
    assert True in ended
    assert client.get(TAGS).status_code == 200
    assert client.post(TAGS, json={"name": "new"}).status_code == 201


@pytest.fixture
def pings(app_with, monkeypatch):
    """An application with one connection, and the pings that are sent on it."""
    app = app_with(pool_size=1, max_overflow=0)
    sent = []
    plain = WatchedCursor.execute
    monkeypatch.setattr(
        WatchedCursor,
        "execute",
        lambda self, query, *rest: (query == PING and sent.append(1), plain(self, query, *rest)),
    )
    return app, sent


def test_a_write_shortly_after_another_sends_no_ping(pings):
    app, sent = pings
    client = app.test_client()
    tag = client.post(TAGS, json={"name": "first"})
    sent.clear()
    assert client.patch(tag.headers["Location"], json={"name": "second"}).status_code == 200
    assert sent == []


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_a_write_on_a_connection_that_was_dropped_a_moment_ago_is_done_once_on_another(pings, session, method):
    app, sent = pings
    client = app.test_client()
    tag = client.post(TAGS, json={"name": "first"})
    sent.clear()
    idle = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'idle'"
    session.execute(text("SET LOCAL ROLE NONE"))
    assert True in session.scalars(text(f"SELECT pg_terminate_backend(pid, 5000) {idle}")).all()
    url = TAGS if method == "post" else tag.headers["Location"]
    answer = client.open(url, method=method.upper(), json=None if method == "delete" else {"name": "second"})
    assert answer.status_code == {"post": 201, "patch": 200, "delete": 204}[method]
    # The other one was asked first: it might have been dropped, too.
    names = [item["name"] for item in client.get(TAGS).json["items"]]
    assert sorted(names) == {"post": ["first", "second"], "patch": ["second"], "delete": []}[method]


def test_a_connection_that_is_lost_in_the_middle_of_a_write_is_not_tried_again(app_with, monkeypatch):
    client = app_with(pool_size=1, max_overflow=0).test_client()
    client.post(TAGS, json={"name": "first"})
    calls, plain = [], Repository.create

    def cut_off(self, values):
        calls.append(1)
        pid = self.session.scalar(text("SELECT pg_backend_pid()"))
        with db.owner_engine.connect() as killer:
            killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return plain(self, values)

    monkeypatch.setattr(Repository, "create", cut_off)
    assert unavailable(client.post(TAGS, json={"name": "second"}))
    assert calls == [1]


@pytest.fixture(scope="module")
def own_server(server, tmp_path_factory):
    """A PostgreSQL that may be stopped."""
    own = EmbeddedPostgres(
        tmp_path_factory.mktemp("stopped"), bin_directory=server._bin_directory, server_settings={"fsync": "off"}
    )
    own.start()
    yield own
    own.stop(force=True)


@pytest.fixture
def own_app(own_server, settings):
    """An application on that server, which gives up soon."""
    url = own_server.url.replace("postgresql://", "postgresql+psycopg2://", 1)
    app = create_app(replace(settings, database_url=url, migration_url="", statement_timeout_ms=500, connect_timeout=2))
    with app.app_context():
        upgrade()
        db.session.remove()
    yield app
    with app.app_context():
        db.engine.dispose()


def test_a_database_that_goes_down_and_comes_back_needs_no_restart(own_server, own_app):
    client = own_app.test_client()
    created = client.post(TAGS, json={"name": "before"})
    assert created.status_code == 201

    own_server.stop(force=True)
    for _ in range(2):
        begin = time.monotonic()
        assert unavailable(client.get(TAGS))
        assert unavailable(client.get(created.headers["Location"]))
        assert unavailable(client.post(TAGS, json={"name": "lost"}))
        assert unavailable(client.delete(created.headers["Location"]))
        assert time.monotonic() - begin < 4
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.post(TAGS, json={}).status_code == 422

    own_server.start()
    assert [tag["name"] for tag in client.get(TAGS).json["items"]] == ["before"]
    assert client.post(TAGS, json={"name": "after"}).status_code == 201
    assert client.get("/readyz").status_code == 200


@pytest.fixture
def freeze(own_server):
    """`with freeze():` stops every process of the server in its tracks, as a frozen machine would."""

    @contextmanager
    def frozen():
        postmaster = psutil.Process(int((own_server.data_directory / "postmaster.pid").read_text().splitlines()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    return frozen


def test_a_server_that_is_frozen_is_given_up_soon_after_the_statement_timeout(own_app, freeze):
    client = own_app.test_client()
    assert client.get(TAGS).status_code == 200

    with freeze():
        begin = time.monotonic()
        assert unavailable(client.get(TAGS))
        assert time.monotonic() - begin < 8

    assert client.get(TAGS).status_code == 200
