"""A compose project of its own: a copy of the working tree, free ports, and everything gone afterwards."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DOCKER_SOCKET = Path("/var/run/docker.sock")
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "instance", ".env.local", "__pycache__", ".*_cache", ".hypothesis")
# What the compose files read: a variable of the person who runs the tests must not decide what they find.
READ_BY_COMPOSE = ("COMPOSE_", "POSTGRES_", "PGADMIN_", "API_", "READER_", "DATABASE_")
WAIT_SECONDS = 60.0
# Hardly a character that could stand in a URL, a shell word or a password file as it is.
AWKWARD_PASSWORD = 'p@ss/w:o?r#d%20 $x"&=+'


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Poll `condition` until it is true.

    Raises:
        AssertionError: saying `what` did not happen.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"Not within {seconds:g} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Stack:
    """One compose project, driven the way a person does it: with `docker-compose …` in the working tree."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Copy the working tree; start nothing yet. `settings` are variables for compose."""
        self.project = f"test-{secrets.token_hex(4)}"
        self._home = Path(tempfile.mkdtemp(prefix=f"{self.project}-"))
        self._home.chmod(0o755)  # for the other users who run commands in it
        self.tree = self._home / "tree"
        shutil.copytree(PROJECT_ROOT, self.tree, ignore=NOT_COPIED)
        self.api_port, self.pgadmin_port = free_port(), free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(READ_BY_COMPOSE)}
        self.environment = {
            **inherited,
            "PATH": f"{self._docker_compose_command()}:{os.environ['PATH']}",
            "COMPOSE_PROJECT_NAME": self.project,
            "API_PORT": str(self.api_port),
            "PGADMIN_PORT": str(self.pgadmin_port),
            **settings,
        }

    def _docker_compose_command(self) -> Path:
        """`docker-compose` as the guides spell it, also where only the plugin is installed."""
        folder = self._home / "bin"
        folder.mkdir()
        command = folder / "docker-compose"
        command.write_text('#!/bin/sh\nexec docker compose "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        return folder

    def shell(self, command: str, *, uid: int | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command line in the working tree, as another user if so asked."""
        if uid == os.geteuid():
            uid = None
        groups = [DOCKER_SOCKET.stat().st_gid] if uid is not None and DOCKER_SOCKET.exists() else None
        done = subprocess.run(  # noqa: S602 - a person's command line, with its pipes and redirections, is what is tested
            command,
            shell=True,
            cwd=self.tree,
            env=self.environment if uid is None else {**self.environment, "HOME": str(self._home)},
            user=uid,
            group=uid,
            extra_groups=groups,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self, services: str = "") -> None:
        """Start it, or what changed of it, and wait until everything is healthy."""
        done = self.shell(f"docker-compose up --detach --build --wait --wait-timeout 300 {services}", check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self.shell('docker-compose logs --tail 50').stdout}"

    def remove(self) -> None:
        """Leave nothing behind: containers, volumes, images, files."""
        self.shell("docker-compose --profile '*' down --volumes --remove-orphans --timeout 5", check=False)
        images = self.shell(f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' '{self.project}-*'").stdout
        if images:
            self.shell(f"docker image rm --force {' '.join(images.split())}", check=False)
        shutil.rmtree(self._home)

    def container(self, service: str) -> dict[str, Any]:
        """What Docker knows about the service's container, also when it has ended."""
        name = self.shell(f"docker-compose ps --all --quiet {service}").stdout.strip()
        found: dict[str, Any] = json.loads(self.shell(f"docker inspect {name}").stdout)[0]
        return found

    def sql(self, statement: str) -> str:
        """Run one SQL statement inside the database's container; its values as text."""
        command = 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -tAc'
        return self.shell(f'docker-compose exec -T postgres sh -c \'{command} "$1"\' - "{statement}"').stdout.strip()

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One HTTP request to the API."""
        return requests.request(method, f"http://127.0.0.1:{self.api_port}{path}", timeout=30, **arguments)

    def bearer(self) -> dict[str, str]:
        """The header of an admin, who is made where there is none."""
        account = {"username": "docker.admin", "password": "correct horse battery"}
        login = self.request("POST", "/api/v1/auth/login", json=account)
        if login.status_code == requests.codes.unauthorized:
            options = f"--username {account['username']} --email admin@example.com --password-stdin"
            self.shell(f"echo '{account['password']}' | docker-compose exec -T api flask users create-admin {options}")
            login = self.request("POST", "/api/v1/auth/login", json=account)
        return {"Authorization": f"Bearer {login.json()['access_token']}"}

    def create(self, resource: str, **fields: object) -> dict[str, Any]:
        """Create something over HTTP, as an admin."""
        answer = self.request("POST", f"/api/v1/{resource}", json=fields, headers=self.bearer())
        assert answer.status_code == requests.codes.created, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def create_product(self) -> dict[str, Any]:
        """Create a product in a category of its own."""
        token = secrets.token_hex(4)
        category = self.create("categories", name=f"Category {token}")
        return self.create(
            "products",
            sku=f"SKU-{token}",
            name=f"Mug {token}",
            price="9.99",
            stock_quantity=5,
            category_id=category["id"],
        )

    def status(self, path: str) -> int:
        """The status that a GET answers with; 0 when nothing answers."""
        try:
            return self.request("GET", path).status_code
        except requests.ConnectionError:
            return 0
