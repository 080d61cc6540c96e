"""Accounts for tests: somebody with a password, who logs in as everybody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.core.access.passwords import PASSWORDS
from tests.callers import as_caller
from tests.factories import UserFactory

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from api.resources.users.models import User

AUTH = "/api/v1/auth"
PASSWORD = "correct horse battery"


def somebody(**values: object) -> User:
    """A user with a password."""
    return UserFactory(password_hash=PASSWORDS.hash(PASSWORD), **values)


def stranger(app: Flask) -> FlaskClient:
    """A client of nobody that is known."""
    return as_caller(app.test_client(), None)


def try_login(client: FlaskClient, user: User, password: str = PASSWORD, **options: object) -> TestResponse:
    return client.post(f"{AUTH}/login", json={"username": user.username, "password": password}, **options)


def log_in(client: FlaskClient, user: User) -> dict[str, str]:
    """The tokens of a new session."""
    answer = try_login(client, user)
    assert answer.status_code == 200, answer.text
    return answer.json


def bearing(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}
