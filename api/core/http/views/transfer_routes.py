"""The routes of `TransferViews`, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.http.documented import errors
from api.core.http.openapi import list_parameters
from api.core.http.routes import Route
from api.core.http.views.transfer import FORMULAS
from api.core.query.params import PAGE_PARAMETERS
from api.core.resource.transfer.formats import Format

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList

_FILE = {item.media_type: {"schema": {"type": "string"}} for item in Format}
_EXPORT_HEADERS = {
    "Content-Disposition": {"schema": {"type": "string"}, "description": "A name for the file."},
    "Content-Encoding": {"schema": {"type": "string"}, "description": "`gzip`, to who accepts it."},
}


def _export(resource: ResourceBlueprint, view: View) -> View:
    view = resource.response(200, description="The file, as it comes from the database.", headers=_EXPORT_HEADERS)(view)
    view = resource.doc(responses={"200": {"content": _FILE}})(view)
    return errors(resource, view, (400, 503))


def _export_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    chosen = {"in": "query", "name": "format", "schema": {"type": "string", "enum": [*Format], "default": "csv"}}
    formulas = {"in": "query", "name": "formulas", "schema": {"type": "string", "enum": [*FORMULAS], "default": "keep"}}
    return [
        chosen | {"description": "A table with a header, or a JSON object a line."},
        formulas | {"description": "In CSV, texts that a spreadsheet would calculate: as they are, or behind a `'`."},
        *(item for item in list_parameters(allowed) if item["name"] not in PAGE_PARAMETERS),
    ]


TRANSFER_ROUTES = (Route("export_rows", "GET", "/export", "Export {plural}", _export, _export_parameters),)
