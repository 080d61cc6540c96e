"""The contract that every resource keeps: each status code of each endpoint, every error as a problem (RFC 9457)."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from api.core.http.conditional import etag
from api.extensions import db
from tests.apps import create_app
from tests.core.http.cases import CASES, PREFIX
from tests.factories import ProductFactory

pytestmark = pytest.mark.usefixtures("database")

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
WITH_BODY = ("POST", "PUT", "PATCH")


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


def is_problem(response, status):
    """Check that a response is a complete problem with this status, and return it."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    problem = response.json
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["instance"] == response.request.path
    assert set(problem) <= {"type", "title", "status", "detail", "instance", "errors"}
    told = response.text.lower()
    for word in ("traceback", "psycopg", "sqlalchemy", "select ", "insert ", "constraint", "uq_", "ck_"):
        assert word not in told
    return problem


def pointers(problem):
    return {error.get("pointer") for error in problem.get("errors", ())}


def send(client, method, case, row, **arguments):
    """A request that `method` stands for: on the collection when it creates, else on the row."""
    url = case.path if method == "POST" else case.url(row)
    return client.open(url, method=method, **arguments)


def body_for(case, method):
    return {"POST": case.new, "PUT": case.replacement, "PATCH": lambda: case.change}[method]()


def test_every_resource_is_covered(app):
    rules = [rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(f"{PREFIX}/")]
    # Logging in is no resource; tests/resources has tests of its own for it.
    assert {rule.split("/")[3] for rule in rules} - {"auth"} == {case.name for case in CASES}


# -- 200, 201, 204, 304


def test_a_list_holds_the_rows(client, case):
    row = case.row()
    response = client.get(case.path)
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert [item["id"] for item in response.json["items"]] == [row.id if isinstance(row.id, int) else str(row.id)]
    assert set(response.json) == {"items", "next", "prev"}


def test_an_empty_list_is_a_list(client, case):
    assert client.get(case.path).json == {"items": [], "next": None, "prev": None}


def test_a_row_can_be_fetched(client, case):
    row = case.row()
    response = client.get(case.url(row))
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.json["id"] == (row.id if isinstance(row.id, int) else str(row.id))
    assert response.headers["ETag"] == etag(row.id, 1)


def test_a_created_row_is_shown_with_its_address_and_version(client, case):
    response = client.post(case.path, json=case.new())
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"{case.path}/{response.json['id']}"
    assert response.headers["ETag"] == etag(response.json["id"], 1)
    fetched = client.get(response.headers["Location"])
    assert fetched.json == response.json
    assert fetched.headers["ETag"] == response.headers["ETag"]


def test_a_response_shows_every_scalar_field_of_the_row(client, case):
    created = client.post(case.path, json=case.new()).json
    assert {"id", "created_at", "updated_at", "deleted_at", "version"} <= set(created)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_changed_row_is_shown_with_its_new_version(client, case, method):
    row = case.row()
    response = client.open(case.url(row), method=method, json=body_for(case, method))
    assert response.status_code == 200, response.text
    assert response.headers["ETag"] == etag(row.id, 2)
    assert response.json["version"] == 2
    assert client.get(case.url(row)).json == response.json


def test_a_patch_changes_what_it_names_and_nothing_else(client, case):
    row = case.row()
    before = client.get(case.url(row)).json
    after = client.patch(case.url(row), json=case.change).json
    moved = {"version", "updated_at"}
    assert {name: after[name] for name in case.change} == case.change
    assert {name for name in after if after[name] != before[name]} == {*case.change, *moved}


def test_a_deleted_row_is_gone_and_comes_back_when_it_is_restored(client, case):
    row = case.row()
    deleted = client.delete(case.url(row))
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    is_problem(client.get(case.url(row)), 404)
    assert client.get(case.path).json["items"] == []
    restored = client.post(f"{case.url(row)}/restore")
    assert restored.status_code == 200
    assert restored.json["deleted_at"] is None
    assert client.get(case.url(row)).json == restored.json


def test_a_deleted_row_is_shown_to_who_asks(client, case):
    row = case.row()
    client.delete(case.url(row))
    assert client.get(f"{case.url(row)}?deleted=include").json["deleted_at"] is not None
    assert len(client.get(f"{case.path}?deleted=only").json["items"]) == 1


def test_a_live_row_can_be_restored_as_well_and_stays_as_it_is(client, case):
    row = case.row()
    response = client.post(f"{case.url(row)}/restore")
    assert response.status_code == 200
    assert response.headers["ETag"] == etag(row.id, 1)


def test_a_row_that_the_client_has_already_is_not_sent_again(client, case):
    row = case.row()
    response = client.get(case.url(row), headers={"If-None-Match": etag(row.id, 1)})
    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == etag(row.id, 1)
    assert client.get(case.url(row), headers={"If-None-Match": etag(row.id, 2)}).status_code == 200


