"""What the OpenAPI document says of permissions: how to say who one is, and who may do what."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from api.core.access.caller import ANONYMOUS, Caller
from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.http.permissions import asked

if TYPE_CHECKING:
    from flask import Flask

    from api.core.http.permissions import Asked

TOKEN, KEY = "accessToken", "apiKey"
SCHEMES = {
    TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `access_token` that logging in answers with.",
    },
    KEY: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key. It may do what its user may, within its scopes.",
    },
}
_VARIABLE = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")
_MACHINE = Caller("a machine", 0, scopes=frozenset())
_UNAUTHORIZED = {
    "description": HTTPStatus.UNAUTHORIZED.phrase,
    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def secured(document: dict[str, Any], app: Flask) -> dict[str, Any]:
    """`document`, with who may send each of its requests, and how they say who they are."""
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
    for rule in app.url_map.iter_rules():
        operations = document["paths"].get(_VARIABLE.sub(r"{\1}", rule.rule), {})
        needed = asked(app.view_functions.get(rule.endpoint))
        for method in rule.methods or ():
            if needed is not None and method.lower() in operations:
                _secure(operations[method.lower()], needed)
    return document


def _secure(operation: dict[str, Any], needed: Asked) -> None:
    schemes: list[dict[str, list[str]]] = [{TOKEN: []}]
    if needed.scope is not None or needed.predicate.grant(_MACHINE):
        schemes.append({KEY: []})
    operation["security"] = [{}, *schemes] if needed.predicate.grant(ANONYMOUS) else schemes
    who = f"For {needed.predicate}."
    if needed.scope is not None:
        who += f" An API key needs the scope `{needed.scope}`."
    operation["description"] = "\n\n".join(filter(None, [operation.get("description"), who]))
    # Credentials that do not hold are refused wherever they are sent.
    operation.setdefault("responses", {}).setdefault("401", _UNAUTHORIZED)
