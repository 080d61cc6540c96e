"""Stacks for the tests. Docker is what is tested here: where none answers, that is a failure and no reason to skip."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docker.stack import AWKWARD_PASSWORD, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_POSTGRESQL = "15"


@pytest.fixture(scope="session", autouse=True)
def docker() -> None:
    """A Docker that answers and knows compose."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.fail("The docker command is not installed; these tests need Docker with compose.", pytrace=False)
        if done.returncode:
            pytest.fail(f"{' '.join(command)} failed; these tests need Docker:\n{done.stderr}", pytrace=False)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """What `docker compose up` gives a developer: the whole stack, with the settings of the repository."""
    yield from _running(Stack({}))


@pytest.fixture(scope="module")
def production() -> Iterator[Stack]:
    """The stack as docs/DEPLOYMENT.md starts it in production, on the oldest PostgreSQL that is supported."""
    settings = {
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.prod.yml",
        "COMPOSE_ENV_FILES": ".env,.env.local",
    }
    stack = Stack(settings)
    local = {
        "SECRET_KEY": "test-secret-" * 4,
        "POSTGRES_PASSWORD": f"'{AWKWARD_PASSWORD}'",
        "API_DB_PASSWORD": f"'{AWKWARD_PASSWORD}-api'",
        "READER_DB_PASSWORD": f"'{AWKWARD_PASSWORD}-reader'",
        "POSTGRES_VERSION": OLDEST_POSTGRESQL,
        "DB_LOCK_TIMEOUT_MS": "14000",
    }
    lines = "".join(f"{name}={value}\n" for name, value in local.items())
    (stack.tree / ".env.local").write_text(lines, encoding="utf-8")
    yield from _running(stack)


def _running(stack: Stack) -> Iterator[Stack]:
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()
