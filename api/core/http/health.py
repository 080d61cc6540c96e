"""Whether the service lives, whether it can do its work, and where everything is."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from flask import Response, current_app, request
from flask_smorest.blueprint import Blueprint
from marshmallow import Schema, fields, validate
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from api.core.access.predicates import anyone
from api.core.database.revisions import revisions_in
from api.core.errors import UnavailableError
from api.core.http.documented import errors
from api.core.http.permissions import requires
from api.core.http.rate_limits import costs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask_smorest import Api

    from api.core.database.extension import Database

logger = structlog.get_logger(__name__)

OK = "ok"
UNAVAILABLE = "unavailable"
RETRY_AFTER = {"Retry-After": "2"}
"""Seconds."""

_EXTENSION = "health"
_APPLIED = text("SELECT version_num FROM alembic_version")
_UNDEFINED_TABLE = "42P01"
_PAGE = Path(__file__).with_name("pages") / "index.html"


def _status() -> fields.String:
    return fields.String(required=True, validate=validate.OneOf([OK, UNAVAILABLE]))


class LivenessSchema(Schema):
    """The process answers."""

    status = fields.String(required=True, validate=validate.Equal(OK))


class CheckSchema(Schema):
    """One thing that the service needs."""

    status = _status()
    detail = fields.String(metadata={"description": "What is wrong, and what helps."})


class ChecksSchema(Schema):
    """Everything that the service needs."""

    database = fields.Nested(CheckSchema, required=True)
    migrations = fields.Nested(CheckSchema, required=True)


class ReadinessSchema(Schema):
    """Whether the service can do its work; `ok` when every check is."""

    status = _status()
    checks = fields.Nested(ChecksSchema, required=True)


class LinksSchema(Schema):
    """Where to go from here."""

    documentation = fields.String(required=True)
    openapi = fields.String(required=True)
    api = fields.String(required=True)
    ready = fields.String(required=True)
    metrics = fields.String(required=True)


class ServiceSchema(Schema):
    """What is running here."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    links = fields.Nested(LinksSchema, required=True)


RESOURCES_SCHEMA = {"type": "object", "additionalProperties": {"type": "string", "format": "uri-reference"}}


@dataclass(frozen=True)
class Health:
    """What the views of one application need to know."""

    db: Database
    heads: frozenset[str]
    """The newest revisions among the migration scripts, as they were when the process started."""
    known: frozenset[str]
    """All revisions among them."""
    name: str
    version: str
    api_prefix: str

    def checks(self) -> dict[str, dict[str, str]]:
        """Each check with its verdict, in one statement."""
        try:
            with self.db.read_connection() as connection:
                applied = frozenset(connection.scalars(_APPLIED))
        except UnavailableError as error:
            logger.warning("not ready: the database does not answer", reason=str(error.__cause__))
            unknown = "Unknown as long as the database does not answer."
            return {
                "database": {"status": UNAVAILABLE, "detail": error.detail},
                "migrations": {"status": UNAVAILABLE, "detail": unknown},
            }
        except ProgrammingError as error:
            if getattr(error.orig, "pgcode", None) != _UNDEFINED_TABLE:
                raise
            applied = frozenset()
        return {"database": {"status": OK}, "migrations": self._verdict(applied)}

    def _verdict(self, applied: frozenset[str]) -> dict[str, str]:
        if applied == self.heads:
            return {"status": OK}
        if applied - self.known:
            # A newer release has migrated already; the instances of this one serve on until they are replaced.
            return {"status": OK, "detail": "The database has been migrated by a newer release."}
        at, wanted = (", ".join(sorted(revisions)) or "none" for revisions in (applied, self.heads))
        detail = f"The database is at revision {at}, this release needs {wanted}; run: flask db upgrade"
        logger.warning("not ready: migrations differ", applied=at, wanted=wanted)
        return {"status": UNAVAILABLE, "detail": detail}


