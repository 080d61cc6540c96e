"""Routes ask for permissions: none is open by oversight, and refusals come before anything is read or told."""

from __future__ import annotations

import uuid

import pytest
from flask import Blueprint, Flask, Response
from flask.views import MethodView

from api.app import API_PREFIX
from api.core.access.caller import Caller
from api.core.access.policy import PERMISSIONS, Policies, Policy
from api.core.access.predicates import anyone, authenticated, owner, role
from api.core.http import error_handlers
from api.core.http.authentication import AUTHENTICATORS, Identity, init_app
from api.core.http.blueprint import ResourceBlueprint
from api.core.http.permissions import POLICIES, UnguardedRouteError, check_routes, requires
from api.core.http.schema import BaseSchema, auto_field
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.tags.models import Tag
from tests.callers import ADMIN, as_caller
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, UserFactory

ORDERS = "/api/v1/orders"


class LabelSchema(BaseSchema):
    """A tag under another name."""

    class Meta(BaseSchema.Meta):
        model = Tag

    id = auto_field(dump_only=True)
    name = auto_field()


class PurchaseSchema(BaseSchema):
    """An order whose owner can be sent."""

    class Meta(BaseSchema.Meta):
        model = Order

    id = auto_field(dump_only=True)
    user_id = auto_field(required=False)
    metadata = auto_field("metadata_")
    total_amount = auto_field(required=False)


# -- deny by default


@pytest.fixture
def bare():
    """An application with nothing but the permissions; it tells the service's own requests from those of nobody."""
    app = Flask("bare", static_folder=None)
    init_app(app)
    error_handlers.init_app(app)
    return app


def a_view():
    def view(*_: object) -> str:
        return "done"

    return view


def test_a_route_without_a_permission_does_not_get_past_the_start(bare):
    bare.add_url_rule("/open", view_func=a_view())
    with pytest.raises(UnguardedRouteError, match=r"^/open asks for no permission; mark its view with @requires"):
        check_routes(bare)


def test_a_method_view_without_a_permission_does_not_either(bare):
    bare.add_url_rule("/open", view_func=type("Open", (MethodView,), {"get": lambda _self: "done"}).as_view("open"))
    with pytest.raises(UnguardedRouteError, match="/open asks for no permission"):
        check_routes(bare)


def test_a_route_of_a_plain_blueprint_and_a_folder_of_files_do_not_either(bare, tmp_path):
    blueprint = Blueprint("files", __name__, static_folder=str(tmp_path), static_url_path="/files")
    bare.register_blueprint(blueprint)
    with pytest.raises(UnguardedRouteError, match="/files/<path:filename> asks for no permission"):
        check_routes(bare)


@pytest.mark.parametrize("kind", ["function", "class"])
def test_the_name_of_a_permission_without_a_policy_guards_nothing_and_is_refused(bare, kind):
    marked = requires("settle")(a_view() if kind == "function" else type("Open", (MethodView,), {"get": a_view()}))
    bare.add_url_rule("/open", view_func=marked if kind == "function" else marked.as_view("open"))
    with pytest.raises(UnguardedRouteError, match="/open asks for 'settle', but is no route of a resource"):
        check_routes(bare)


def test_a_predicate_about_rows_cannot_guard_a_route(bare):
    del bare
    with pytest.raises(ValueError, match="the owner depends on the row"):
        requires(owner())


@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_route_with_a_predicate_is_guarded_with_each_of_its_methods(bare, kind):
    if kind == "function":
        bare.add_url_rule("/mine", view_func=requires(authenticated)(a_view()), methods=["GET", "POST"])
    else:
        methods = {"get": lambda _self: "done", "post": lambda _self: "done"}
        guarded = requires(authenticated)(type("Mine", (MethodView,), methods))
        bare.add_url_rule("/mine", view_func=guarded.as_view("mine"))
    check_routes(bare)
    client = bare.test_client()
    for method in ("GET", "HEAD", "POST"):
        assert client.open("/mine", method=method).status_code == 401
    assert client.options("/mine").data == b""
    bare.extensions[AUTHENTICATORS].append(lambda _request: Identity(Caller("user:1", 1)))
    for method in ("GET", "HEAD", "POST"):
        assert client.open("/mine", method=method).status_code == 200


def test_a_model_that_no_policy_knows_cannot_be_embedded(bare):
    policies = Policies()
    policies.add(Order, Policy({"read": anyone}).of("orders"), frozenset({Tag}))
    bare.extensions[POLICIES] = policies
    with pytest.raises(UnguardedRouteError, match="orders: no policy says who may see Tag; name it in the `parts`"):
        check_routes(bare)


