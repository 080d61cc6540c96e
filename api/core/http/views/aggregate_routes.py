"""The route of `AggregateViews`, and what the OpenAPI document says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import Schema
from marshmallow import fields as ma_fields

from api.core.http.documented import READ_ERRORS, errors
from api.core.http.openapi import aggregate_parameters
from api.core.http.routes import Route

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList

_GROUP = {
    "description": "The group's keys and results, each under the name that the request gives it: `category.name`, "
    "`count`, `sum_price`.",
    "example": {"category.name": "Mugs", "count": 12, "sum_stock_quantity": 340, "avg_price": "12.50"},
}


class GroupsSchema(Schema):
    """Groups of rows."""

    groups = ma_fields.List(
        ma_fields.Dict(keys=ma_fields.String(), values=ma_fields.Raw(allow_none=True), metadata=_GROUP), required=True
    )
    more = ma_fields.Boolean(required=True, metadata={"description": "Whether there are more groups than `limit`."})


def _aggregate(resource: ResourceBlueprint, view: View) -> View:
    view = resource.made_response(200, GroupsSchema, description="The groups.")(view)
    return errors(resource, view, READ_ERRORS)


def _parameters(allowed: AllowList) -> list[dict[str, Any]]:
    return [*aggregate_parameters(allowed)]


AGGREGATE_ROUTES = (
    Route("aggregate", "GET", "/aggregate", "read", "Aggregate {plural}", _aggregate, _parameters, cost=5),
)
