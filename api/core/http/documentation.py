"""The OpenAPI document at `/openapi.json` and Swagger UI at `/docs`; nothing is fetched from elsewhere."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, current_app, request, send_file

from api.core.access.predicates import anyone
from api.core.errors import NotFoundError
from api.core.http.permissions import requires
from api.core.http.security import secured

if TYPE_CHECKING:
    from flask import Flask

    from api.core.http.openapi import DocumentedApi

STATIC_MAX_AGE = 86_400
"""For how many seconds a browser may keep the files of Swagger UI."""

# Swagger UI sets `data:` images as icons; styles it sets through the DOM, which needs no permission.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def _directory_of(package: str) -> Path:
    """Where a package is installed, which need not be imported for its files."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package, name=package)
    return Path(spec.origin).parent


_PAGES = Path(__file__).with_name("pages")
_OWN_FILES = frozenset({"start.js"})
_SWAGGER_UI = _directory_of("swagger_ui") / "static"
_SWAGGER_UI_FILES = frozenset({"swagger-ui.css", "index.css", "swagger-ui-bundle.js", "favicon-32x32.png"})


class Document:
    """The OpenAPI document of an application, put together when it is first asked for."""

    def __init__(self, api: DocumentedApi) -> None:
        self._api = api

    @cached_property
    def content(self) -> bytes:
        """The document as JSON."""
        return orjson.dumps(secured(self._api.document(), current_app), default=_number, option=orjson.OPT_NON_STR_KEYS)

    def respond(self) -> Response:
        """The document, or 304 to a client that has it."""
        response = Response(self.content, mimetype="application/json")
        response.add_etag()
        response.cache_control.no_cache = True
        return response.make_conditional(request)  # type: ignore[return-value]


def init_app(app: Flask, api: DocumentedApi) -> None:
    """Serve the document of `api` and the page that shows it. Call it when all blueprints are registered."""
    app.add_url_rule("/openapi.json", "openapi", requires(anyone)(Document(api).respond))
    app.add_url_rule("/docs", "docs", requires(anyone)(partial(_page, api.spec.title)))
    app.add_url_rule("/docs/", "docs_with_slash", redirect_to="docs")
    app.add_url_rule("/docs/<name>", "docs_file", requires(anyone)(_file))


def _page(name: str) -> Response:
    template = current_app.jinja_env.from_string((_PAGES / "docs.html").read_text(encoding="utf-8"))
    response = Response(template.render(name=name, root=request.script_root), mimetype="text/html")
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.cache_control.no_cache = True
    return response


def _file(name: str) -> Response:
    if name in _OWN_FILES:
        path = _PAGES / name
    elif name in _SWAGGER_UI_FILES:
        path = _SWAGGER_UI / name
    else:
        raise NotFoundError
    response = send_file(path, max_age=STATIC_MAX_AGE)
    response.cache_control.public = True
    return response


def _number(value: Any) -> int | float:
    """Bounds of decimals, which JSON Schema wants as numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    # orjson turns it into one that names the type.
    raise TypeError
