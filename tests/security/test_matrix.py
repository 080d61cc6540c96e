"""Every kind of caller against every endpoint and method of the URL map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from api.core.access.caller import Caller
from api.extensions import db
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, somebody
from tests.callers import as_caller
from tests.factories import (
    APIKeyFactory,
    AuthSessionFactory,
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    RoleFactory,
    TagFactory,
    UserFactory,
)
from tests.security.expectations import EXPECTED, ROLES

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.routing import Rule
    from werkzeug.test import TestResponse

    from api.resources.categories.models import Category
    from api.resources.products.models import Product

_NUMBERS = count(1)


@dataclass
class Shared:
    """Rows that many requests can refer to."""

    category: Category
    product: Product


@dataclass
class Target:
    """What a request is about: a row, and the user whose it is."""

    id: Any
    owner: int


# -- rows --------------------------------------------------------------------------------------------------------------


def target_of(resource: str, shared: Shared) -> Target:
    """A new row of `resource`."""
    owner = UserFactory()
    if resource == "users":
        return Target(owner.id, owner.id)
    if resource == "orders":
        items = [OrderItemFactory.build(product=shared.product)]
        # One that may also be deleted.
        return Target(OrderFactory(user=owner, status="delivered", items=items).id, owner.id)
    factories = {"categories": CategoryFactory, "tags": TagFactory, "roles": RoleFactory}
    if resource == "products":
        return Target(ProductFactory(category=shared.category).id, owner.id)
    return Target(factories[resource]().id, owner.id)


def new_row(resource: str, shared: Shared) -> dict[str, Any]:
    """The body that makes a row of `resource`."""
    name = f"new-{next(_NUMBERS)}"
    bodies: dict[str, dict[str, Any]] = {
        "categories": {"name": name},
        "tags": {"name": name},
        "roles": {"name": name},
        "products": {"sku": name, "name": name, "price": "1.00", "category_id": shared.category.id},
        "users": {"username": name, "email": f"{name}@example.com", "password": PASSWORD},
        "orders": {"items": [{"product_id": shared.product.id, "quantity": 1}]},
    }
    return bodies[resource]


def change(resource: str) -> dict[str, Any]:
    """The body that changes a row of `resource` in what its owner may set."""
    name = f"changed-{next(_NUMBERS)}"
    return {"users": {"profile": {"country": name}}, "orders": {"metadata": {"gift": name}}}.get(
        resource, {"name": name}
    )


def replacement(resource: str, target: Target, shared: Shared, role: str) -> dict[str, Any]:
    """The body of a PUT; `status`, names and `password` are not for customers to change."""
    if resource == "orders":
        return {"status": "delivered", "metadata": {}}
    body = new_row(resource, shared)
    if resource == "users" and role == "owner":
        user = db.session.get_one(User, target.id)
        return {"username": user.username, "email": user.email}
    return body


# -- requests ----------------------------------------------------------------------------------------------------------


def generic(view: str, resource: str, target: Target, shared: Shared, role: str) -> dict[str, Any]:
    """What to send to a generic view; what is written by a list or a filter is only rehearsed."""
    this, rehearsed = {"id": str(target.id)}, {"dry_run": "true"}
    named = {"id": target.id if isinstance(target.id, int) else str(target.id)}
    table = {"categories": "name", "tags": "name", "roles": "name", "products": "sku,name,price,category_id"}
    columns = table.get(resource, "username,email")
    made = new_row(resource, shared)
    requests: dict[str, dict[str, Any]] = {
        "list": {"query_string": this},
        "get": {},
        "aggregate": {"query_string": {**this, "group_by": "created_at", "count": "*"}},
        "history": {},
        "export_rows": {"query_string": {**this, "format": "ndjson"}},
        "create": {"json": made},
        "replace": {"json": replacement(resource, target, shared, role)},
        "patch": {"json": change(resource)},
        "delete": {},
        "restore": {},
        "revert": {"json": {"version": 1}},
        "bulk_create": {"json": {"items": [made]}, "query_string": rehearsed},
        "bulk_update": {"json": {"items": [{**named, **change(resource)}]}, "query_string": rehearsed},
        "bulk_delete": {"json": {"items": [named]}, "query_string": rehearsed},
        "update_where": {"json": change(resource), "query_string": {**this, **rehearsed}},
        "delete_where": {"query_string": {**this, **rehearsed}},
        "import_rows": {
            "data": f"{columns}\n{','.join(str(made.get(name)) for name in columns.split(','))}\n",
            "content_type": "text/csv",
            "query_string": rehearsed,
        },
    }
    return requests[view]


def of_accounts(endpoint: str, client: FlaskClient) -> dict[str, Any]:
    """What to send to the endpoints for accounts."""
    name, user = f"new-{next(_NUMBERS)}", somebody()
    login = {"username": user.username, "password": PASSWORD}
    bodies: dict[str, Any] = {
        "auth.register": {"username": name, "email": f"{name}@example.com", "password": PASSWORD},
        "auth.login": login,
        "auth.change_password": {"current_password": PASSWORD, "new_password": f"{PASSWORD} {name}"},
        "auth.deactivate": {"password": PASSWORD},
        "auth.rename": {"username": name, "current_password": PASSWORD},
        "api-keys.create_api_key": {"name": name, "scopes": ["orders:read"]},
    }
    if endpoint == "auth.refresh":
        bodies[endpoint] = {"refresh_token": client.post(f"{AUTH}/login", json=login).json["refresh_token"]}
    return {"json": bodies[endpoint]} if endpoint in bodies else {}


def target_of_accounts(endpoint: str) -> Target:
    owner = somebody().id
    factory = APIKeyFactory if endpoint.startswith("api-keys.") else AuthSessionFactory
    return Target(factory(user_id=owner).id, owner)


def caller_for(role: str, resource: str, target: Target) -> Caller | None:
    """Somebody of this kind, whose account is new."""
    if role == "anonymous":
        return None
    user = target.owner if role == "owner" else somebody().id
    roles = {"manager": {"manager"}, "owner": set(), "other": set()}.get(role, {"admin"})
    another = "tags" if resource != "tags" else "products"
    scopes = {"read_key": {f"{resource}:read"}, "other_key": {f"{another}:read", f"{another}:write"}}.get(role)
    return Caller(f"user:{user}", user, frozenset(roles), None if scopes is None else frozenset(scopes))


# -- answers -----------------------------------------------------------------------------------------------------------


def outcome(answer: TestResponse) -> str:
    """What came of a request, in the words of the table."""
    if answer.status_code >= 400:
        return str(answer.status_code)
    return "none" if answer.request.method != "HEAD" and _is_empty(answer) else "ok"


def _is_empty(answer: TestResponse) -> bool:
    if not answer.is_json:
        return answer.mimetype == "application/x-ndjson" and not answer.data
    return any(answer.json.get(name) in ([], 0) for name in ("items", "groups", "affected"))


class Exchanges:
    """Sends requests as a caller of this kind."""

    def __init__(self, app: Flask, client: FlaskClient, role: str) -> None:
        category = CategoryFactory()
        self._shared = Shared(category, ProductFactory(category=category, stock_quantity=10_000))
        self._resources = {rule.endpoint.split(".")[0] for rule in app.url_map.iter_rules() if _is_list(rule)}
        self._client, self._role = client, role

    def send(self, rule: Rule, method: str) -> TestResponse:
        """A request to an endpoint, about a row made for it."""
        resource, _, view = rule.endpoint.partition(".")
        if resource in self._resources:
            target = target_of(resource, self._shared)
            sent = generic(view, resource, target, self._shared, self._role)
        else:
            target = target_of_accounts(rule.endpoint)
            sent = of_accounts(rule.endpoint, self._client)
        as_caller(self._client, caller_for(self._role, resource, target))
        values = {"id": target.id, "name": "start.js"}
        path = rule.build({name: values[name] for name in rule.arguments})[1]
        with self._client.open(path, method=method, **sent) as answer:
            return answer


def _is_list(rule: Rule) -> bool:
    return rule.endpoint.endswith(".list")


def methods_of(rule: Rule) -> list[str]:
    """The methods of an endpoint, but for that which Flask answers by itself."""
    return sorted((rule.methods or set()) - {"OPTIONS"})


def expectation(rule: Rule, method: str, role: str) -> str:
    """What the table says; HEAD is answered as GET is, without what would be seen."""
    expected = EXPECTED.get(rule.endpoint, {}).get(role, "no row")
    return "ok" if (method, expected) == ("HEAD", "none") else expected


# -- the matrix --------------------------------------------------------------------------------------------------------


def test_every_endpoint_has_an_expectation_and_every_expectation_an_endpoint(app):
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    advice = "add a row to tests/security/expectations.py: what do callers of each kind get from it?"
    assert not (endpoints - EXPECTED.keys()), advice
    assert not (EXPECTED.keys() - endpoints), "rows of tests/security/expectations.py whose endpoint is gone"


@pytest.mark.parametrize("role", ROLES)
def test_this_caller_gets_what_is_expected_from_every_endpoint(app, client, role):
    exchanges, surprises = Exchanges(app, client, role), []
    for rule in app.url_map.iter_rules():
        for method in methods_of(rule):
            answer = exchanges.send(rule, method)
            expected, found = expectation(rule, method, role), outcome(answer)
            if found != expected:
                surprises.append(f"{method} {rule.rule}: {expected} expected, got {found}: {answer.text[:200]}")
    assert not surprises, "\n".join(["", *surprises])


def test_options_tells_methods_and_nothing_else(app, client):
    exchanges = Exchanges(app, client, "anonymous")
    for rule in app.url_map.iter_rules():
        if rule.redirect_to is None:
            answer = exchanges.send(rule, "OPTIONS")
            assert (answer.status_code, answer.data) == (200, b""), rule


def test_who_is_told_to_log_in_is_told_how(app, client):
    exchanges = Exchanges(app, client, "anonymous")
    for rule in app.url_map.iter_rules():
        for method in methods_of(rule):
            answer = exchanges.send(rule, method)
            if answer.status_code == 401 and method != "HEAD":
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), rule
                assert answer.json["status"] == 401, rule
