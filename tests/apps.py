"""Applications for tests, whose clients are an admin unless a test says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask.testing import FlaskClient

from api import app as application
from tests.callers import ADMIN, accept_callers, as_caller

if TYPE_CHECKING:
    from flask import Flask

    from api.config import Settings


class AdminClient(FlaskClient):
    """Sends requests as an admin, without an account or a token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        as_caller(self, ADMIN)


def create_app(settings: Settings) -> Flask:
    """An application of `api.app.create_app`, with such clients."""
    app = accept_callers(application.create_app(settings))
    app.test_client_class = AdminClient
    return app
