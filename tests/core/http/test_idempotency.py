"""`Idempotency-Key`: a POST that is sent again is done once, and answered as it was the first time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from flask import Response, jsonify, request
from flask.views import MethodView
from sqlalchemy import func, select, text

from api.app import API_PREFIX
from api.core.access.caller import Caller
from api.core.access.predicates import anyone
from api.core.errors import ConflictError
from api.core.http.blueprint import ResourceBlueprint
from api.core.http.conditional import etag
from api.core.http.permissions import requires
from api.core.resource.service import Service
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.tags.schemas import TagSchema
from tests.apps import create_app
from tests.callers import ADMIN, OPEN, as_caller
from tests.core.http.cases import CASES
from tests.factories import ProductFactory, TagFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")

TAGS = "/api/v1/tags"
ORDERS = "/api/v1/orders"


def with_key(key, **headers):
    return {"Idempotency-Key": key, **headers}


def scalar(statement):
    with db.engine.connect() as connection:
        return connection.scalar(statement)


def number_of(model):
    return scalar(select(func.count()).select_from(model.__table__))


def stored_keys():
    return scalar(text("SELECT count(*) FROM idempotency_keys"))


def is_replay(response):
    return response.headers.get("Idempotency-Replayed") == "true"


# -- the same again


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_resource_is_created_once_and_answers_the_same_again(client, case):
    body = case.new()
    first = client.post(case.path, json=body, headers=with_key("k-1"))
    assert first.status_code == 201
    before = number_of(case.factory._meta.model)
    again = client.post(case.path, json=body, headers=with_key("k-1"))
    assert (again.status_code, again.data) == (201, first.data)
    for header in ("Location", "ETag", "Content-Type", "Content-Length"):
        assert again.headers.get(header) == first.headers.get(header)
    assert is_replay(again)
    assert not is_replay(first)
    assert number_of(case.factory._meta.model) == before


def test_without_the_header_nothing_is_stored_and_everything_is_done_again(client):
    product, user = ProductFactory(stock_quantity=10), UserFactory()
    body = {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 1}]}
    assert [client.post(ORDERS, json=body).status_code for _ in range(2)] == [201, 201]
    assert (number_of(Order), stored_keys()) == (2, 0)


def test_an_order_that_is_sent_again_takes_the_stock_once(client):
    product, user = ProductFactory(stock_quantity=10), UserFactory()
    body = {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 4}]}
    answers = [client.post(ORDERS, json=body, headers=with_key("order")) for _ in range(4)]
    assert {answer.json["id"] for answer in answers} == {answers[0].json["id"]}
    assert scalar(select(Product.__table__.c.stock_quantity)) == 6


def test_a_restore_that_is_sent_again_is_answered_as_before_whatever_has_happened_since(client):
    tag = TagFactory()
    client.delete(f"{TAGS}/{tag.id}")
    restored = client.post(f"{TAGS}/{tag.id}/restore", headers=with_key("k"))
    assert client.patch(f"{TAGS}/{tag.id}", json={"name": "later"}).status_code == 200
    again = client.post(f"{TAGS}/{tag.id}/restore", headers=with_key("k"))
    assert is_replay(again)
    assert (again.data, again.headers["ETag"]) == (restored.data, restored.headers["ETag"])


@pytest.mark.parametrize("atomic", ["true", "false"])
def test_rows_that_are_created_in_bulk_are_created_once(client, atomic):
    body = {"items": [{"name": "a"}, {"name": "b"}]}
    answers = [client.post(f"{TAGS}/bulk?atomic={atomic}", json=body, headers=with_key("k")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].data == answers[0].data
    assert [is_replay(answer) for answer in answers] == [False, True]
    assert number_of(Tag) == 2


def test_a_replay_has_a_request_id_of_its_own(client):
    ids = [
        client.post(TAGS, json={"name": "a"}, headers=with_key("k")).headers.getlist("X-Request-ID") for _ in range(2)
    ]
    assert [len(found) for found in ids] == [1, 1]
    assert ids[0] != ids[1]


def test_a_replay_costs_two_statements(client, statements):
    client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
    with statements() as counted:
        assert is_replay(client.post(TAGS, json={"name": "a"}, headers=with_key("k")))
    assert counted.count == 2


# -- the same key for something else


@pytest.mark.parametrize(
    "change",
    [
        {"json": {"name": "other"}},
        {"data": b'{"name":  "a"}', "content_type": "application/json"},
        {"json": {"name": "a"}, "query_string": "fields=id"},
    ],
)
def test_another_content_with_the_same_key_is_refused_by_name_and_not_done(client, change):
    client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
    refused = client.post(TAGS, headers=with_key("k"), **change)
    assert refused.status_code == 422
    assert refused.json["errors"][0]["header"] == "Idempotency-Key"
    assert "new key" in refused.json["detail"]
    assert number_of(Tag) == 1


def test_another_precondition_with_the_same_key_is_another_content(client):
    tag = TagFactory()
    client.delete(f"{TAGS}/{tag.id}")
    url = f"{TAGS}/{tag.id}/restore"
    assert client.post(url, headers=with_key("k", **{"If-Match": etag(tag.id, 2)})).status_code == 200
    assert client.post(url, headers=with_key("k", **{"If-Match": etag(tag.id, 3)})).status_code == 422


def test_the_same_key_for_another_path_is_another_key(client):
    assert client.post(TAGS, json={"name": "a"}, headers=with_key("k")).status_code == 201
    other = client.post("/api/v1/roles", json={"name": "a"}, headers=with_key("k"))
    assert other.status_code == 201
    assert not is_replay(other)


def test_the_same_key_of_another_caller_is_another_key(client):
    assert client.post(TAGS, json={"name": "a"}, headers=with_key("k")).status_code == 201
    somebody = as_caller(client, Caller("somebody else", user_id=17, roles=ADMIN.roles))
    other = somebody.post(TAGS, json={"name": "b"}, headers=with_key("k"))
    assert (other.status_code, other.json["name"]) == (201, "b")


# -- what is no key


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é", "tab\there", "\x7f"])
def test_what_is_no_key_is_refused_by_name_and_nothing_is_done(client, key):
    refused = client.post(TAGS, json={"name": "a"}, headers=with_key(key))
    assert refused.status_code == 400
    assert refused.json["errors"][0]["header"] == "Idempotency-Key"
    assert "visible ASCII" in refused.json["detail"]
    assert number_of(Tag) == 0


@pytest.mark.parametrize("key", ["0", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~"])
def test_every_visible_ascii_character_may_be_in_a_key(client, key):
    assert client.post(TAGS, json={"name": "a"}, headers=with_key(key)).status_code == 201
    assert is_replay(client.post(TAGS, json={"name": "a"}, headers=with_key(key)))


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_methods_that_are_idempotent_by_themselves_ignore_the_header(client, method):
    url = f"{TAGS}/{TagFactory().id}"
    options = {"json": {"name": "new"}} if method in {"put", "patch"} else {}
    assert getattr(client, method)(url, headers=with_key("a b"), **options).status_code < 300
    assert stored_keys() == 0


# -- errors


@pytest.mark.parametrize(
    ("body", "status"), [({"name": ""}, 422), ({"nome": "a"}, 422), (b"{", 400), ({"name": "taken"}, 409)]
)
def test_an_error_is_answered_as_without_a_key_and_the_key_is_as_good_as_new(client, body, status):
    TagFactory(name="taken")
    options = {"data": body, "content_type": "application/json"} if isinstance(body, bytes) else {"json": body}
    without = client.post(TAGS, **options)
    refused = client.post(TAGS, headers=with_key("k"), **options)
    assert (refused.status_code, refused.data) == (without.status_code, without.data) == (status, without.data)
    assert stored_keys() == 0
    mended = client.post(TAGS, json={"name": "right"}, headers=with_key("k"))
    assert mended.status_code == 201
    assert not is_replay(mended)


def test_a_crash_stores_nothing_and_undoes_what_was_done(client, monkeypatch):
    create = Service.create

    def crash(self, data):
        create(self, data)
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Service, "create", crash)
        assert client.post(TAGS, json={"name": "a"}, headers=with_key("k")).status_code == 500
    assert (number_of(Tag), stored_keys()) == (0, 0)
    assert client.post(TAGS, json={"name": "a"}, headers=with_key("k")).status_code == 201


# -- at the same time


def test_while_the_first_is_in_flight_a_second_is_told_to_try_again_and_a_third_is_served(client, monkeypatch):
    create, working, go_on = Service.create, Event(), Event()

    def slowly(self, data):
        working.set()
        go_on.wait(10)
        return create(self, data)

    with ThreadPoolExecutor(1) as threads:
        with monkeypatch.context() as slow:
            slow.setattr(Service, "create", slowly)
            first = threads.submit(client.post, TAGS, json={"name": "a"}, headers=with_key("k"))
            assert working.wait(10)
        second = client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
        assert second.status_code == 409
        assert second.json["errors"][0]["header"] == "Idempotency-Key"
        assert second.headers["Retry-After"] == "1"
        assert client.post(TAGS, json={"name": "b"}, headers=with_key("another")).status_code == 201
        go_on.set()
        assert first.result().status_code == 201
    third = client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
    assert is_replay(third)
    assert third.data == first.result().data


def test_of_many_with_one_key_at_once_one_is_done(app):
    product, user = ProductFactory(stock_quantity=100), UserFactory()
    body = {"user_id": user.id, "items": [{"product_id": product.id, "quantity": 1}]}

    def send(_):
        return app.test_client().post(ORDERS, json=body, headers=with_key("k"))

    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(send, range(40))]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.data for answer in answers if answer.status_code == 201}) == 1
    assert sum(answer.status_code == 201 and not is_replay(answer) for answer in answers) == 1
    assert (number_of(Order), scalar(select(Product.__table__.c.stock_quantity))) == (1, 99)


# -- expiry


def test_a_key_that_has_expired_is_free_for_another_request(client):
    client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
    with db.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"))
    fresh = client.post(TAGS, json={"name": "b"}, headers=with_key("k"))
    assert (fresh.status_code, fresh.json["name"]) == (201, "b")
    assert is_replay(client.post(TAGS, json={"name": "b"}, headers=with_key("k")))


def test_how_long_a_key_is_kept_is_a_setting(settings):
    client = create_app(replace(settings, idempotency_ttl=90)).test_client()
    client.post(TAGS, json={"name": "a"}, headers=with_key("k"))
    kept = scalar(text("SELECT extract(epoch FROM expires_at - created_at)::int FROM idempotency_keys"))
    assert kept == 90


def test_a_purge_removes_keys_that_have_expired_for_long_and_no_others(client):
    for name in ("long", "lately", "live"):
        client.post(TAGS, json={"name": name}, headers=with_key(name))
    expire = "UPDATE idempotency_keys SET expires_at = now() - CAST(:ago AS interval) WHERE key = :key"
    with db.transaction() as session:
        session.execute(text(expire), {"key": "long", "ago": "2 days"})
        session.execute(text(expire), {"key": "lately", "ago": "1 hour"})
    purge = ["purge", "--older-than", "1d", "--model", "idempotency_keys"]
    done = client.application.test_cli_runner().invoke(args=purge)
    assert done.exit_code == 0, done.output
    with db.engine.connect() as connection:
        assert set(connection.scalars(text("SELECT key FROM idempotency_keys"))) == {"lately", "live"}


# -- views of one's own


class LabelSchema(TagSchema):
    """A tag under another name."""


@pytest.fixture
def client_with(settings):
    """`client_with(add)`: a client of an application with a resource to which `add` has added views."""

    def make(add):
        blueprint = ResourceBlueprint("labels", db, Tag, LabelSchema, permissions=OPEN)
        add(blueprint)
        app = create_app(settings)
        api = app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
        api.register_blueprint(blueprint, url_prefix=f"{API_PREFIX}/labels")
        return app.test_client()

    yield make
    db.shutdown()


def test_a_view_of_one_s_own_is_idempotent_without_doing_anything_for_it(client_with):
    calls = []

    def add(blueprint):
        @blueprint.route("/count", methods=["POST"])
        @requires(anyone)
        def count():
            calls.append(1)
            return jsonify(count=len(calls)), 202, {"X-Count": "1"}

    client = client_with(add)
    answers = [client.post(f"{API_PREFIX}/labels/count", headers=with_key("k")) for _ in range(3)]
    assert [(answer.status_code, answer.json, answer.headers["X-Count"]) for answer in answers] == [
        (202, {"count": 1}, "1")
    ] * 3
    post = client.get("/openapi.json").json["paths"][f"{API_PREFIX}/labels/count"]["post"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in post["parameters"]}
    assert {"400", "409", "422", "503"} <= set(post["responses"])


def test_a_method_view_is_idempotent_too(client_with):
    calls = []

    def add(blueprint):
        @blueprint.route("/count")
        @requires(anyone)
        class Count(MethodView):
            def get(self):
                return jsonify(len(calls))

            def post(self):
                calls.append(1)
                return jsonify(len(calls))

    client = client_with(add)
    url = f"{API_PREFIX}/labels/count"
    assert [client.post(url, headers=with_key("k")).json for _ in range(2)] == [1, 1]
    assert client.get(url).json == 1
    operations = client.get("/openapi.json").json["paths"][url]
    assert "Idempotency-Key" in {parameter["name"] for parameter in operations["post"]["parameters"]}
    assert "parameters" not in operations["get"]


def test_an_error_that_a_view_returns_instead_of_raising_undoes_its_work_and_frees_the_key(client_with):
    def add(blueprint):
        @blueprint.route("/refuse", methods=["POST"])
        @requires(anyone)
        def refuse():
            with db.transaction() as session:
                session.add(Tag(name="lost"))
            return jsonify("no"), 409

    url = f"{API_PREFIX}/labels/refuse"
    refused = client_with(add).post(url, headers=with_key("k"))
    assert (refused.status_code, refused.json) == (409, "no")
    assert (number_of(Tag), stored_keys()) == (0, 0)


def test_what_waits_for_the_commit_happens_once_and_only_when_the_answer_is_stored(client_with):
    calls = []

    def add(blueprint):
        @blueprint.route("/mail", methods=["POST"])
        @requires(anyone)
        def mail():
            with db.transaction():
                db.on_commit(lambda: calls.append(stored_keys()))
            if "fail" in request.args:
                raise ConflictError
            return Response(status=204)

    client = client_with(add)
    url = f"{API_PREFIX}/labels/mail"
    assert client.post(f"{url}?fail=1", headers=with_key("k")).status_code == 409
    assert calls == []
    assert [client.post(url, headers=with_key("k")).status_code for _ in range(2)] == [204, 204]
    assert calls == [1]


def test_an_answer_without_a_body_or_a_stream_is_answered_the_same_again(client_with):
    def add(blueprint):
        @blueprint.route("/stream", methods=["POST"])
        @requires(anyone)
        def stream():
            return Response((f"{number}\n" for number in range(3)), mimetype="text/plain")

    client = client_with(add)
    answers = [client.post(f"{API_PREFIX}/labels/stream", headers=with_key("k")) for _ in range(2)]
    assert [answer.text for answer in answers] == ["0\n1\n2\n"] * 2
    assert [answer.mimetype for answer in answers] == ["text/plain"] * 2


# -- the document


def test_every_post_documents_the_header_its_errors_and_the_replay(client):
    paths = client.get("/openapi.json").json["paths"]
    # What is below /auth answers with secrets, which are not stored.
    kept = [path for path in paths if path.startswith(API_PREFIX) and not path.startswith(f"{API_PREFIX}/auth/")]
    posts = [paths[path]["post"] for path in kept if "post" in paths[path]]
    assert len(posts) >= 2 * len(CASES)
    for post in posts:
        (parameter,) = (item for item in post["parameters"] if item["name"] == "Idempotency-Key")
        assert parameter["in"] == "header"
        assert not parameter.get("required")
        assert {"400", "409", "422", "503"} <= set(post["responses"])
        for status, response in post["responses"].items():
            assert ("Idempotency-Replayed" in response.get("headers", {})) == (status < "400")
