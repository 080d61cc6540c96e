"""What the OpenAPI document says of several views: headers, and the answers that report an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.http.openapi import view_parameters
from api.core.http.schema import ProblemSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask_smorest.blueprint import Blueprint

    from api.core.query.allowlist import AllowList

READ_ERRORS = (400, 503)
ROW_ERRORS = (400, 404, 409, 412, 503)
BODY_ERRORS = (400, 409, 413, 415, 422, 503)
IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "Change the row only if it still has this ETag.",
}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "Answer 304 if the row still has this ETag.",
}
ETAG = {"ETag": {"schema": {"type": "string"}, "description": "The row's version."}}
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Path of the new row."}}
LINK = {"Link": {"schema": {"type": "string"}, "description": "Neighbouring pages (RFC 8288)."}}
RETRY_STATUSES = (429, 503)
_PROBLEM = ProblemSchema()
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}


def errors(blueprint: Blueprint, view: Callable[..., Any], statuses: Sequence[int]) -> Callable[..., Any]:
    """Document problem responses of `view`; each may be one request too many."""
    for status in (*statuses, HTTPStatus.TOO_MANY_REQUESTS):
        view = blueprint.alt_response(
            status,
            schema=_PROBLEM,
            content_type=PROBLEM_TYPE,
            description=HTTPStatus(status).phrase,
            headers=_RETRY if status in RETRY_STATUSES else None,
        )(view)
    return view


def refusals(blueprint: Blueprint, view: Callable[..., Any], *, for_all: bool) -> Callable[..., Any]:
    """Document what a caller is told who lacks the permission for `view`; what is `for_all` is refused to nobody."""
    return errors(blueprint, view, (401,) if for_all else (401, 403))


def problem_response(status: int) -> dict[str, Any]:
    """A problem as apispec takes it."""
    return {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": ProblemSchema}},
        "headers": _RETRY if status in RETRY_STATUSES else {},
    }


def written_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    """What may be asked of a row that is written: it is live, so there is no `deleted` to ask for."""
    return [item for item in view_parameters(allowed) if item["name"] != "deleted"]
