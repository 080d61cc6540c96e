"""Taking what one may not have: by every way of writing, by headers, by spellings of a path, by other content types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import pytest
from sqlalchemy import select, text

from api.core.access.caller import Caller
from api.extensions import db
from api.resources.orders.models import Order
from tests.callers import as_caller
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, RoleFactory, UserFactory

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

USERS, ORDERS = "/api/v1/users", "/api/v1/orders"


class Stage:
    """A customer, another one, their orders, and the role that everybody wants."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.mine, self.other = UserFactory(), UserFactory()
        self.admin_role = RoleFactory(name="admin")
        self.product = ProductFactory(stock_quantity=100)
        items = [OrderItemFactory.build(product=self.product)]
        self.my_order = OrderFactory(user=self.mine, items=items)
        self.other_order = OrderFactory(user=self.other, items=[OrderItemFactory.build(product=self.product)])
        self.my_id, self.other_id = self.mine.id, self.other.id
        self.my_order_id, self.other_order_id = self.my_order.id, self.other_order.id
        self.become(frozenset())

    def become(self, roles: frozenset[str], scopes: frozenset[str] | None = None) -> None:
        """Send what follows as the customer, with these roles, or by a key with these scopes."""
        as_caller(self.client, Caller(f"user:{self.my_id}", self.my_id, roles, scopes))

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        """A request, which never fails on our side."""
        answer = self.client.open(path, method=method, **options)
        assert answer.status_code < 500, answer.text
        return answer


@pytest.fixture
def stage(client) -> Stage:
    return Stage(client)


def rights() -> list[Any]:
    """All that says who may do what."""
    with db.engine.connect() as connection:
        statement = text(
            "SELECT u.id, u.username, u.email, u.is_active, u.password_hash, u.deleted_at,"
            " array_agg(r.role_id ORDER BY r.role_id) FROM users u LEFT JOIN user_roles r ON r.user_id = u.id"
            " GROUP BY u.id ORDER BY u.id"
        )
        return [*connection.execute(statement), *connection.execute(text("SELECT id, name FROM roles ORDER BY id"))]


def orders() -> list[Any]:
    """What orders are worth, whose they are, and how far they have come."""
    columns = (Order.id, Order.user_id, Order.status, Order.total_amount, Order.deleted_at)
    with db.engine.connect() as connection:
        return [*connection.execute(select(*columns).order_by(Order.id))]


# -- rights ------------------------------------------------------------------------------------------------------------

WISHES: list[dict[str, Any]] = [
    {"role_ids": ["ROLE"]},
    {"roles": [{"id": "ROLE"}]},
    {"roles": ["admin"]},
    {"role": "admin"},
    {"is_admin": True},
    {"is_active": False},
    {"password": "another correct horse"},
    {"password_hash": "x"},
    {"id": 1},
    {"version": 99},
    {"deleted_at": "2020-01-01T00:00:00Z"},
    {"profile": {"user_id": "OTHER"}},
    {"profile": {"user": {"role_ids": ["ROLE"]}}},
    {"__class__": "admin"},
    {"_sa_instance_state": {}},
    {"user_roles": ["ROLE"]},
    {"metadata_": {}},
]


