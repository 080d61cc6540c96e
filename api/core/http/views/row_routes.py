"""The routes of `RowViews`, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.database.mixins import SoftDeleteMixin
from api.core.http.documented import (
    BODY_ERRORS,
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    LINK,
    LOCATION,
    READ_ERRORS,
    ROW_ERRORS,
    errors,
    written_parameters,
)
from api.core.http.json_patch import JSON_PATCH_TYPE, MERGE_PATCH_TYPE, OPERATIONS_SCHEMA, json_patch
from api.core.http.openapi import list_parameters, view_parameters
from api.core.http.routes import Route
from api.core.http.schema import found_schema, page_schema

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList


def _list(resource: ResourceBlueprint, view: View) -> View:
    page = page_schema(resource.schema, found_schema(resource.schema, resource.model))
    view = resource.made_response(200, page, description="A page.", headers=LINK)(view)
    return errors(resource, view, READ_ERRORS)


def _get(resource: ResourceBlueprint, view: View) -> View:
    view = _row(resource, view, 200, "The row.")
    view = resource.alt_response(304, success=True, description="The row still has the ETag that you name.")(view)
    return errors(resource, view, (400, 404, 503))


def _create(resource: ResourceBlueprint, view: View) -> View:
    view = resource.arguments(resource.body("create"), example=resource.example)(view)
    view = _row(resource, view, 201, "Created.", LOCATION)
    return errors(resource, view, BODY_ERRORS)


def _replace(resource: ResourceBlueprint, view: View) -> View:
    view = resource.arguments(resource.body("replace"))(view)
    return _changed(resource, view)


def _patch(resource: ResourceBlueprint, view: View) -> View:
    schema = resource.body("patch", MERGE_PATCH_TYPE)
    schema.media_types |= {JSON_PATCH_TYPE: json_patch}
    view = resource.arguments(schema)(view)
    others = {MERGE_PATCH_TYPE: {"schema": schema}, JSON_PATCH_TYPE: {"schema": OPERATIONS_SCHEMA}}
    return _changed(resource, resource.doc(requestBody={"content": others})(view))


def _changed(resource: ResourceBlueprint, view: View) -> View:
    view = _row(resource, view, 200, "Changed.")
    return errors(resource, view, sorted({*_row_errors(resource), *BODY_ERRORS}))


def _delete(resource: ResourceBlueprint, view: View) -> View:
    view = resource.made_response(204, description="Deleted.")(view)
    return errors(resource, view, _row_errors(resource))


def _restore(resource: ResourceBlueprint, view: View) -> View:
    return errors(resource, _row(resource, view, 200, "Restored."), _row_errors(resource))


def _row_errors(resource: ResourceBlueprint) -> tuple[int, ...]:
    return (*ROW_ERRORS, 428) if resource.require_if_match else ROW_ERRORS


def _row(
    resource: ResourceBlueprint, view: View, status: int, description: str, headers: dict[str, Any] | None = None
) -> View:
    response = resource.schema(variant="response")
    documented: View = resource.made_response(
        status, response, description=description, headers={**ETAG, **(headers or {})}
    )(view)
    return documented


def _get_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*view_parameters(allowed), IF_NONE_MATCH]


def _change_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*written_parameters(allowed), IF_MATCH]


def _delete_parameters(_allowed: AllowList) -> list[dict[str, Any]]:
    return [IF_MATCH]


def _list_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*list_parameters(allowed)]


def _restorable(model: type) -> bool:
    return issubclass(model, SoftDeleteMixin)


ROW_ROUTES = (
    Route("list", "GET", "", "read", "List {plural}", _list, _list_parameters),
    Route("create", "POST", "", "create", "Create a {one}", _create, written_parameters),
    Route("get", "GET", "/{key}", "read", "Fetch a {one}", _get, _get_parameters),
    Route("replace", "PUT", "/{key}", "update", "Replace a {one}", _replace, _change_parameters),
    Route("patch", "PATCH", "/{key}", "update", "Change a {one}", _patch, _change_parameters),
    Route("delete", "DELETE", "/{key}", "delete", "Delete a {one}", _delete, _delete_parameters),
    Route(
        "restore",
        "POST",
        "/{key}/restore",
        "restore",
        "Restore a deleted {one}",
        _restore,
        _change_parameters,
        possible=_restorable,
    ),
)
