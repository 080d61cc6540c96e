"""What production runs: the same stack without the development settings."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.docker.stack import AWKWARD_PASSWORD, Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def started(production: Stack) -> Iterator[Stack]:
    """The production stack, running again after the test."""
    yield production
    production.up()


def in_api(stack: Stack, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return stack.shell(f"docker-compose exec -T api {command}", check=check)


def test_a_product_is_stored_under_a_password_full_of_special_characters(production: Stack) -> None:
    assert in_api(production, "printenv PGPASSWORD").stdout == f"{AWKWARD_PASSWORD}-api\n"
    product = production.create_product()
    assert production.status(f"/api/v1/products/{product['id']}") == HTTPStatus.OK
    assert production.sql("SHOW server_version_num").startswith("15")


def test_the_api_knows_no_password_but_that_of_the_role_that_owns_nothing(production: Stack) -> None:
    known = in_api(production, "env").stdout.replace(f"{AWKWARD_PASSWORD}-api", "")
    assert AWKWARD_PASSWORD not in known
    refused = in_api(production, "flask db downgrade", check=False)
    assert refused.returncode != 0
    assert "must be owner" in refused.stderr


def test_the_api_runs_as_an_ordinary_user_without_capabilities(production: Stack) -> None:
    status = in_api(production, "cat /proc/1/status").stdout
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert set(fields["Uid"]) == {"10001"}
    assert int(fields["CapBnd"][0], 16) == int(fields["CapEff"][0], 16) == 0
    assert fields["NoNewPrivs"] == ["1"]


def test_nothing_but_the_temporary_folders_can_be_written_to(production: Stack) -> None:
    for folder in ("/app", "/app/migrations/versions", "/venv", "/var/tmp", "/home"):  # noqa: S108
        denied = in_api(production, f"touch {folder}/file", check=False)
        assert (denied.returncode, "Read-only file system" in denied.stderr) == (1, True), folder
    in_api(production, "touch /tmp/file")


@pytest.mark.parametrize("tool", ["cc", "gcc", "g++", "clang", "make", "ld"])
def test_the_image_holds_no_compiler(production: Stack, tool: str) -> None:
    assert in_api(production, f"sh -c 'command -v {tool}'", check=False).stdout == ""


def test_the_image_holds_the_application_and_nothing_else_of_the_tree(production: Stack) -> None:
    found = in_api(production, "find /app -mindepth 1 -maxdepth 1 -printf '%f '").stdout.split()
    assert sorted(found) == ["api", "gunicorn.conf.py", "migrations"]


def test_pgadmin_starts_only_when_asked_for_and_then_wants_a_login(production: Stack) -> None:
    assert "pgadmin" not in production.shell("docker-compose ps --services").stdout.split()
    production.shell("docker-compose --profile pgadmin up --detach --wait pgadmin")
    page = requests.get(f"http://127.0.0.1:{production.pgadmin_port}/", timeout=30)
    production.shell("docker-compose --profile pgadmin rm --stop --force pgadmin")
    assert (page.status_code, "/login" in page.url) == (HTTPStatus.OK, True)


def test_gunicorn_is_the_first_process_and_so_gets_the_signals(production: Stack) -> None:
    assert "gunicorn" in in_api(production, "cat /proc/1/cmdline").stdout.split("\0")[1]


def test_a_development_secret_is_refused_by_name(production: Stack) -> None:
    run = "docker-compose run --rm --no-deps -T -e SECRET_KEY=development-only-secret-key migrate"
    refused = production.shell(run, check=False)
    assert refused.returncode != 0
    assert "SECRET_KEY" in refused.stderr


def test_the_default_database_password_is_refused(production: Stack) -> None:
    for variable in ("PGPASSWORD", "API_DB_PASSWORD"):
        run = f"docker-compose run --rm --no-deps -T -e {variable}=backend_api migrate"
        refused = production.shell(run, check=False)
        assert refused.returncode != 0
        assert variable in refused.stderr


def test_a_request_in_flight_is_answered_after_sigterm(started: Stack) -> None:
    psql = 'psql -q -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen(  # noqa: S602
            f"docker-compose exec -T postgres sh -c '{psql}'",
            shell=True,
            cwd=started.tree,
            env=started.environment,
            stdin=subprocess.PIPE,
            text=True,
        ) as holder,
    ):
        assert holder.stdin
        holder.stdin.write("BEGIN; LOCK TABLE categories IN ACCESS EXCLUSIVE MODE;\n")
        holder.stdin.flush()
        wait_until(lambda: locks(started, granted=True) == "1", "the table is locked")
        request = pool.submit(created, started)
        wait_until(lambda: locks(started, granted=False) == "1", "the request waits for the lock")
        stop = pool.submit(started.shell, "docker-compose stop api")
        wait_until(lambda: "signal: term" in started.shell("docker-compose logs api").stdout, "gunicorn got SIGTERM")
        assert not request.done()
        holder.stdin.write("COMMIT;\n")
        holder.stdin.close()
        assert request.result()["name"] == "In flight"
        stop.result()
    state = started.container("api")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def created(stack: Stack) -> dict[str, Any]:
    return stack.create("categories", name="In flight")


def locks(stack: Stack, *, granted: bool) -> str:
    """How many locks on the table of categories are held, or waited for."""
    condition = "granted" if granted else "NOT granted"
    return stack.sql(f"SELECT count(*) FROM pg_locks WHERE relation = 'categories'::regclass AND {condition}")  # noqa: S608


def test_a_dump_of_the_oldest_postgresql_is_restored_by_the_newest(started: Stack) -> None:
    """The upgrade of docs/DEPLOYMENT.md, whole."""
    product = started.create_product()
    dump = """docker-compose exec -T postgres sh -c 'pg_dump -U "$POSTGRES_USER" "$POSTGRES_DB"' > upgrade.sql"""
    load = """docker-compose exec -T postgres sh -c 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" "$POSTGRES_DB"'"""
    started.shell("docker-compose stop api")
    started.shell(dump)
    started.shell("docker-compose down")
    started.shell(f"docker volume rm {started.project}_postgres-data")
    started.environment["POSTGRES_VERSION"] = "18"
    started.up("postgres")
    started.shell("docker-compose run --rm -T migrate flask database provision")
    started.shell(f"{load} < upgrade.sql")
    started.up()
    assert started.sql("SHOW server_version_num").startswith("18")
    assert started.request("GET", f"/api/v1/products/{product['id']}").json()["sku"] == product["sku"]
