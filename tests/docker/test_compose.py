"""What `docker compose up` gives in a fresh checkout, from the outside."""

from __future__ import annotations

import os
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.docker.pgadmin import PgAdmin
from tests.docker.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.docker.stack import Stack

# Root may act for anybody, everybody else for himself alone.
CALLERS = [0, 1000, 4321] if os.geteuid() == 0 else [os.geteuid()]
WIDGET = '''"""Widgets."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped

from api.core.database.model import IntIDModel
from api.core.database.types import column
from api.extensions import db


class Widget(IntIDModel, db.Model):
    """Something new."""

    __tablename__ = "widgets"

    name: Mapped[str] = column(String(50))
'''


def revisions(stack: Stack) -> set[Path]:
    return set((stack.tree / "migrations" / "versions").glob("*.py"))


def start_of(stack: Stack, service: str) -> str:
    started: str = stack.container(service)["State"]["StartedAt"]
    return started


@pytest.fixture
def widgets(stack: Stack) -> Iterator[Path]:
    """A model that no migration knows yet; afterwards neither the tree nor the database knows it."""
    resource = stack.tree / "api" / "resources" / "widgets"
    resource.mkdir()
    before = revisions(stack)
    head = stack.sql("SELECT version_num FROM alembic_version")
    try:
        (resource / "__init__.py").write_text('"""Widgets."""\n', encoding="utf-8")
        (resource / "models.py").write_text(WIDGET, encoding="utf-8")
        yield resource
    finally:
        stack.shell(f"docker-compose exec api flask db downgrade {head}")
        for added in [*(revisions(stack) - before), *resource.iterdir()]:
            added.unlink()
        resource.rmdir()
        wait_until(lambda: stack.status("/readyz") == HTTPStatus.OK, "the API is ready after the clean-up")


def test_up_returns_with_everything_healthy_and_the_database_migrated(stack: Stack) -> None:
    states = {name: stack.container(name)["State"] for name in ("postgres", "api", "pgadmin", "migrate")}
    assert {name: state["Health"]["Status"] for name, state in states.items() if name != "migrate"} == {
        "postgres": "healthy",
        "api": "healthy",
        "pgadmin": "healthy",
    }
    assert (states["migrate"]["Status"], states["migrate"]["ExitCode"]) == ("exited", 0)
    assert stack.status("/readyz") == HTTPStatus.OK


def test_ports_are_published_to_this_machine_alone(stack: Stack) -> None:
    published = [
        port["HostIp"]
        for name in ("postgres", "api", "pgadmin")
        for ports in stack.container(name)["HostConfig"]["PortBindings"].values()
        for port in ports
    ]
    assert published == ["127.0.0.1", "127.0.0.1"]


def test_a_product_created_over_http_is_read_back(stack: Stack) -> None:
    product = stack.create_product()
    answer = stack.request("GET", f"/api/v1/products/{product['id']}")
    assert answer.status_code == HTTPStatus.OK
    assert {name: answer.json()[name] for name in ("sku", "price", "stock_quantity")} == {
        "sku": product["sku"],
        "price": "9.99",
        "stock_quantity": 5,
    }


def test_pgadmin_opens_the_preset_server_without_login_or_password_and_shows_the_row(stack: Stack) -> None:
    product = stack.create_product()
    pgadmin = PgAdmin(f"http://127.0.0.1:{stack.pgadmin_port}")
    assert "login" not in pgadmin.start_page.url
    (server,) = pgadmin.servers()
    connected = pgadmin.connect(server["_id"])
    assert (connected["connected"], connected["db"]) == (True, "backend_db")
    rows = pgadmin.query(connected, "SELECT sku FROM products")
    assert [product["sku"]] in rows


def test_a_restart_of_pgadmin_neither_loses_nor_doubles_the_preset_server(stack: Stack) -> None:
    stack.shell("docker-compose restart pgadmin")
    stack.up("pgadmin")
    (server,) = PgAdmin(f"http://127.0.0.1:{stack.pgadmin_port}").servers()
    assert (server["label"], server["host"]) == ("Backend", "postgres")


def test_the_api_answers_503_while_postgresql_is_away_and_recovers_by_itself(stack: Stack) -> None:
    product = stack.create_product()
    path = f"/api/v1/products/{product['id']}"
    started = start_of(stack, "api")
    stack.shell("docker-compose stop postgres")
    away = stack.request("GET", path)
    assert away.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(away.headers["Retry-After"]) > 0
    assert away.elapsed.total_seconds() < 10
    assert stack.status("/livez") == HTTPStatus.OK
    assert stack.status("/readyz") == HTTPStatus.SERVICE_UNAVAILABLE
    stack.shell("docker-compose start postgres")
    wait_until(lambda: stack.status(path) == HTTPStatus.OK, "the API finds PostgreSQL again")
    assert start_of(stack, "api") == started


def test_a_restart_of_postgresql_under_the_running_api_needs_nothing_from_anybody(stack: Stack) -> None:
    started = start_of(stack, "api")
    stack.shell("docker-compose restart postgres")
    wait_until(lambda: stack.status("/readyz") == HTTPStatus.OK, "the API is ready again")
    assert stack.create_product()["version"] == 1
    assert start_of(stack, "api") == started


def test_recreated_containers_find_the_data_again(stack: Stack) -> None:
    product = stack.create_product()
    stack.shell("docker-compose down")
    stack.up()
    answer = stack.request("GET", f"/api/v1/products/{product['id']}")
    assert (answer.status_code, answer.json()["sku"]) == (HTTPStatus.OK, product["sku"])


@pytest.mark.usefixtures("widgets")
@pytest.mark.parametrize("uid", CALLERS)
def test_a_generated_revision_lands_in_the_working_tree_and_belongs_to_the_caller(stack: Stack, uid: int) -> None:
    before = revisions(stack)
    if os.geteuid() == 0:
        stack.shell(f"chown -R {uid}:{uid} .")
    stack.shell('docker-compose exec api flask db migrate -m "Add widgets"', uid=uid)
    (added,) = revisions(stack) - before
    assert (added.stat().st_uid, added.name.endswith("_add_widgets.py")) == (uid, True)
    assert "'widgets'" in added.read_text(encoding="utf-8").replace('"', "'")


@pytest.mark.usefixtures("widgets")
def test_readiness_follows_a_new_migration_without_a_restart_of_the_container(stack: Stack) -> None:
    started = start_of(stack, "api")
    stack.shell('docker-compose exec api flask db migrate -m "Add widgets"')
    wait_until(lambda: stack.status("/readyz") == HTTPStatus.SERVICE_UNAVAILABLE, "the API misses the migration")
    stack.shell("docker-compose exec api flask db upgrade")
    wait_until(lambda: stack.status("/readyz") == HTTPStatus.OK, "the API is content with the migrated database")
    assert start_of(stack, "api") == started


def test_a_change_of_the_code_is_served_without_a_restart_of_the_container(stack: Stack) -> None:
    started = start_of(stack, "api")
    path = f"/{secrets.token_hex(4)}"
    with (stack.tree / "api" / "wsgi.py").open("a", encoding="utf-8") as wsgi:
        wsgi.write(f'\napp.add_url_rule("{path}", view_func=lambda: "reloaded")\n')
    wait_until(lambda: stack.status(path) == HTTPStatus.OK, "the new view is served")
    assert start_of(stack, "api") == started
