"""What the OpenAPI document says of each generic view: parameters, bodies and every answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.http.openapi import list_parameters, view_parameters
from api.core.http.schema import BaseSchema, ProblemSchema, page_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask_smorest.blueprint import Blueprint

    from api.core.query.allowlist import AllowList

READ_ERRORS = (400, 503)
BODY_ERRORS = (400, 409, 413, 415, 422, 503)
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "Change the row only if it still has this ETag.",
}
_IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "Answer 304 if the row still has this ETag.",
}
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "The row's version."}}
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Path of the new row."}}
_LINK = {"Link": {"schema": {"type": "string"}, "description": "Neighbouring pages (RFC 8288)."}}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}


def errors(blueprint: Blueprint, view: Callable[..., Any], statuses: Sequence[int]) -> Callable[..., Any]:
    """Document problem responses of `view`."""
    for status in statuses:
        view = blueprint.alt_response(
            status,
            schema=ProblemSchema,
            content_type=PROBLEM_TYPE,
            description=HTTPStatus(status).phrase,
            headers=_RETRY if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
        )(view)
    return view


def read_views(blueprint: Blueprint, schema: type[BaseSchema]) -> dict[str, Callable[[Callable[..., Any]], Any]]:
    """Decorators that document the views which read."""
    response = schema(variant="response")

    def listing(view: Callable[..., Any]) -> Callable[..., Any]:
        view = blueprint.response(200, page_schema(schema), description="A page.", headers=_LINK)(view)
        return errors(blueprint, view, READ_ERRORS)

    def single(view: Callable[..., Any]) -> Callable[..., Any]:
        view = blueprint.response(200, response, description="The row.", headers=_ETAG)(view)
        view = blueprint.alt_response(304, success=True, description="The row still has the ETag that you name.")(view)
        return errors(blueprint, view, (400, 404, 503))

    return {"list": listing, "get": single}


def write_views(
    blueprint: Blueprint, schema: type[BaseSchema], example: dict[str, Any] | None
) -> dict[str, Callable[[Callable[..., Any]], Any]]:
    """Decorators that document the views which write, and check the body of those that have one."""
    response = schema(variant="response")

    def create(view: Callable[..., Any]) -> Callable[..., Any]:
        view = blueprint.arguments(schema(variant="create"), example=example)(view)
        view = blueprint.response(201, response, description="Created.", headers={**_ETAG, **_LOCATION})(view)
        return errors(blueprint, view, BODY_ERRORS)

    def change(variant: Any) -> Callable[[Callable[..., Any]], Any]:
        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            view = blueprint.arguments(schema(variant=variant))(view)
            view = blueprint.response(200, response, description="Changed.", headers=_ETAG)(view)
            return errors(blueprint, view, (400, 404, 409, 412, 413, 415, 422, 503))

        return decorate

    def delete(view: Callable[..., Any]) -> Callable[..., Any]:
        view = blueprint.response(204, description="Deleted.")(view)
        return errors(blueprint, view, (400, 404, 409, 412, 503))

    def restore(view: Callable[..., Any]) -> Callable[..., Any]:
        view = blueprint.response(200, response, description="Restored.", headers=_ETAG)(view)
        return errors(blueprint, view, (400, 404, 409, 412, 503))

    return {
        "create": create,
        "replace": change("replace"),
        "patch": change("patch"),
        "delete": delete,
        "restore": restore,
    }


_SUMMARIES = {
    "list": "List {plural}",
    "create": "Create a {one}",
    "get": "Fetch a {one}",
    "replace": "Replace a {one}",
    "patch": "Change a {one}",
    "delete": "Delete a {one}",
    "restore": "Restore a deleted {one}",
}


def summary(view: str, schema: type[BaseSchema], plural: str) -> str:
    """The heading of a generic view."""
    one = schema.component_name("response").lower()
    text = _SUMMARIES[view].format(one=one, plural=plural)
    return text.replace(" a ", " an ") if one[0] in "aeio" else text


def parameters(view: str, allowed: AllowList) -> list[dict[str, Any]]:
    """Query and header parameters of a generic view."""
    if view == "list":
        return [*list_parameters(allowed)]
    shown = [item for item in view_parameters(allowed) if item["name"] != "deleted" or view == "get"]
    if view == "get":
        return [*shown, _IF_NONE_MATCH]
    if view == "create":
        return shown
    return [_IF_MATCH] if view == "delete" else [*shown, _IF_MATCH]