def labels(policy, **options):
    return ResourceBlueprint("labels", db, Tag, LabelSchema, permissions=policy, **options)


def test_a_policy_without_a_permission_of_a_view_does_not_get_past_the_start():
    with pytest.raises(UnguardedRouteError, match="labels: the policy does not say who has the permission 'delete'"):
        labels(Policy({name: anyone for name in PERMISSIONS if name != "delete"}))


def test_a_view_of_ones_own_needs_a_permission_too():
    blueprint = labels(Policy(dict.fromkeys(PERMISSIONS, anyone)))
    with pytest.raises(UnguardedRouteError, match="labels/print asks for no permission"):
        blueprint.route("/print")(a_view())
    with pytest.raises(UnguardedRouteError, match="does not say who has the permission 'print'"):
        blueprint.route("/print")(requires("print")(a_view()))


@pytest.mark.usefixtures("database")
def test_a_view_of_ones_own_is_guarded_by_the_policy(client_of):
    blueprint = labels(Policy({**dict.fromkeys(PERMISSIONS, anyone), "print": role("manager")}))
    blueprint.route("/print", methods=["POST"])(requires("print")(lambda: Response("printed")))
    client = client_of(blueprint)
    statuses = [
        as_caller(client, caller).post("/api/v1/labels/print").status_code
        for caller in (None, Caller("user:1", 1), Caller("user:1", 1, frozenset({"manager"})))
    ]
    assert statuses == [401, 403, 200]


def test_an_owner_that_is_no_column_is_refused_at_the_start(client_of):
    with pytest.raises(ValueError, match=r"labels: Tag has no column \['user_id'\] for an owner"):
        client_of(labels(Policy({**dict.fromkeys(PERMISSIONS, anyone), "read": owner()})))


# -- refusals come first