def test_head_answers_as_get_without_a_body(client, case):
    row = case.row()
    for url in (case.path, case.url(row)):
        got, head = client.get(url), client.head(url)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert head.headers.get("ETag") == got.headers.get("ETag")


def test_options_name_the_methods(client, case):
    response = client.options(case.path)
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"}


def test_an_if_match_that_names_the_version_lets_the_change_happen(client, case):
    row = case.row()
    assert client.patch(case.url(row), json=case.change, headers={"If-Match": etag(row.id, 1)}).status_code == 200
    assert client.delete(case.url(row), headers={"If-Match": etag(row.id, 2)}).status_code == 204
    assert client.post(f"{case.url(row)}/restore", headers={"If-Match": etag(row.id, 3)}).status_code == 200
    response = client.put(case.url(row), json=case.replacement(), headers={"If-Match": etag(row.id, 4)})
    assert response.status_code == 200
    assert response.headers["ETag"] == etag(row.id, 5)


# -- 400


@pytest.mark.parametrize("method", WITH_BODY)
def test_a_body_that_is_no_json_is_malformed(client, case, method):
    response = send(client, method, case, case.row(), data=b"{", content_type="application/json")
    assert "not valid JSON" in is_problem(response, 400)["detail"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_unknown_parameter_is_named(client, case, method):
    row = case.row()
    body = {"json": body_for(case, method)} if method in WITH_BODY else {}
    response = send(client, method, case, row, query_string={"colour": "red"}, **body)
    assert {error["parameter"] for error in is_problem(response, 400)["errors"]} == {"colour"}
    assert client.get(case.url(row)).headers["ETag"] == etag(row.id, 1)


def test_a_list_s_unknown_parameter_is_named_with_the_nearest_known_one(client, case):
    problem = is_problem(client.get(f"{case.path}?sortt=id"), 400)
    assert problem["errors"] == [{"parameter": "sortt", "detail": problem["detail"]}]
    assert "did you mean 'sort'" in problem["detail"]


# -- 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_row_that_is_not_there_is_not_found(client, case, method):
    body = {"json": body_for(case, method)} if method in WITH_BODY else {}
    response = client.open(case.absent_url(), method=method, **body)
    assert case.absent_url().rpartition("/")[2] in is_problem(response, 404)["detail"]


def test_a_restore_of_a_row_that_is_not_there_is_not_found(client, case):
    is_problem(client.post(f"{case.absent_url()}/restore"), 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_deleted_row_is_not_found(client, case, method):
    row = case.row()
    client.delete(case.url(row))
    body = {"json": body_for(case, method)} if method in WITH_BODY else {}
    is_problem(client.open(case.url(row), method=method, **body), 404)


def test_what_can_be_no_key_is_not_found(client, case):
    for key in ("abc", "0", "-1", "1.5", "9223372036854775808", "1" * 400, "%00", "'", "1/2"):
        is_problem(client.get(f"{case.path}/{key}"), 404)


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/v2/products", "/api/v1/nothing", "/api/v1/products/"])
def test_what_is_no_address_is_not_found(client, path):
    is_problem(client.get(path), 404)


# -- 405


def test_a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has(app, client, case):
    row = case.row()
    allowed: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        if rule.rule.split("/")[3:4] == [case.name]:
            path = rule.rule.replace(rule.rule[rule.rule.find("<") : rule.rule.find(">") + 1] or "\0", str(row.id))
            allowed.setdefault(path, set()).update(rule.methods)
    assert len(allowed) >= 3
    for path, methods in allowed.items():
        for method in METHODS - methods:
            response = client.open(path, method=method)
            is_problem(response, 405)
            assert set(response.headers["Allow"].split(", ")) == methods


# -- 409


@pytest.mark.parametrize("case", [case for case in CASES if case.unique], ids=lambda case: case.name)
def test_a_value_that_is_taken_is_a_conflict_on_create_and_on_change(client, case):
    first, second = client.post(case.path, json=case.new()).json, client.post(case.path, json=case.new()).json
    taken = {case.unique: first[case.unique].upper()}
    assert pointers(is_problem(client.post(case.path, json=case.new() | taken), 409)) == {f"/{case.unique}"}
    url = f"{case.path}/{second['id']}"
    assert pointers(is_problem(client.patch(url, json=taken), 409)) == {f"/{case.unique}"}
    assert pointers(is_problem(client.put(url, json=case.replacement() | taken), 409)) == {f"/{case.unique}"}


@pytest.mark.parametrize("case", [case for case in CASES if case.unique], ids=lambda case: case.name)
def test_a_restore_is_a_conflict_when_the_value_has_been_taken(client, case):
    body = case.new()
    first = client.post(case.path, json=body)
    client.delete(first.headers["Location"])
    assert client.post(case.path, json=body | case.new() | {case.unique: body[case.unique]}).status_code == 201
    problem = is_problem(client.post(f"{first.headers['Location']}/restore"), 409)
    assert pointers(problem) == {f"/{case.unique}"}


# -- 412


def test_a_change_of_another_version_is_refused_and_does_not_happen(client, case):
    row = case.row()
    headers = {"If-Match": etag(row.id, 2)}
    before = client.get(case.url(row)).json
    is_problem(client.put(case.url(row), json=case.replacement(), headers=headers), 412)
    is_problem(client.patch(case.url(row), json=case.change, headers=headers), 412)
    is_problem(client.delete(case.url(row), headers=headers), 412)
    is_problem(client.post(f"{case.url(row)}/restore", headers=headers), 412)
    assert client.get(case.url(row)).json == before


# -- 413, 415


@pytest.mark.parametrize("method", WITH_BODY)
def test_a_body_that_is_too_large_is_refused(client, case, settings, method):
    body = b'{"name": "' + b"x" * settings.max_content_length + b'"}'
    response = send(client, method, case, case.row(), data=body, content_type="application/json")
    assert str(settings.max_content_length) in is_problem(response, 413)["detail"]


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "rubbish"]
)
def test_a_body_that_is_not_declared_as_json_is_refused(client, case, method, content_type):
    response = send(client, method, case, case.row(), data=b"{}", content_type=content_type)
    assert "application/json" in is_problem(response, 415)["detail"]


