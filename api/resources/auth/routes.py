"""The API of logging in.

Tokens travel in bodies and in the Authorization header, never in cookies: no other site can have a browser send them,
so there is nothing to forge across sites.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, request

from api.core.access.caller import current_caller
from api.core.access.predicates import anyone, authenticated, in_person
from api.core.errors import ForbiddenError, NotFoundError, UnauthorizedError
from api.core.http.authentication import AUTHENTICATORS
from api.core.http.bearer import SESSION, TOKENS, token_authenticator
from api.core.http.documented import errors
from api.core.http.endpoints import EndpointBlueprint
from api.core.http.permissions import requires
from api.core.http.rate_limits import network_of
from api.core.http.responses import no_content
from api.extensions import db
from api.resources.auth.schemas import (
    AccountCreateSchema,
    AccountSchema,
    DeactivationCreateSchema,
    EndedSchema,
    MeSchema,
    NamesUpdateSchema,
    PasswordReplaceSchema,
    RefreshSchema,
    SessionCreateSchema,
    SessionsSchema,
    TokensSchema,
)
from api.resources.auth.service import Accounts, Client, Rules, Tokens
from api.resources.users.models import User
from api.resources.users.service import account

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.blueprints import BlueprintSetupState

    from api.config import Settings

    View = Callable[..., Any]

CHECK = "public.verify_session(%s, %s)"
_READ = (400, 401, 503)
_BODY = (400, 413, 415, 422, 429, 503)

blueprint = EndpointBlueprint("auth", __name__, url_prefix="/auth", description="Logging in, and one's own account.")


@blueprint.record_once
def _take_tokens(state: BlueprintSetupState) -> None:
    state.app.extensions[AUTHENTICATORS].append(token_authenticator(CHECK))


def _answers(*statuses: int) -> Callable[[View], View]:
    return lambda view: errors(blueprint, view, statuses)


# -- without being known ----------------------------------------------------------------------------------------------


@blueprint.route("/register", methods=["POST"])
@requires(anyone)
@_answers(403, 409, *_BODY)
@blueprint.arguments(AccountCreateSchema)
@blueprint.response(201, AccountSchema)
def register(data: dict[str, str]) -> User:
    """Open an account.

    It has no roles; log in to use it.
    """
    settings: Settings = current_app.extensions["settings"]
    if not settings.registration_open:
        raise ForbiddenError("Accounts are opened by the people who run this service; ask them.")
    return _accounts().register(data, _client())


@blueprint.route("/login", methods=["POST"])
@requires(anyone)
@_answers(401, *_BODY)
@blueprint.arguments(SessionCreateSchema)
@blueprint.response(200, TokensSchema)
def login(data: dict[str, str]) -> dict[str, Any]:
    """Log in.

    Whether the account exists shows neither in the answer nor in the time that it takes.
    """
    kind = "username" if "username" in data else "email"
    return _answer(_accounts().login(kind, data[kind], data["password"], _client()))


@blueprint.route("/refresh", methods=["POST"])
@requires(anyone)
@_answers(401, *_BODY)
@blueprint.arguments(RefreshSchema)
@blueprint.response(200, TokensSchema)
def refresh(data: dict[str, str]) -> dict[str, Any]:
    """Get the next tokens.

    A refresh token is used once. If one is used again, somebody else has it, and its session ends.
    """
    return _answer(_accounts().refresh(data["refresh_token"]))


# -- one's own account ------------------------------------------------------------------------------------------------


@blueprint.route("/me")
@requires(authenticated)
@_answers(*_READ)
@blueprint.response(200, MeSchema)
def me() -> dict[str, Any]:
    """Tell who is asking, and with which roles."""
    caller = current_caller()
    with db.read_connection() as connection:
        found = account(connection, _user_id())
    if found is None:
        raise UnauthorizedError
    return {**found._mapping, "scopes": caller.scopes and sorted(caller.scopes)}  # noqa: SLF001 - its public name


@blueprint.route("/me", methods=["PATCH"])
@requires(in_person)
@_answers(401, 403, 409, *_BODY)
@blueprint.arguments(NamesUpdateSchema)
@blueprint.response(200, AccountSchema)
def rename(data: dict[str, str]) -> User:
    """Change one's username or e-mail address."""
    password = data.pop("current_password")
    return _accounts().rename(_user_id(), password, data)


