"""Flask, without what this service does not have and would pay for in each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from click import Context
from flask import Flask
from flask.sessions import SessionInterface

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request, Response
    from flask.sessions import SessionMixin
    from flask.testing import FlaskCliRunner


class _NoSessions(SessionInterface):
    """Whoever uses `flask.session` is told that there is none: who calls is told by tokens."""

    def open_session(self, app: Flask, request: Request) -> None:
        """Nothing is read from cookies."""
        del app, request

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nothing is written to cookies."""


class Application(Flask):
    """No cookies are signed, and no view is looked at in each request for being a coroutine."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Views are functions."""
        return func

    def test_cli_runner(self, **options: Any) -> FlaskCliRunner:
        """Load the commands before the runner redirects the output, for Alembic keeps the one that it finds."""
        self.cli.list_commands(Context(self.cli))
        return super().test_cli_runner(**options)
