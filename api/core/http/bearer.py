"""Callers that prove themselves with `Authorization: Bearer …`: by an access token, or by something else."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from api.core.access.caller import Caller
from api.core.database.context import Credential
from api.core.errors import UnauthorizedError
from api.core.http.authentication import Identity
from api.core.http.request import current_application

if TYPE_CHECKING:
    from flask import Request

    from api.core.access.tokens import Grant, TokenCodec
    from api.core.http.authentication import Authenticator

TOKENS = "access_tokens"
SESSION = "api.session"
"""Key of a request's environ: the id of the session whose access token it bears."""
_SCHEME = "bearer"
_KEPT = 1024


def bearer_of(request: Request) -> str | None:
    """What stands behind `Bearer`, or None without such a header.

    Raises:
        UnauthorizedError: where nothing does.
    """
    header: str | None = request.environ.get("HTTP_AUTHORIZATION")
    if header is None:
        return None
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() != _SCHEME:
        return None
    value = value.strip()
    if not value:
        raise UnauthorizedError("There is no token behind Bearer; send Authorization: Bearer <token>.")
    return value


def token_authenticator(check: str) -> Authenticator:
    """Takes access tokens; `check` is the SQL expression that raises where the session does not hold any more."""

    def authenticate(request: Request) -> Identity | None:
        token = bearer_of(request)
        # An access token has dots between its three parts, and no other credential has any.
        if token is None or "." not in token:
            return None
        codec: TokenCodec = current_application().extensions[TOKENS]
        grant = codec.read(token)
        request.environ[SESSION] = grant.session_id
        return identity_of(grant)

    @lru_cache(_KEPT)
    def identity_of(grant: Grant) -> Identity:
        caller = Caller(f"user:{grant.user_id}", grant.user_id, grant.roles)
        return Identity(caller, Credential(check, (str(grant.session_id), grant.epoch)))

    return authenticate