@blueprint.route("/logout", methods=["POST"])
@requires(in_person)
@_answers(*_READ, 403)
@blueprint.response(204)
def logout() -> Response:
    """Log out: end the session whose token this is."""
    _accounts().end(_user_id(), _session_id())
    return no_content()


@blueprint.route("/logout-everywhere", methods=["POST"])
@requires(in_person)
@_answers(*_READ, 403)
@blueprint.response(200, EndedSchema)
def logout_everywhere() -> dict[str, int]:
    """Log out everywhere: end all sessions."""
    return {"ended": _accounts().end(_user_id())}


@blueprint.route("/password", methods=["PUT"])
@requires(in_person)
@_answers(401, 403, 409, *_BODY)
@blueprint.arguments(PasswordReplaceSchema)
@blueprint.response(204)
def change_password(data: dict[str, str]) -> Response:
    """Change the password.

    All other sessions end, and so do all API keys.
    """
    _accounts().change_password(_user_id(), data["current_password"], data["new_password"], _session_id())
    return no_content()


@blueprint.route("/deactivate", methods=["POST"])
@requires(in_person)
@_answers(401, 403, 409, *_BODY)
@blueprint.arguments(DeactivationCreateSchema)
@blueprint.response(204)
def deactivate(data: dict[str, str]) -> Response:
    """Close one's account.

    All sessions and API keys end; only those who run the service can open it again.
    """
    _accounts().deactivate(_user_id(), data["password"])
    return no_content()


@blueprint.route("/sessions")
@requires(in_person)
@_answers(*_READ, 403)
@blueprint.response(200, SessionsSchema)
def sessions() -> dict[str, Any]:
    """List one's sessions, the newest first."""
    current = _session_id()
    columns = ("id", "created_at", "last_used_at", "expires_at", "user_agent", "address")
    return {
        "items": [
            {**{name: getattr(row, name) for name in columns}, "current": row.id == current}
            for row in _accounts().sessions(_user_id())
        ]
    }


@blueprint.route("/sessions/<uuid:id>", methods=["DELETE"])
@requires(in_person)
@_answers(*_READ, 403, 404)
@blueprint.response(204)
def end_session(id: uuid.UUID) -> Response:  # noqa: A002 - the name in the URL
    """End one of one's sessions."""
    if not _accounts().end(_user_id(), id):
        raise NotFoundError(f"You have no session {id}.")
    return no_content()


# -- what they have in common -----------------------------------------------------------------------------------------


def _accounts() -> Accounts:
    settings: Settings = current_app.extensions["settings"]
    rules = Rules(
        settings.session_ttl,
        settings.login_window,
        settings.login_attempts_per_account,
        settings.login_attempts_per_address,
        settings.registrations_per_address,
    )
    return Accounts(db.retrying, current_app.extensions[TOKENS], rules)


def _client() -> Client:
    address = request.remote_addr or ""
    return Client(address, network_of(address), request.user_agent.string)


def _user_id() -> int:
    user_id = current_caller().user_id
    if user_id is None:
        raise UnauthorizedError
    return user_id


def _session_id() -> uuid.UUID | None:
    return request.environ.get(SESSION)


def _answer(tokens: Tokens) -> dict[str, Any]:
    return {
        "access_token": tokens.access,
        "token_type": "Bearer",
        "expires_in": current_app.extensions[TOKENS].lifetime,
        "refresh_token": tokens.refresh,
    }
