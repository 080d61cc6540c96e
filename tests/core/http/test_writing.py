"""A request that loses against another one's transaction is answered as if it had come a moment later."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from threading import Barrier

import pytest
from flask import jsonify, request
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select, text, update

from api.app import API_PREFIX
from api.core.access.predicates import anyone
from api.core.database import retry
from api.core.errors import TransactionConflictError
from api.core.http.blueprint import ResourceBlueprint
from api.core.http.conditional import etag
from api.core.http.permissions import requires
from api.core.http.writing import isolated, takes_file
from api.core.resource.service import Service
from api.extensions import db
from api.resources.tags.models import Tag
from api.resources.tags.schemas import TagSchema
from tests.apps import create_app
from tests.callers import OPEN
from tests.factories import TagFactory

pytestmark = pytest.mark.usefixtures("database")

TAGS = "/api/v1/tags"
KEY = {"Idempotency-Key": "k"}


class LabelSchema(TagSchema):
    """A tag under another name."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)


@pytest.fixture
def losing(monkeypatch):
    """`losing("create", 2)`: the service's method loses its first two transactions, after it has done its work."""

    def install(name, times):
        original, calls = getattr(Service, name), []

        def lose(self, *args):
            result = original(self, *args)
            calls.append(1)
            if len(calls) <= times:
                raise TransactionConflictError
            return result

        monkeypatch.setattr(Service, name, lose)
        return calls

    return install


@pytest.fixture
def app_with(settings):
    """`app_with(add)`: an application with a resource to which `add` has added views."""

    def make(add, **changes):
        blueprint = ResourceBlueprint("labels", db, Tag, LabelSchema, permissions=OPEN)
        add(blueprint)
        app = create_app(replace(settings, **changes))
        api = app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
        api.register_blueprint(blueprint, url_prefix=f"{API_PREFIX}/labels")
        return app

    yield make
    db.shutdown()


def number_of_tags():
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Tag.__table__))


@pytest.mark.parametrize("headers", [{}, KEY])
def test_a_creation_that_loses_is_done_again_and_answered_once(client, losing, headers):
    calls = losing("create", 2)
    response = client.post(TAGS, json={"name": "a"}, headers=headers)
    assert (response.status_code, len(calls), number_of_tags()) == (201, 3, 1)


@pytest.mark.parametrize(
    ("method", "name", "body"),
    [("patch", "update", {"name": "b"}), ("put", "update", {"name": "b"}), ("delete", "delete", None)],
)
def test_a_change_that_loses_is_done_again(client, losing, method, name, body):
    tag = TagFactory()
    calls = losing(name, 1)
    headers = {"If-Match": etag(tag.id, 1)}
    assert getattr(client, method)(f"{TAGS}/{tag.id}", json=body, headers=headers).status_code in {200, 204}
    assert len(calls) == 2


def test_a_restore_that_loses_is_done_again(client, losing):
    url = f"{TAGS}/{TagFactory().id}"
    client.delete(url)
    calls = losing("restore", 1)
    assert client.post(f"{url}/restore").status_code == 200
    assert len(calls) == 2


def test_a_body_in_chunks_is_there_for_every_attempt(client, losing):
    losing("create", 1)
    response = client.post(
        TAGS,
        input_stream=BytesIO(b'{"name": "chunked"}'),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, response.json["name"]) == (201, "chunked")


@pytest.mark.parametrize("headers", [{}, KEY])
def test_what_goes_on_losing_is_a_503_that_says_when_to_try_again_and_nothing_is_left(client, losing, headers):
    calls = losing("create", 99)
    response = client.post(TAGS, json={"name": "a"}, headers=headers)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "Others are changing the same data" in response.json["detail"]
    assert (len(calls), number_of_tags()) == (retry.ATTEMPTS, 0)


def test_how_often_it_is_tried_is_a_setting(settings, losing):
    app = create_app(replace(settings, transaction_attempts=2))
    calls = losing("create", 99)
    assert app.test_client().post(TAGS, json={"name": "a"}).status_code == 503
    assert len(calls) == 2


def test_retries_are_counted_in_the_metrics(client, losing):
    def retries():
        families = text_string_to_metric_families(client.get("/metrics").text)
        (family,) = (item for item in families if item.name == "db_transaction_retries")
        return family.samples[0].value

    before = retries()
    losing("create", 2)
    client.post(TAGS, json={"name": "a"})
    assert retries() == before + 2


def test_requests_that_deadlock_are_all_answered_well(app_with):
    keys = [TagFactory().id, TagFactory().id]
    meet, attempts = Barrier(2), []

    def add(blueprint):
        @blueprint.route("/rename", methods=["POST"])
        @requires(anyone)
        def rename():
            attempts.append(1)
            with db.transaction() as session:
                session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
                for number, key in enumerate(request.json["keys"]):
                    session.execute(update(Tag).where(Tag.id == key).values(name=f"tag {key}"))
                    if number == 0 and len(attempts) <= 2:
                        meet.wait(5)
            return jsonify("done")

    app = app_with(add)

    def send(order):
        return app.test_client().post(f"{API_PREFIX}/labels/rename", json={"keys": order}).status_code

    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(send, [keys, keys[::-1]])] == [200, 200]
    assert len(attempts) == 3


