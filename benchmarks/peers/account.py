"""The account that our requests are made by."""

from __future__ import annotations

import json
import secrets
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from benchmarks.peers.contenders import Server, fetch
from benchmarks.peers.database import environment, flask, rows

if TYPE_CHECKING:
    from pathlib import Path

MANAGER = "bench-manager"
LOGIN = "/api/v1/auth/login"


def make_manager(url: str, kept: Path) -> bytes:
    """Make the account anew, by the project's own commands, and return the body that logs it in."""
    password = secrets.token_urlsafe(24)
    rows(url, "DELETE FROM users WHERE username = %s", MANAGER)
    rows(url, "INSERT INTO roles (name) VALUES ('manager') ON CONFLICT DO NOTHING")
    environ = environment(url, kept)
    admin = ["--username", MANAGER, "--email", "bench@example.com", "--password-stdin"]
    flask(["users", "create-admin", *admin], environ, f"{password}\n")
    flask(["users", "set-roles", MANAGER, "manager"], environ)
    return json.dumps({"username": MANAGER, "password": password}).encode()


def log_in(ours: Server, login: bytes) -> None:
    """Have our requests bear a token.

    Raises:
        SystemExit: when the login is refused.
    """
    answer = fetch(ours, LOGIN, "POST", login)
    if answer.status != HTTPStatus.OK:
        sys.exit(f"The login is refused: {answer.body!r}")
    ours.token = json.loads(answer.body)["access_token"]
