"""The API of API keys, and the requests that bear one."""

from __future__ import annotations

import uuid
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Response, after_this_request, current_app

from api.core.access.caller import Caller, current_caller
from api.core.access.predicates import in_person
from api.core.database.context import Credential, acting_as_service
from api.core.errors import UnauthorizedError
from api.core.http.authentication import AUTHENTICATORS, Identity
from api.core.http.bearer import bearer_of
from api.core.http.documented import errors
from api.core.http.endpoints import EndpointBlueprint
from api.core.http.permissions import POLICIES, requires
from api.core.http.responses import no_content
from api.extensions import db
from api.resources.api_keys.schemas import APIKeyCreateSchema, APIKeysSchema, NewAPIKeySchema
from api.resources.api_keys.service import MARK, APIKeys, KeyRing, possible_scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Request
    from flask.blueprints import BlueprintSetupState
    from sqlalchemy.orm import Session

    from api.config import Settings
    from api.resources.auth.models import APIKey

R = TypeVar("R")

CHECK = "public.verify_api_key(%s, %s)"
_RING = "api_keys"
_READ = (400, 401, 403, 503)

blueprint = EndpointBlueprint(
    "api-keys", __name__, url_prefix="/auth/api-keys", description="Keys that let machines act for you."
)


@blueprint.record_once
def _take_keys(state: BlueprintSetupState) -> None:
    state.app.extensions[_RING] = KeyRing()
    state.app.extensions[AUTHENTICATORS].append(_authenticate)


def _answers(*statuses: int) -> Callable[[Any], Any]:
    return lambda view: errors(blueprint, view, (*_READ, *statuses))


def _authenticate(request: Request) -> Identity | None:
    key = bearer_of(request)
    if key is None or not key.startswith(MARK):
        return None
    ring: KeyRing = current_app.extensions[_RING]
    known = ring.find(key, _run)
    after_this_request(partial(_look_again, key))
    caller = Caller(f"user:{known.user_id}", known.user_id, known.roles, known.scopes)
    return Identity(caller, Credential(CHECK, (str(known.id), known.epoch)))


def _look_again(key: str, response: Response) -> Response:
    """What was known of a key has been refused, it may be because it is outdated: the next request begins anew."""
    if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE}:
        current_app.extensions[_RING].forget(key)
    return response


@blueprint.route("", methods=["POST"])
@requires(in_person)
@_answers(409, 413, 415, 422)
@blueprint.arguments(APIKeyCreateSchema)
@blueprint.response(201, NewAPIKeySchema)
def create_api_key(data: dict[str, Any]) -> dict[str, Any]:
    """Make an API key.

    The key is shown in this answer and never again.
    """
    settings: Settings = current_app.extensions["settings"]
    user_id = _user_id()
    scopes = possible_scopes(current_app.extensions[POLICIES].resources)
    most = settings.api_keys_max
    made = _run(lambda session: APIKeys(session, user_id).create(data, known_scopes=scopes, most=most))
    return {**_shown([made.row])[0], "key": made.key}


@blueprint.route("")
@requires(in_person)
@_answers()
@blueprint.response(200, APIKeysSchema)
def list_api_keys() -> dict[str, Any]:
    """List one's API keys, the newest first."""
    user_id = _user_id()
    return {"items": _shown(_run(lambda session: APIKeys(session, user_id).all()))}


@blueprint.route("/<uuid:id>", methods=["DELETE"])
@requires(in_person)
@_answers(404)
@blueprint.response(204)
def delete_api_key(id: uuid.UUID) -> Response:  # noqa: A002 - the name in the URL
    """Delete one of one's API keys: from now on it does not hold any more."""
    user_id = _user_id()
    _run(lambda session: APIKeys(session, user_id).revoke(id))
    return no_content()


def _run(function: Callable[[Session], R]) -> R:
    """Run `function` in a transaction of the service's own: whose key it is, is not known before."""
    with acting_as_service():
        return db.retrying(function)


def _shown(rows: Sequence[APIKey]) -> list[dict[str, Any]]:
    columns = ("id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at")
    return [{name: getattr(row, name) for name in columns} for row in rows]


def _user_id() -> int:
    user_id = current_caller().user_id
    if user_id is None:
        raise UnauthorizedError
    return user_id