def count_and_add(blueprint):
    """At most five tags, which only a serializable transaction can promise without a lock."""

    @blueprint.route("/five", methods=["POST"])
    @requires(anyone)
    @isolated("SERIALIZABLE")
    def five():
        with db.transaction() as session:
            count = session.scalar(select(func.count()).select_from(Tag))
            if count < 5:
                session.add(Tag(name=f"tag {count}"))
        return jsonify(count < 5)


@pytest.mark.parametrize("with_key", [False, True])
def test_a_view_that_asks_for_serializable_gets_it_and_conflicts_are_settled(app_with, with_key):
    app = app_with(count_and_add, transaction_attempts=20, pool_timeout=30)

    def send(number):
        headers = {"Idempotency-Key": f"k-{number}"} if with_key else {}
        while True:
            response = app.test_client().post(f"{API_PREFIX}/labels/five", headers=headers)
            if response.status_code != 503:
                return response.json

    with ThreadPoolExecutor(8) as threads:
        added = [*threads.map(send, range(12))]
    assert (added.count(True), number_of_tags()) == (5, 5)


def test_a_view_that_takes_the_body_from_the_stream_is_not_run_again(app_with):
    calls = []

    def add(blueprint):
        @blueprint.route("/upload", methods=["POST"])
        @requires(anyone)
        def load():
            calls.append(request.stream.read())
            raise TransactionConflictError

    response = app_with(add).test_client().post(f"{API_PREFIX}/labels/upload", data=gzip.compress(b"a,b"))
    assert response.status_code == 503
    assert len(calls) == 1


def test_a_read_is_not_tried_again(app_with):
    calls = []

    def add(blueprint):
        @blueprint.route("/read")
        @requires(anyone)
        def read():
            calls.append(1)
            raise TransactionConflictError

    assert app_with(add).test_client().get(f"{API_PREFIX}/labels/read").status_code == 503
    assert len(calls) == 1


# -- files


FILE = f"{API_PREFIX}/labels/upload"
LARGEST = 5_000_000


@pytest.fixture
def imports(app_with):
    """A client of an application that imports lines as tags; `imports.calls` holds the lengths of what was read."""

    def add(blueprint):
        @blueprint.route("/upload", methods=["POST"])
        @requires(anyone)
        @takes_file(lambda: LARGEST)
        def load():
            request.max_content_length = LARGEST
            length = 0
            while block := request.stream.read(100_000):
                length += len(block)
            client.calls.append(length)
            with db.transaction() as session:
                session.add(Tag(name=f"{length} bytes"))
                session.flush()
                if len(client.calls) <= client.losses:
                    raise TransactionConflictError
            return jsonify(length)

    client = app_with(add).test_client()
    client.calls, client.losses = [], 0
    return client


CONTENT = b"0123456789" * 300_000


def test_a_file_that_is_larger_than_a_body_may_be_is_imported_once_for_each_key(imports):
    answers = [imports.post(FILE, data=CONTENT, headers=KEY) for _ in range(2)]
    assert [answer.json for answer in answers] == [len(CONTENT)] * 2
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert (imports.calls, number_of_tags()) == ([len(CONTENT)], 1)
    assert imports.post(FILE, data=CONTENT[:-1], headers=KEY).status_code == 422


def test_a_file_with_a_key_is_there_for_every_attempt(imports):
    imports.losses = 2
    assert imports.post(FILE, data=CONTENT, headers=KEY).status_code == 200
    assert (imports.calls, number_of_tags()) == ([len(CONTENT)] * 3, 1)


def test_a_file_in_chunks_may_have_a_key(imports):
    response = imports.post(
        FILE,
        input_stream=BytesIO(CONTENT),
        headers={"Transfer-Encoding": "chunked", **KEY},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, response.json) == (200, len(CONTENT))


def test_a_file_without_a_key_is_read_as_it_comes_and_not_tried_again(imports):
    imports.losses = 1
    assert imports.post(FILE, data=CONTENT).status_code == 503
    assert imports.post(FILE, data=CONTENT).json == len(CONTENT)


@pytest.mark.parametrize("options", [{}, {"headers": {"Transfer-Encoding": "chunked", **KEY}}])
def test_a_file_that_is_too_large_is_a_413_with_its_limit(imports, options):
    content = b"x" * (LARGEST + 1)
    if options:
        options = {
            "input_stream": BytesIO(content),
            "environ_overrides": {"wsgi.input_terminated": True},
            **options,
        }
    else:
        options = {"data": content, "headers": KEY}
    response = imports.post(FILE, **options)
    assert response.status_code == 413
    assert str(LARGEST) in response.json["detail"]
    assert imports.calls == []


def test_a_file_that_breaks_off_is_a_400_and_leaves_the_key_free(imports):
    length = {"CONTENT_LENGTH": str(len(CONTENT))}
    broken = {"input_stream": BytesIO(CONTENT[:100]), "environ_overrides": length}
    assert imports.post(FILE, headers=KEY, **broken).status_code == 400
    assert imports.post(FILE, data=CONTENT, headers=KEY).status_code == 200
