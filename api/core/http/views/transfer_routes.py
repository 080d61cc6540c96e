"""The routes of `TransferViews`, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app

from api.core.http.documented import errors
from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.http.openapi import list_parameters
from api.core.http.routes import Route
from api.core.http.schema import ImportProblemSchema, ImportReportSchema
from api.core.http.views.transfer import FORMULAS, TRANSFER_LIMITS
from api.core.http.writing import takes_file
from api.core.query.params import HIGHLIGHT_PARAMETER, PAGE_PARAMETERS
from api.core.resource.transfer.formats import Format

if TYPE_CHECKING:
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.http.routes import View
    from api.core.query.allowlist import AllowList
    from api.core.resource.transfer.formats import TransferLimits

_FILE = {item.media_type: {"schema": {"type": "string"}} for item in Format}
_EXPORT_HEADERS = {
    "Content-Disposition": {"schema": {"type": "string"}, "description": "A name for the file."},
    "Content-Encoding": {"schema": {"type": "string"}, "description": "`gzip`, to who accepts it."},
}


def _export(resource: ResourceBlueprint, view: View) -> View:
    described = "The file, as it comes from the database."
    view = resource.made_response(200, description=described, headers=_EXPORT_HEADERS)(view)
    view = resource.doc(responses={"200": {"content": _FILE}})(view)
    return errors(resource, view, (400, 503))


def _export_parameters(allowed: AllowList) -> list[dict[str, Any]]:
    formats = {"type": "string", "enum": [*Format], "default": Format.CSV}
    formulas = {"type": "string", "enum": [*FORMULAS], "default": FORMULAS[0]}
    for_pages = {*PAGE_PARAMETERS, HIGHLIGHT_PARAMETER}
    return [
        _query("format", formats, "A table with a header, or a JSON object a line."),
        _query("formulas", formulas, "In CSV, texts that a spreadsheet would calculate: as they are, or behind a `'`."),
        *(item for item in list_parameters(allowed) if item["name"] not in for_pages),
    ]


def _import(resource: ResourceBlueprint, view: View) -> View:
    view = resource.made_response(200, ImportReportSchema, description="What became of the rows.")(view)
    view = resource.doc(requestBody={"required": True, "content": _FILE})(view)
    view = resource.alt_response(
        422,
        schema=ImportProblemSchema,
        content_type=PROBLEM_TYPE,
        description="Rows were rejected, and nothing was written.",
    )(view)
    return takes_file(lambda: _limits().import_bytes, lambda: _limits().timeout_ms / 1000)(
        errors(resource, view, (400, 409, 413, 415, 503))
    )


def _limits() -> TransferLimits:
    limits: TransferLimits = current_app.extensions[TRANSFER_LIMITS]
    return limits


def _import_parameters(_allowed: AllowList) -> list[dict[str, Any]]:
    flag, name = {"type": "boolean"}, {"type": "string"}
    return [
        _query("upsert", name, "A unique field, or several with commas: rows that are there already are changed."),
        _query("map", name, "Which fields columns are: `Name:name,Price:price`; `Notes:` leaves one out."),
        _query("atomic", flag | {"default": True}, "Whether one rejected row keeps all from being written."),
        _query("dry_run", flag | {"default": False}, "Tell what would become of the rows, and write nothing."),
        {
            "in": "header",
            "name": "Content-Encoding",
            "schema": {"type": "string", "enum": ["identity", "gzip"]},
            "description": "`gzip` where the file is packed.",
        },
    ]


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"in": "query", "name": name, "schema": schema, "description": description}


TRANSFER_ROUTES = (
    Route("export_rows", "GET", "/export", "export", "Export {plural}", _export, _export_parameters, cost=10),
    Route("import_rows", "POST", "/import", "import", "Import {plural}", _import, _import_parameters, cost=10),
)
