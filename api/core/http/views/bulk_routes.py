"""The routes of `BulkViews`, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.http.bulk_schema import AffectedSchema, BulkResultSchema, list_schema
from api.core.http.documented import BODY_ERRORS, errors
from api.core.http.openapi import list_parameters
from api.core.http.routes import Route
from api.core.query.bulk import ATOMIC, DRY_RUN, MAX_AFFECTED, UPSERT
from api.core.query.grammar import GROUP_NAMES

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList

_ERRORS = (*sorted({*BODY_ERRORS, 404, 412}), 428)


def _bulk_create(resource: ResourceBlueprint, view: View) -> View:
    return _list(resource, view, "BulkCreate", resource.schema(variant="create"))


def _bulk_update(resource: ResourceBlueprint, view: View) -> View:
    return _list(resource, view, "BulkPatch", resource.schema(variant="patch"))


def _bulk_delete(resource: ResourceBlueprint, view: View) -> View:
    return _list(resource, view, "BulkDelete", None)


def _list(resource: ResourceBlueprint, view: View, suffix: str, item: Any) -> View:
    name = f"{resource.schema.component_name('response')}{suffix}"
    view = resource.arguments(list_schema(name, item))(view)
    view = resource.made_response(200, BulkResultSchema, description="A verdict for each item.")(view)
    return errors(resource, view, _ERRORS)


def _update_where(resource: ResourceBlueprint, view: View) -> View:
    view = resource.arguments(resource.body("patch"))(view)
    return _delete_where(resource, view)


def _delete_where(resource: ResourceBlueprint, view: View) -> View:
    view = resource.made_response(200, AffectedSchema, description="How many rows.")(view)
    return errors(resource, view, _ERRORS)


def _flag(name: str, default: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "enum": ["true", "false"], "default": default}
    return {"in": "query", "name": name, "schema": schema, "description": description}


_DRY_RUN = _flag(DRY_RUN, "false", "Tell what would happen, and do nothing.")


def _list_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    most = allowed.limits.bulk_items_max
    atomic = f"All items or none; `false`: each on its own, with a verdict. At most {most} items."
    return [_flag(ATOMIC, "true", atomic), _DRY_RUN]


def _create_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    text = "Fields of a unique key, or a unique index: a live row that has an item's key is changed."
    upsert = {"in": "query", "name": UPSERT, "schema": {"type": "string"}, "description": text}
    return [*_list_parameters(allowed), upsert]


def _filter_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    limits = allowed.limits
    number = {"type": "integer", "minimum": 1, "maximum": limits.affected_max, "default": limits.affected_default}
    most = {"in": "query", "name": MAX_AFFECTED, "schema": number, "description": "Do nothing where more rows match."}
    filters = {*allowed.conditions, *GROUP_NAMES}
    return [most, _DRY_RUN, *(item for item in list_parameters(allowed) if item["name"] in filters)]


BULK_ROUTES = (
    Route(
        "update_where",
        "PATCH",
        "",
        "update",
        "Change all {plural} that match",
        _update_where,
        _filter_parameters,
        needs="patch",
        cost=10,
    ),
    Route(
        "delete_where",
        "DELETE",
        "",
        "delete",
        "Delete all {plural} that match",
        _delete_where,
        _filter_parameters,
        needs="delete",
        cost=10,
    ),
    Route(
        "bulk_create",
        "POST",
        "/bulk",
        "create",
        "Create or upsert many {plural}",
        _bulk_create,
        _create_parameters,
        needs="create",
        cost=10,
    ),
    Route(
        "bulk_update",
        "PATCH",
        "/bulk",
        "update",
        "Change many {plural}",
        _bulk_update,
        _list_parameters,
        needs="patch",
        cost=10,
    ),
    Route(
        "bulk_delete",
        "DELETE",
        "/bulk",
        "delete",
        "Delete many {plural}",
        _bulk_delete,
        _list_parameters,
        needs="delete",
        cost=10,
    ),
)