def ways(stage: Stage, wish: dict[str, Any], user_id: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Every way in which a user can be written."""
    filled = json.dumps(wish).replace('"ROLE"', str(stage.admin_role.id)).replace('"OTHER"', str(stage.other_id))
    body = json.loads(filled)
    patch = [
        {"op": op, "path": f"/{name}", "value": value} for name, value in body.items() for op in ("add", "replace")
    ]
    line = json.dumps({"username": "new", "email": "new@example.com", **body})
    named = {"id": user_id, **body}
    whole = {"username": "renamed", "email": "renamed@example.com", **body}
    return [
        ("PATCH", f"{USERS}/{user_id}", {"json": body}),
        ("PATCH", f"{USERS}/{user_id}", {"data": filled, "content_type": "application/merge-patch+json"}),
        *(
            ("PATCH", f"{USERS}/{user_id}", {"data": json.dumps([step]), "content_type": "application/json-patch+json"})
            for step in patch
        ),
        ("PUT", f"{USERS}/{user_id}", {"json": whole}),
        ("PATCH", f"{USERS}/bulk", {"json": {"items": [named]}}),
        ("PATCH", f"{USERS}/bulk?atomic=false", {"json": {"items": [named]}}),
        ("PATCH", f"{USERS}?id={user_id}", {"json": body}),
        ("PATCH", f"{USERS}?id__gt=0&max_affected=100", {"json": body}),
        ("POST", USERS, {"json": {**whole, "password": "another correct horse"}}),
        ("POST", f"{USERS}/bulk", {"json": {"items": [whole]}}),
        ("POST", f"{USERS}/bulk?upsert=username", {"json": {"items": [{**whole, "username": stage.mine.username}]}}),
        ("POST", f"{USERS}/import", {"data": line, "content_type": "application/x-ndjson"}),
        ("POST", f"{USERS}/import?upsert=username", {"data": line, "content_type": "application/x-ndjson"}),
        ("POST", f"{USERS}/{user_id}/restore", {}),
        ("DELETE", f"{USERS}/{user_id}", {}),
        ("DELETE", f"{USERS}?id={user_id}", {}),
        ("DELETE", f"{USERS}/bulk", {"json": {"items": [{"id": user_id}]}}),
        ("POST", "/api/v1/roles", {"json": {"name": "mine"}}),
        ("PATCH", f"/api/v1/roles/{stage.admin_role.id}", {"json": {"name": "anybody"}}),
    ]


@pytest.mark.parametrize("wish", WISHES, ids=str)
@pytest.mark.parametrize("roles", [frozenset(), frozenset({"manager"})], ids=["customer", "manager"])
def test_nobody_but_an_admin_changes_rights_by_any_way_of_writing(stage, wish, roles):
    before = rights()
    stage.become(roles)
    for user_id in (stage.my_id, stage.other_id):
        for method, path, options in ways(stage, wish, user_id):
            answer = stage.send(method, path, **options)
            assert rights() == before, (method, path, options, answer.status_code, answer.text)


def test_a_key_of_an_admin_does_what_its_scopes_name_whatever_it_sends(stage):
    before = rights()
    for scopes in (
        set(),
        {"users:read"},
        {"orders:write"},
        {"roles:read", "tags:write"},
        {"users"},
        {"*"},
        {"users:*"},
    ):
        stage.become(frozenset({"admin"}), frozenset(scopes))
        for method, path, options in ways(stage, {"role_ids": ["ROLE"]}, stage.my_id):
            assert stage.send(method, path, **options).status_code >= 400, (scopes, method, path)
    assert rights() == before


def test_a_revert_brings_no_right_back_that_has_been_taken(stage):
    as_caller(stage.client, Caller("user:1000001", 1_000_001, frozenset({"admin"})))
    path = f"{USERS}/{stage.my_id}"
    assert stage.send("PATCH", path, json={"is_active": False}).status_code == 200
    assert stage.send("PATCH", path, json={"is_active": True, "role_ids": [stage.admin_role.id]}).status_code == 200
    assert stage.send("PATCH", path, json={"role_ids": []}).status_code == 200
    before = rights()
    stage.become(frozenset())
    for version in range(6):
        stage.send("POST", f"{path}/revert", json={"version": version})
        assert rights() == before, version


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"status": "delivered"},
        {"total_amount": "0.01"},
        {"user_id": "OTHER"},
        {"user": {"id": "OTHER"}},
        {"items": [{"product_id": 1, "quantity": 1, "unit_price": "0.01"}]},
        {"deleted_at": None},
        {"version": 1},
    ],
    ids=str,
)
def test_a_customer_changes_neither_price_nor_owner_nor_state_of_any_order(stage, wish):
    before = orders()
    body = json.loads(json.dumps(wish).replace('"OTHER"', str(stage.other_id)))
    for key in (str(stage.my_order_id), str(stage.other_order_id)):
        steps = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in body.items()]
        ways_to_write: list[tuple[str, str, dict[str, Any]]] = [
            ("PATCH", f"{ORDERS}/{key}", {"json": body}),
            ("PUT", f"{ORDERS}/{key}", {"json": {"status": "pending", "metadata": {}, **body}}),
            ("PATCH", f"{ORDERS}/{key}", {"data": json.dumps(steps), "content_type": "application/json-patch+json"}),
            ("PATCH", f"{ORDERS}/bulk", {"json": {"items": [{"id": key, **body}]}}),
            ("PATCH", f"{ORDERS}?id={key}", {"json": body}),
            ("DELETE", f"{ORDERS}/{key}", {}),
            ("POST", f"{ORDERS}/{key}/restore", {}),
            ("POST", f"{ORDERS}/{key}/revert", {"json": {"version": 1}}),
        ]
        for method, path, options in ways_to_write:
            answer = stage.send(method, path, **options)
            assert orders() == before, (method, path, answer.status_code, answer.text)


def test_an_order_is_made_at_the_product_s_price_for_oneself_and_pending_whatever_is_sent(stage):
    line = {"product_id": stage.product.id, "quantity": 1}
    bodies: list[dict[str, Any]] = [
        {"user_id": stage.other_id},
        {"status": "delivered"},
        {"total_amount": "0.00"},
        {"items": [{**line, "unit_price": "0.00"}]},
        {"items": [{**line, "quantity": -5}]},
        {"items": [{**line, "quantity": 0}]},
        {"items": [{**line, "id": 1}]},
        {"items": [{**line, "order_id": str(stage.other_order_id)}]},
        {"id": str(stage.other_order_id)},
    ]
    before = orders()
    for body in bodies:
        for path, sent in ((ORDERS, body), (f"{ORDERS}/bulk", {"items": [{"items": [line], **body}]})):
            answer = stage.send("POST", path, json={"items": [line], **body} if path == ORDERS else sent)
            assert answer.status_code == 422, (path, body, answer.text)
    assert orders() == before


# -- headers, paths, types -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method", "X-Original-Method"]
)
def test_no_header_turns_a_read_into_a_write(stage, header):
    before = rights(), orders()
    stage.become(frozenset({"admin"}))
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        stage.send(method, f"{USERS}/{stage.other_id}", headers={header: "DELETE"})
        stage.send(method, f"{USERS}/{stage.other_id}?_method=DELETE", headers={header: "DELETE"})
    assert (rights(), orders()) == before


@pytest.mark.parametrize(
    "header",
    [
        {"X-Original-URL": USERS},
        {"X-Rewrite-URL": USERS},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Prefix": "/api/v1/users"},
        {"X-Forwarded-User": "admin"},
        {"X-Remote-User": "admin"},
        {"X-User-Id": "1"},
        {"X-Roles": "admin"},
        {"tests.caller": "admin"},
        {"X-Actor": "user:1"},
        {"Cookie": "session=admin; access_token=admin"},
    ],
    ids=str,
)
def test_no_header_makes_somebody_of_nobody(stage, header):
    as_caller(stage.client, None)
    for path in (USERS, ORDERS, f"{USERS}/{stage.my_id}", "/api/v1/auth/me", "/api/v1/roles"):
        assert stage.send("GET", path, headers=header).status_code == 401, path


SPELLINGS = (
    "/api/v1/%6Frders",
    "//api/v1/orders",
    "/api//v1/orders",
    "/api/v1/orders/",
    "/api/v1/orders//",
    "/api/v1/Orders",
    "/API/v1/orders",
    "/api/v1/products/../orders",
    "/api/v1/products/..%2forders",
    "/api/v1/products/%2e%2e/orders",
    "/api/v1/./orders",
    "/api/v1/orders;a=b",
    "/api/v1/orders;/",
    "/api/v1/orders%00",
    "/api/v1/orders%20",
    "/api/v1/orders%3f",
    "/api/v1/orders.json",
    "/api/v1/orders%23",
    "/api/v1\\orders",
    "/api/v1/%c0%afr/orders",
    "/api/v1/orders/export%2f",
    "/api/v1/orders/KEY/",
    "/api/v1/orders/KEY%2fhistory",
    "/api/v1/orders/{KEY}",
    "/api/v1/orders/urn:uuid:KEY",
    "/api/v1/orders/kEy",
)


METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "CONNECT")


@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_of_a_path_leads_around_the_permission(stage, path):
    key = str(stage.other_order_id)
    target = path.replace("KEY", key).replace("kEy", key.upper())
    before = orders()
    for caller in (None, Caller(f"user:{stage.my_id}", stage.my_id, frozenset())):
        as_caller(stage.client, caller)
        for method in METHODS:
            # As a server hands it over: the client would mend some of these.
            environ = {"REQUEST_METHOD": method, "PATH_INFO": _decoded(target), "RAW_URI": target}
            answer = stage.send("GET", "/", environ_overrides=environ)
            if caller is None:
                assert answer.status_code in {301, 308, 400, 401, 404, 405}, (method, answer.status_code, answer.text)
            told = answer.get_json(silent=True) or {}
            assert all(item["user_id"] == stage.my_id for item in told.get("items", ())), (method, answer.text)
            assert told.get("id") != key, (method, answer.text)
    assert orders() == before


def _decoded(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1")


def test_a_parameter_that_is_given_twice_widens_nothing(stage):
    for query in (
        f"user_id={stage.my_id}&user_id={stage.other_id}",
        f"or=(user_id={stage.other_id},user_id={stage.my_id})",
        f"not=(user_id={stage.my_id})",
        "deleted=include",
        f"user.username={stage.other.username}",
        "user_id__gte=0",
    ):
        answer = stage.send("GET", f"{ORDERS}?{query}")
        if answer.status_code == 200:
            owners = {item["user_id"] for item in answer.json["items"]}
            assert owners <= {stage.my_id}, query
        counted = stage.send("GET", f"{ORDERS}/aggregate?{query}&group_by=user_id")
        if counted.status_code == 200:
            assert {group["user_id"] for group in counted.json["groups"]} <= {stage.my_id}, query


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/x-www-form-urlencoded", "utf-8"),
        ("text/plain", "utf-8"),
        ("multipart/form-data; boundary=x", "utf-8"),
        ("application/xml", "utf-8"),
        ("application/json; charset=utf-16", "utf-16"),
        ("application/json; charset=utf-32", "utf-32"),
        ("application/json", "utf-16"),
        ("application/jsonx", "utf-8"),
        ("text/json", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_another_type_or_charset_writes_nothing(stage, content_type, encoding):
    before = rights()
    stage.become(frozenset({"admin"}))
    body = json.dumps({"role_ids": [stage.admin_role.id], "username": "renamed-\u00e9"}, ensure_ascii=False)
    path = f"{USERS}/{stage.other_id}"
    answer = stage.send("PATCH", path, data=body.encode(encoding), content_type=content_type)
    assert answer.status_code in {400, 415, 422}, answer.text
    assert rights() == before


def test_json_is_utf_8_whatever_charset_is_declared(stage):
    stage.become(frozenset({"admin"}))
    body = b'{"username": "+AGEAZABtAGkAbg-"}'
    for charset in ("utf-7", "utf-16", "latin-1", "no such charset"):
        kind = f"application/json; charset={charset}"
        answer = stage.send("PATCH", f"{USERS}/{stage.other_id}", data=body, content_type=kind)
        assert (answer.status_code, answer.json["username"]) == (200, "+AGEAZABtAGkAbg-"), charset


def test_a_version_that_is_guessed_opens_nothing_that_is_not_one_s_own(stage):
    before = orders()
    path = f"{ORDERS}/{stage.other_order_id}"
    for header in ("*", '"1"', f'"{stage.other_order_id}-1"', 'W/"1"', "1", '"x", *', ""):
        for name in ("If-Match", "If-None-Match"):
            for method, options in (("GET", {}), ("PATCH", {"json": {"metadata": {}}}), ("DELETE", {})):
                answer = stage.send(method, path, headers={name: header}, **options)
                assert answer.status_code in {400, 403, 404}, (method, name, header, answer.status_code)
                assert "ETag" not in answer.headers
    assert orders() == before


def test_an_idempotency_key_of_somebody_else_gives_no_answer_of_theirs(stage):
    body = {"items": [{"product_id": stage.product.id, "quantity": 1}]}
    key = {"Idempotency-Key": "0123456789abcdef"}
    first = stage.send("POST", ORDERS, json=body, headers=key)
    assert first.status_code == 201
    as_caller(stage.client, Caller(f"user:{stage.other_id}", stage.other_id, frozenset()))
    second = stage.send("POST", ORDERS, json=body, headers=key)
    assert (second.status_code, second.json["user_id"]) == (201, stage.other_id)
    as_caller(stage.client, None)
    assert stage.send("POST", ORDERS, json=body, headers=key).status_code == 401


def test_a_replay_needs_the_permission_that_the_first_needed(stage):
    key = {"Idempotency-Key": "fedcba9876543210"}
    stage.become(frozenset({"manager"}))
    first = stage.send("POST", "/api/v1/tags", json={"name": "mine"}, headers=key)
    assert first.status_code == 201
    stage.become(frozenset())
    assert stage.send("POST", "/api/v1/tags", json={"name": "mine"}, headers=key).status_code == 403
