"""What tells that the service lives, that it can work, and where everything is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from sqlalchemy import text

from api.core.database.statements import counting
from api.extensions import db
from tests.apps import create_app

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def make_app(settings):
    apps = []

    def make(**changes):
        apps.append(create_app(replace(settings, **{"log_level": "CRITICAL"} | changes)))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


GONE = "ALTER TABLE alembic_version RENAME TO missing"
"""A table that was made anew would not have its rights."""


@pytest.fixture
def alembic_version(database):
    """Runs SQL that changes what the database says of its migrations; all is as before in the end."""
    del database
    with db.engine.connect() as connection:
        before = connection.scalar(text("SELECT version_num FROM alembic_version"))

    def run(statement, **values):
        with db.owner_engine.begin() as connection:
            connection.execute(text(statement), values)

    yield run
    run("ALTER TABLE IF EXISTS missing RENAME TO alembic_version")
    run("DELETE FROM alembic_version")
    run("INSERT INTO alembic_version VALUES (:before)", before=before)


def test_a_process_that_answers_is_live(client):
    response = client.get("/livez")
    assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_liveness_asks_the_database_nothing(client):
    with counting() as counted:
        client.get("/livez")
    assert counted.count == 0


def test_a_service_with_its_migrations_is_ready(client):
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (
        200,
        {"status": "ok", "checks": {"database": {"status": "ok"}, "migrations": {"status": "ok"}}},
    )


def test_readiness_is_one_statement(client):
    with counting() as counted:
        client.get("/readyz")
    assert counted.count == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/api/v1"])
def test_no_answer_is_cached(client, path):
    assert client.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("change", ["DELETE FROM alembic_version", GONE])
def test_a_service_without_its_migrations_is_not_ready_and_says_what_helps(client, alembic_version, change):
    alembic_version(change)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert response.json["status"] == "unavailable"
    assert response.json["checks"]["database"] == {"status": "ok"}
    migrations = response.json["checks"]["migrations"]
    assert migrations["status"] == "unavailable"
    assert "The database is at revision none, this release needs " in migrations["detail"]
    assert "flask db upgrade" in migrations["detail"]


def test_a_service_stays_ready_when_a_newer_release_has_migrated(client, alembic_version):
    alembic_version("UPDATE alembic_version SET version_num = 'newer'")
    response = client.get("/readyz")
    assert response.status_code == 200
    assert "newer release" in response.json["checks"]["migrations"]["detail"]


def test_a_service_is_ready_again_when_the_migrations_are_there(client, alembic_version):
    revision = client.application.extensions["health"].heads
    alembic_version("DELETE FROM alembic_version")
    assert client.get("/readyz").status_code == 503
    alembic_version("INSERT INTO alembic_version VALUES (:revision)", revision=next(iter(revision)))
    assert client.get("/readyz").status_code == 200


def test_without_a_database_the_service_lives_but_is_not_ready(make_app, capsys):
    client = make_app(
        log_level="WARNING", database_url="postgresql+psycopg2://user:correct-horse@127.0.0.1:1/db"
    ).test_client()
    assert client.get("/livez").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert {name: check["status"] for name, check in response.json["checks"].items()} == {
        "database": "unavailable",
        "migrations": "unavailable",
    }
    assert "127.0.0.1" not in response.text
    output = capsys.readouterr().err
    assert "Connection refused" in output
    assert "correct-horse" not in response.text + output


def test_when_the_pool_is_out_the_service_is_not_ready_within_the_pools_timeout(make_app):
    app = make_app(pool_size=1, max_overflow=0, pool_timeout=0.2)
    with app.app_context(), db.engine.connect():
        response = app.test_client().get("/readyz")
    assert response.status_code == 503
    assert response.json["checks"]["database"]["status"] == "unavailable"
    assert app.test_client().get("/readyz").status_code == 200


def test_the_root_tells_a_program_what_runs_here_and_where_everything_is(client):
    response = client.get("/")
    assert response.json == {
        "name": "Backend Framework",
        "version": client.application.config["API_VERSION"],
        "links": {
            "documentation": "/docs",
            "openapi": "/openapi.json",
            "api": "/api/v1",
            "ready": "/readyz",
            "metrics": "/metrics",
        },
    }


def test_every_link_of_the_root_leads_somewhere(client):
    links = client.get("/").json["links"].values()
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_the_root_is_a_page_for_a_browser(client):
    response = client.get("/", headers=BROWSER)
    assert response.content_type == "text/html; charset=utf-8"
    assert "Accept" in response.headers["Vary"]
    assert "Backend Framework" in response.text


def test_every_link_of_the_page_leads_somewhere(client):
    links = re.findall(r'href="([^"]+)"', client.get("/", headers=BROWSER).text)
    assert "/api/v1/products" in links
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_the_page_needs_nothing_from_elsewhere_and_no_script(client):
    response = client.get("/", headers=BROWSER)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "<script" not in response.text
    assert "://" not in response.text


def test_links_follow_the_path_that_the_application_is_mounted_at(client):
    mounted = {"SCRIPT_NAME": "/shop"}
    assert client.get("/", environ_overrides=mounted).json["links"]["api"] == "/shop/api/v1"
    assert client.get("/api/v1", environ_overrides=mounted).json["products"] == "/shop/api/v1/products"
    assert 'href="/shop/docs"' in client.get("/", headers=BROWSER, environ_overrides=mounted).text


def test_the_index_names_every_resource_and_its_url(client):
    index = client.get("/api/v1").json
    assert {"users", "roles", "categories", "products", "tags", "orders"} <= set(index)
    assert {client.get(url).status_code for url in index.values()} == {200}
    assert all(url == f"/api/v1/{name}" for name, url in index.items())


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/api/v1"])
def test_the_document_describes_these_endpoints(client, path):
    operation = client.get("/openapi.json").json["paths"][path]["get"]
    assert operation["summary"]
    assert "application/json" in operation["responses"]["200"]["content"]


def test_the_document_tells_of_the_page(client):
    operation = client.get("/openapi.json").json["paths"]["/"]["get"]
    assert "text/html" in operation["responses"]["200"]["content"]


def test_the_document_tells_how_a_service_looks_that_is_not_ready(client):
    answer = client.get("/openapi.json").json["paths"]["/readyz"]["get"]["responses"]["503"]
    assert set(answer["content"]) == {"application/json"}
    assert "Retry-After" in answer["headers"]
