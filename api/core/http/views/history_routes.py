"""The routes of `HistoryViews`, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.database.history import HistoryMixin
from api.core.http.documented import BODY_ERRORS, ETAG, IF_MATCH, LINK, ROW_ERRORS, errors, written_parameters
from api.core.http.openapi import list_parameters
from api.core.http.routes import Route
from api.core.http.schema import page_schema
from api.core.http.views.history import RevertSchema, history_allow_list, history_schema

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList


def _history(resource: ResourceBlueprint, view: View) -> View:
    page = page_schema(history_schema(resource.schema, resource.model))  # type: ignore[arg-type]  # a class is hashable
    view = resource.made_response(200, page, description="A page, newest first.", headers=LINK)(view)
    return errors(resource, view, (400, 404, 503))


def _revert(resource: ResourceBlueprint, view: View) -> View:
    view = resource.arguments(RevertSchema, example={"version": 1})(view)
    response = resource.schema(variant="response")
    view = resource.made_response(200, response, description="Reverted.", headers=ETAG)(view)
    required = (428,) if resource.require_if_match else ()
    return errors(resource, view, sorted({*ROW_ERRORS, *BODY_ERRORS, *required}))


def _history_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*list_parameters(history_allow_list(allowed))]


def _revert_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*written_parameters(allowed), IF_MATCH]


def _recorded(model: type) -> bool:
    return issubclass(model, HistoryMixin)


HISTORY_ROUTES = (
    Route(
        "history",
        "GET",
        "/{key}/history",
        "history",
        "List the changes of a {one}",
        _history,
        _history_parameters,
        possible=_recorded,
    ),
    Route(
        "revert",
        "POST",
        "/{key}/revert",
        "update",
        "Set a {one} back to what it was",
        _revert,
        _revert_parameters,
        possible=_recorded,
    ),
)
