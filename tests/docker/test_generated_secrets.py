"""`make up`: the production stack from one command, with secrets that nobody had to think of."""

from __future__ import annotations

import json
import stat
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values

from tests.docker.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

COMPOSE = "docker-compose --env-file .env --env-file .env.local -f docker-compose.yml -f docker-compose.prod.yml"

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Stack, CompletedProcess[str]]]:
    """A fresh checkout after `make up`, and what that said."""
    stack = Stack({})
    try:
        yield stack, stack.shell("make up args='--wait-timeout 300'")
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def up(made: tuple[Stack, CompletedProcess[str]]) -> Stack:
    """The stack itself."""
    return made[0]


@pytest.fixture(scope="module")
def generated(up: Stack) -> dict[str, str]:
    """What was written into `.env.local`."""
    return {name: value or "" for name, value in dotenv_values(up.tree / ".env.local").items()}


def test_the_service_is_ready_and_reads_under_its_own_secrets(up: Stack, generated: dict[str, str]) -> None:
    assert up.request("GET", "/readyz").json()["status"] == "ok"
    assert up.status("/api/v1/products") == HTTPStatus.OK
    environment = dict(entry.split("=", 1) for entry in up.container("api")["Config"]["Env"])
    assert (environment["APP_ENV"], environment["SECRET_KEY"]) == ("production", generated["SECRET_KEY"])
    assert stat.S_IMODE((up.tree / ".env.local").stat().st_mode) == 0o600


def test_the_first_admin_logs_in_and_sees_the_figures(up: Stack) -> None:
    account = "--username grace --email grace@example.com --password-stdin"
    up.shell(f"echo '{PASSWORD}' | {COMPOSE} exec -T api flask users create-admin {account}")
    login = up.request("POST", "/api/v1/auth/login", json={"username": "grace", "password": PASSWORD})
    assert login.status_code == HTTPStatus.OK
    bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
    for path in ("/api/v1/auth/me", "/api/v1/users", "/metrics"):
        assert up.request("GET", path, headers=bearer).status_code == HTTPStatus.OK, path
    assert PASSWORD not in up.shell(f"{COMPOSE} logs").stdout


def test_the_database_takes_the_generated_password_and_not_the_committed_one(
    up: Stack, generated: dict[str, str]
) -> None:
    login = f"{COMPOSE} exec -T -e PGPASSWORD={{}} postgres psql -h postgres -U postgres -d backend_db -tAc 'SELECT 1'"
    assert up.shell(login.format(generated["POSTGRES_PASSWORD"])).stdout == "1\n"
    assert "password authentication failed" in up.shell(login.format("postgres"), check=False).stderr


def test_only_its_own_names_are_answered_to_and_the_metrics_are_closed(up: Stack) -> None:
    assert up.request("GET", "/openapi.json", headers={"Host": "evil.example"}).status_code == HTTPStatus.BAD_REQUEST
    assert up.status("/metrics") == HTTPStatus.UNAUTHORIZED


def test_no_secret_is_said_logged_or_part_of_an_image(
    made: tuple[Stack, CompletedProcess[str]], generated: dict[str, str]
) -> None:
    up, said = made
    logs = up.shell(f"{COMPOSE} logs").stdout
    image = up.container("api")["Image"]
    baked = up.shell(f"docker history --no-trunc {image}; docker inspect {image}").stdout
    for name, value in generated.items():
        for place in (said.stdout, said.stderr, logs, baked):
            assert value not in place, name


def test_a_second_run_keeps_secrets_and_data(up: Stack, generated: dict[str, str]) -> None:
    before = up.sql("SELECT oid FROM pg_database WHERE datname = current_database()")
    assert "already" in up.shell("make up args='--wait-timeout 300'").stdout
    assert dotenv_values(up.tree / ".env.local") == generated
    assert up.sql("SELECT oid FROM pg_database WHERE datname = current_database()") == before
    assert up.status("/readyz") == HTTPStatus.OK


@pytest.mark.parametrize("service", ["api", "postgres"])
def test_a_container_gains_no_rights_and_writes_nowhere_but_to_its_volumes(up: Stack, service: str) -> None:
    host = up.container(service)["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"]) == (False, True)
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not any(bind.startswith("/var/run/docker.sock") for bind in host["Binds"] or [])


def test_the_database_is_published_nowhere_and_the_api_on_this_machine_alone(up: Stack) -> None:
    assert not up.container("postgres")["HostConfig"]["PortBindings"]
    published = up.container("api")["HostConfig"]["PortBindings"]
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings} == {"127.0.0.1"}


def test_every_image_has_a_version(up: Stack) -> None:
    services = json.loads(up.shell(f"{COMPOSE} --profile '*' config --format json").stdout)["services"]
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert tag not in {"latest", service["image"]}, name
