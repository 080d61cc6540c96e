"""Callers for tests: a client sends its requests as one of them, without an account or a token.

What accounts and tokens do is tested where they are; everywhere else it only matters who the caller is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.core.access.caller import Caller
from api.core.access.policy import PERMISSIONS, Policy
from api.core.access.predicates import anyone
from api.core.http.authentication import AUTHENTICATORS, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Request
    from flask.testing import FlaskClient

_ENVIRON_KEY = "tests.caller"

OPEN = Policy(dict.fromkeys(PERMISSIONS, anyone))
"""The policy of resources that are about something else: everybody may do everything."""

ADMIN = Caller("user:1000001", user_id=1_000_001, roles=frozenset({"admin"}))


def accept_callers(app: Flask) -> Flask:
    """Let the clients of `app` tell who they are; over HTTP nobody can."""
    app.extensions[AUTHENTICATORS].insert(0, _from_environ)
    return app


def as_caller(client: FlaskClient, caller: Caller | None) -> FlaskClient:
    """`client`, from now on as `caller`; as nobody, with None."""
    client.environ_base[_ENVIRON_KEY] = caller
    return client


def _from_environ(request: Request) -> Identity | None:
    caller = request.environ.get(_ENVIRON_KEY)
    # Who sends credentials is who they say.
    return None if caller is None or "Authorization" in request.headers else Identity(caller)


def served_as(application: WSGIApplication, caller: Caller) -> WSGIApplication:
    """`application` for a server, whose clients are all `caller`."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return application(environ | {_ENVIRON_KEY: caller}, start_response)

    return serve