# -- 422


def test_a_new_row_says_everything_that_it_misses(client, case):
    problem = is_problem(client.post(case.path, json={}), 422)
    assert pointers(problem) == set(case.required)
    assert {error["detail"] for error in problem["errors"]} == {"Missing data for required field."}


@pytest.mark.parametrize("method", WITH_BODY)
def test_a_write_without_a_body_says_that_there_is_none(client, case, method):
    assert "There is no body" in is_problem(send(client, method, case, case.row()), 400)["detail"]


@pytest.mark.parametrize("method", WITH_BODY)
def test_a_body_that_is_no_object_is_invalid(client, case, method):
    problem = is_problem(send(client, method, case, case.row(), json=[]), 422)
    assert problem["errors"] == [{"detail": "Must be a JSON object.", "pointer": ""}]


@pytest.mark.parametrize("method", WITH_BODY)
def test_an_unknown_field_is_invalid_and_gets_a_suggestion(client, case, method):
    near = f"{next(iter(case.change))}s"
    body = body_for(case, method) | {near: 1, "xyzzy": 1}
    problem = is_problem(send(client, method, case, case.row(), json=body), 422)
    details = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert details == {
        f"/{near}": f"Unknown field; did you mean {next(iter(case.change))!r}?",
        "/xyzzy": "Unknown field.",
    }


@pytest.mark.parametrize("method", WITH_BODY)
def test_what_the_server_sets_cannot_be_set_by_a_client(client, case, method):
    fields = ("id", "created_at", "updated_at", "deleted_at", "version")
    body = body_for(case, method) | dict.fromkeys(fields, 1)
    problem = is_problem(send(client, method, case, case.row(), json=body), 422)
    assert pointers(problem) == {f"/{field}" for field in fields}


# -- 503


@pytest.fixture(scope="module")
def cut_off(settings):
    """A client of an application whose database is not there."""
    app = create_app(replace(settings, database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    yield app.test_client()
    db.shutdown()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_without_a_database_every_endpoint_is_unavailable(cut_off, case, method):
    body = {"json": body_for(case, method)} if method in WITH_BODY else {}
    url = case.path if method == "POST" else case.absent_url()
    response = cut_off.open(url, method=method, **body)
    is_problem(response, 503)
    assert int(response.headers["Retry-After"]) > 0


def test_without_a_database_lists_and_restores_are_unavailable(cut_off, case):
    is_problem(cut_off.get(case.path), 503)
    is_problem(cut_off.post(f"{case.absent_url()}/restore"), 503)


def test_without_a_database_a_bad_request_is_still_told_so(cut_off, case):
    is_problem(cut_off.post(case.path, json={}), 422)
    is_problem(cut_off.get(f"{case.path}?nonsense=1"), 400)


def test_every_status_has_its_title(client):
    ProductFactory()
    titles = {
        400: client.get(f"{PREFIX}/products?x=1"),
        404: client.get(f"{PREFIX}/products/0"),
        405: client.put(f"{PREFIX}/products"),
        415: client.post(f"{PREFIX}/products", data=b"{}", content_type="text/plain"),
        422: client.post(f"{PREFIX}/products", json={}),
    }
    for status, response in titles.items():
        title = response.json["title"]
        assert response.status_code == status
        assert title in {HTTPStatus(status).phrase.capitalize(), "Invalid content"}