class Unread:
    """A body that nobody may read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError

    readline = read


@pytest.mark.parametrize(("caller", "status"), [(None, 401), (Caller("user:1", 1), 403)])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "a"}])
def test_who_lacks_the_permission_is_refused_before_the_body_is_read(client, caller, status, headers):
    as_caller(client, caller)
    for path, kind in (("products", "application/json"), ("products/import", "text/csv")):
        answer = client.post(
            f"/api/v1/{path}",
            headers=headers,
            environ_overrides={
                "wsgi.input": Unread(),
                "CONTENT_LENGTH": "1000000000",
                "CONTENT_TYPE": kind,
            },
        )
        assert answer.status_code == status
        assert (answer.headers.get("WWW-Authenticate") is not None) is (status == 401)


@pytest.mark.parametrize("caller", [None, Caller("user:1", 1)])
def test_a_refusal_does_not_tell_whether_the_row_is_there(client, caller):
    as_caller(client, caller)
    there, absent = ProductFactory().id, 2**40
    answers = [client.delete(f"/api/v1/products/{key}") for key in (there, absent)]
    assert answers[0].status_code == answers[1].status_code == (401 if caller is None else 403)
    assert answers[0].json["detail"] == answers[1].json["detail"]


# -- rows


@pytest.fixture
def customers(client):
    del client
    product = ProductFactory()
    users = [UserFactory(), UserFactory()]
    orders = [OrderFactory(user=user, items=[OrderItemFactory.build(product=product)]) for user in users]
    return users, orders


def test_what_is_not_in_sight_is_not_there_whatever_is_asked_of_it(client, customers):
    (ada, _), (_, other) = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id))

    def answers(key):
        url, item = f"{ORDERS}/{key}", {"id": str(key), "metadata": {}}
        sent = [
            client.get(url),
            client.get(url, headers={"If-None-Match": f'"{key}-1"'}),
            client.get(url, headers={"If-None-Match": "*"}),
            client.get(f"{url}/history"),
            client.patch(url, json={"metadata": {}}),
            client.patch(url, json={"metadata": {}}, headers={"If-Match": f'"{key}-7"'}),
            client.patch(url, json={"status": "shipped"}),
            client.patch(url, json=[], content_type="application/json-patch+json"),
            client.put(url, json={"metadata": {}}),
            client.post(f"{url}/revert", json={"version": 99}),
            client.patch(f"{ORDERS}/bulk", json={"items": [item]}),
            client.patch(f"{ORDERS}/bulk", json={"items": [item | {"version": 9}]}),
            client.patch(f"{ORDERS}/bulk?atomic=false", json={"items": [item | {"status": "shipped"}]}),
        ]
        return [(answer.status_code, answer.text.replace(str(key), "KEY")) for answer in sent]

    absent = uuid.UUID(int=other.id.int ^ 1)
    found = answers(other.id)
    assert found == answers(absent)
    assert {status for status, _ in found} == {404, 200}


def test_a_customer_orders_for_themselves_only(client, customers):
    (ada, bob), _ = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id))
    items = [{"product_id": ProductFactory().id, "quantity": 1}]
    made = client.post(ORDERS, json={"items": items})
    assert (made.status_code, made.json["user_id"]) == (201, ada.id)
    for user_id in (bob.id, 2**40):
        for answer in (
            client.post(ORDERS, json={"items": items, "user_id": user_id}),
            client.post(f"{ORDERS}/bulk", json={"items": [{"items": items, "user_id": user_id}]}),
        ):
            assert answer.status_code == 422
            assert answer.json["errors"][0]["detail"] == "Must be your own id, or be left out."
    for field, value in (("status", "shipped"), ("total_amount", "0.01"), ("user_id", bob.id)):
        assert client.patch(made.headers["Location"], json={field: value}).status_code == 422
    upsert = client.post(f"{ORDERS}/bulk?upsert=id", json={"items": [{"items": items}]})
    assert upsert.status_code == 403


def test_a_customer_gives_themselves_no_rights(client, customers):
    (ada, _), _ = customers
    url = f"/api/v1/users/{ada.id}"
    as_caller(client, Caller(f"user:{ada.id}", ada.id))
    for body in ({"role_ids": [1]}, {"is_active": False}, {"password": "correct horse"}, {"password_hash": "x"}):
        assert client.patch(url, json=body).status_code == 422
    assert client.patch(url, json={"profile": {"country": "Peru"}}).status_code == 200


def test_names_are_not_guessed_by_taking_them(client, customers):
    (ada, _), _ = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id))
    for name in (UserFactory().username, "free-name"):
        answer = client.patch(f"/api/v1/users?id={ada.id}&dry_run=true", json={"username": name})
        assert (answer.status_code, answer.json["detail"]) == (422, "You may not set this field.")


@pytest.mark.parametrize("body", [{"password": "another horse battery"}, {"role_ids": []}, {"is_active": True}])
def test_an_admin_s_api_key_gives_nobody_a_way_in(client, customers, body):
    (ada, _), _ = customers
    everything = frozenset({"users:write", "roles:write", "roles:read"})
    as_caller(client, Caller(f"user:{ada.id}", ada.id, frozenset({"admin"}), everything))
    answer = client.patch(f"/api/v1/users/{ada.id}", json={**body, "profile": {"country": "Peru"}})
    if answer.status_code == 200:
        # What is as it was may be sent.
        assert body in ({"role_ids": []}, {"is_active": True})
        return
    assert answer.json["errors"][0]["detail"] == "You may not set this field."


def test_an_admin_s_api_key_makes_no_roles(client, customers):
    (ada, _), _ = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id, frozenset({"admin"}), frozenset({"roles:write"})))
    assert client.post("/api/v1/roles", json={"name": "shadow"}).status_code == 403


def test_an_api_key_that_may_write_orders_only_orders_for_its_user(client, customers):
    (ada, _), _ = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id, scopes=frozenset({"orders:write"})))
    made = client.post(f"{ORDERS}?include=user", json={"items": [{"product_id": ProductFactory().id, "quantity": 1}]})
    assert (made.status_code, made.json["user"]) == (201, None)


def test_a_cursor_of_somebody_else_shows_no_more(client, customers):
    (ada, _), (own, other) = customers
    start = as_caller(client, ADMIN).get(f"{ORDERS}?limit=1&sort=id").json
    later = max((own, other), key=lambda order: order.id)
    as_caller(client, Caller(f"user:{ada.id}", ada.id))
    shown = client.get(start["next"]).json["items"]
    assert [item["id"] for item in shown] == ([str(own.id)] if later is own else [])


def test_an_estimate_is_made_for_who_sees_all_rows_and_others_get_the_number(client, customers):
    (ada, _), _ = customers
    as_caller(client, Caller(f"user:{ada.id}", ada.id))
    assert client.get(f"{ORDERS}?count=estimated&limit=1").json["total"] == 1
    assert client.get(f"{ORDERS}?count=estimated&limit=1&total_amount__gt=5000").json["total"] == 0


def test_an_answer_that_was_kept_is_not_given_to_who_may_not_do_this_any_more(client):
    user = UserFactory()
    key, body = {"Idempotency-Key": "k1"}, {"name": "made once"}
    as_caller(client, Caller(f"user:{user.id}", user.id, frozenset({"manager"})))
    assert client.post("/api/v1/tags", json=body, headers=key).status_code == 201
    assert client.post("/api/v1/tags", json=body, headers=key).headers["Idempotency-Replayed"] == "true"
    as_caller(client, Caller(f"user:{user.id}", user.id))
    assert client.post("/api/v1/tags", json=body, headers=key).status_code == 403
    limited = frozenset({"tags:write"})
    as_caller(client, Caller(f"user:{user.id}", user.id, frozenset({"manager"}), limited))
    assert client.post("/api/v1/tags", json=body, headers=key).status_code == 422


# -- rows whose owner can be sent


@pytest.fixture
def purchases(client_of, database):
    """A resource over orders, which everybody may change as far as they are theirs."""
    del database
    own = owner() | role("manager")
    policy = Policy({**dict.fromkeys(PERMISSIONS, own), "import": role("manager"), "see_deleted": role("manager")})
    blueprint = ResourceBlueprint(
        "purchases", db, Order, PurchaseSchema, permissions=policy, without=["aggregate", "import_rows"]
    )
    return client_of(blueprint)


def test_nobody_gives_their_rows_away_or_takes_those_of_others(purchases):
    ada, bob = UserFactory(), UserFactory()
    order = OrderFactory(user=ada)
    client = as_caller(purchases, Caller(f"user:{ada.id}", ada.id))
    url = f"{API_PREFIX}/purchases"
    for answer in (
        client.patch(f"{url}/{order.id}", json={"user_id": bob.id}),
        client.put(f"{url}/{order.id}", json={"user_id": bob.id, "total_amount": "1.00"}),
        client.patch(
            f"{url}/{order.id}",
            json=[{"op": "replace", "path": "/user_id", "value": bob.id}],
            content_type="application/json-patch+json",
        ),
        client.patch(f"{url}/bulk", json={"items": [{"id": str(order.id), "user_id": bob.id}]}),
        client.patch(f"{url}?id={order.id}", json={"user_id": bob.id}),
        client.post(url, json={"user_id": bob.id, "total_amount": "1.00"}),
    ):
        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"].endswith("/user_id")
    assert client.put(f"{url}/{order.id}", json={"total_amount": "1.00"}).json["user_id"] == ada.id
    as_caller(client, Caller("user:9", bob.id))
    assert client.patch(f"{url}/{order.id}", json={"user_id": bob.id}).status_code == 404


def test_a_revert_does_not_bring_an_owner_back(purchases):
    ada, bob = UserFactory(), UserFactory()
    order = OrderFactory(user=bob)
    url = f"{API_PREFIX}/purchases/{order.id}"
    as_caller(purchases, Caller("user:3", 3, frozenset({"manager"})))
    assert purchases.patch(url, json={"user_id": ada.id}).status_code == 200
    as_caller(purchases, Caller(f"user:{ada.id}", ada.id))
    reverted = purchases.post(f"{url}/revert", json={"version": 1})
    assert (reverted.status_code, reverted.json["user_id"]) == (200, ada.id)


def test_a_reference_to_what_is_out_of_sight_is_one_to_what_is_not_there(purchases):
    key = Caller("user:1", 1, frozenset({"manager"}), frozenset({"purchases:write", "orders:write"}))
    user = UserFactory()
    as_caller(purchases, key)
    details = []
    for user_id in (user.id, 2**40):
        answer = purchases.post(f"{API_PREFIX}/purchases", json={"user_id": user_id, "total_amount": "1.00"})
        assert answer.status_code == 422
        details.append(answer.json["errors"][0]["detail"].replace(str(user_id), "KEY"))
    assert details == ["There is no user KEY."] * 2


def test_what_two_resources_show_of_one_model_is_what_both_show(purchases):
    user = UserFactory()
    order = OrderFactory(user=user)
    key = Caller(f"user:{user.id}", user.id, scopes=frozenset({"purchases:read"}))
    assert as_caller(purchases, key).get(f"{API_PREFIX}/purchases/{order.id}").status_code == 404


def test_which_owners_an_upsert_leaves_out_is_known_and_not_made_up(purchases):
    rules = purchases.application.blueprints["purchases"].rules
    assert rules.left_out([{"metadata": {}}, {"total_amount": "1.00"}]) == ["user_id"]
    assert rules.left_out([{"metadata": {}}, {"user_id": 1}]) == []