def init_app(app: Flask, db: Database, api: Api, api_prefix: str) -> None:
    """Add `/`, `/livez`, `/readyz` and the index of resources at `api_prefix`.

    Call it where `app.extensions["migrate"]` is there.
    """
    # Relative to the project, not to wherever the process was started.
    scripts = Path(app.root_path).parent / app.extensions["migrate"].directory
    found = revisions_in(scripts)
    app.extensions[_EXTENSION] = Health(db, found.heads, found.known, api.spec.title, api.spec.version, api_prefix)
    api.register_blueprint(_blueprint(api_prefix))


def _blueprint(api_prefix: str) -> Any:
    blueprint = Blueprint("service", __name__, description="The service itself.")
    live = blueprint.response(200, LivenessSchema)(costs(0)(requires(anyone)(livez)))
    ready = blueprint.alt_response(
        503,
        schema=ReadinessSchema,
        description="Not now; the checks tell why.",
        headers={"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
    )(costs(0)(requires(anyone)(readyz)))
    ready = blueprint.response(200, ReadinessSchema)(ready)
    page = blueprint.alt_response(200, schema={"type": "string"}, content_type="text/html")(requires(anyone)(service))
    page = errors(blueprint, blueprint.response(200, ServiceSchema)(page), ())
    listed = errors(blueprint, blueprint.response(200, RESOURCES_SCHEMA)(requires(anyone)(resources)), ())
    blueprint.add_url_rule("/", view_func=page)
    blueprint.add_url_rule("/livez", view_func=live)
    blueprint.add_url_rule("/readyz", view_func=ready)
    blueprint.add_url_rule(api_prefix, view_func=listed)
    blueprint.after_request(_uncached)
    return blueprint


def livez() -> dict[str, str]:
    """Tell that the process answers.

    Touches nothing else: a process that fails this should be restarted.
    """
    return {"status": OK}


def readyz() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Tell whether the service can do its work.

    The database must answer within its timeouts, and must have exactly the migrations of this release.
    """
    checks = _health().checks()
    if all(check["status"] == OK for check in checks.values()):
        return {"status": OK, "checks": checks}, HTTPStatus.OK, {}
    return {"status": UNAVAILABLE, "checks": checks}, HTTPStatus.SERVICE_UNAVAILABLE, RETRY_AFTER


def service() -> Response | dict[str, Any]:
    """Tell what is running here, and where to go from here.

    A page for browsers, JSON for everybody else.
    """
    health = _health()
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return _page(health)
    root = request.script_root
    links = {
        "documentation": f"{root}/docs",
        "openapi": f"{root}/openapi.json",
        "api": root + health.api_prefix,
        "ready": f"{root}/readyz",
        "metrics": f"{root}/metrics",
    }
    return {"name": health.name, "version": health.version, "links": links}


def resources() -> Response:
    """List the resources: the name and URL of each."""
    found = {name: request.script_root + url for name, url in _resources(_health().api_prefix)}
    return Response(orjson.dumps(found), mimetype="application/json")


def _health() -> Health:
    health: Health = current_app.extensions[_EXTENSION]
    return health


def _resources(api_prefix: str) -> Iterator[tuple[str, str]]:
    """Name and path of what can be fetched right below `api_prefix`."""
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        found = re.fullmatch(rf"{re.escape(api_prefix)}/([^/<>]+)", rule.rule)
        if found and "GET" in (rule.methods or ()):
            yield found[1], rule.rule


def _page(health: Health) -> Response:
    template = current_app.jinja_env.from_string(_PAGE.read_text(encoding="utf-8"))
    html = template.render(
        name=health.name,
        version=health.version,
        api_prefix=health.api_prefix,
        root=request.script_root,
        resources=list(_resources(health.api_prefix)),
    )
    response = Response(html, mimetype="text/html")
    policy = f"default-src 'none'; style-src '{_style_hash(html)}'; base-uri 'none'; frame-ancestors 'none'"
    response.headers["Content-Security-Policy"] = policy
    return response


def _style_hash(html: str) -> str:
    """What lets a browser use the page's own style, and no other."""
    style = html.partition("<style>")[2].partition("</style>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _uncached(response: Response) -> Response:
    response.cache_control.no_store = True
    response.vary.add("Accept")
    return response
