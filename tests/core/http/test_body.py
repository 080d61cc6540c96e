"""Bodies: JSON that is taken exactly as it is, or refused with what is wrong and where."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize
from sqlalchemy import text

from tests.apps import create_app
from tests.factories import CategoryFactory, OrderFactory, ProductFactory, UserFactory

PRODUCTS = "/api/v1/products"
ORDERS = "/api/v1/orders"


@pytest.fixture
def product(client):
    """A body that makes a product."""
    del client
    return {"sku": "MUG-1", "name": "Mug", "price": "9.90", "category_id": CategoryFactory().id}


def errors(response, status=422):
    """What is wrong, by pointer."""
    assert response.status_code == status, response.text
    found: dict[str, list[str]] = {}
    for error in response.json["errors"]:
        found.setdefault(error["pointer"], []).append(error["detail"])
    return found


# -- syntax


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,}', "line 1, column 8"),
        (b'{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7"),
        (b'{"a": NaN}', "line 1"),
        (b'{"a": Infinity}', "line 1"),
        (b'{"a": 1e999}', "line 1"),
        (b'{"a": 01}', "line 1"),
        (b"{'a': 1}", "line 1"),
        (b'{"a": "\\ud800"}', "line 1"),
        (b'{"a": "\xff"}', "line 1"),
        (b'{"a": "\t"}', "line 1"),
        (b'{"a": 1} {"b": 2}', "line 1, column 10"),
    ],
)
def test_what_is_no_json_is_malformed_and_says_where(client, body, place):
    response = client.post(PRODUCTS, data=body, content_type="application/json")
    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    assert response.json["detail"].startswith("The body is not valid JSON: ")
    assert place in response.json["detail"]


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"5", b"true", b"1.5"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_json_that_is_no_object_is_invalid(client, method, body):
    url = PRODUCTS if method == "POST" else f"{PRODUCTS}/{ProductFactory().id}"
    response = client.open(url, method=method, data=body, content_type="application/json")
    assert errors(response) == {"": ["Must be a JSON object."]}


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_another_name_is_json(client, product, content_type):
    response = client.post(PRODUCTS, data=json.dumps(product), content_type=content_type)
    assert response.status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data", "rubbish", "/"),
        *("application/json-patch+json", "application/merge-patch+json"),
    ],
)
def test_json_that_is_declared_as_something_else_is_refused(client, product, content_type):
    response = client.post(PRODUCTS, data=json.dumps(product), content_type=content_type)
    assert response.status_code == 415
    assert "send it as application/json" in response.json["detail"]


def test_json_that_is_not_declared_at_all_is_refused(client, product):
    response = client.post(PRODUCTS, data=json.dumps(product))
    assert response.status_code == 415
    assert "of no declared type" in response.json["detail"]


def test_a_body_as_large_as_the_limit_is_taken_and_one_byte_more_is_not(client, settings, product):
    body = json.dumps(product).encode()
    padded = body + b" " * (settings.max_content_length - len(body))
    assert client.post(PRODUCTS, data=padded + b" ", content_type="application/json").status_code == 413
    assert client.post(PRODUCTS, data=padded, content_type="application/json").status_code == 201


# -- values


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "'; DROP TABLE products; --",
        "Ünïcødé 🛒 \u202e",
        "%s %(a)s :x {y}",
        "\t\n\x7f",
        '\\"/',
    ],
)
def test_a_text_comes_back_as_it_was(client, product, text):
    created = client.post(PRODUCTS, json=product | {"description": text})
    assert created.json["description"] == text
    assert client.get(created.headers["Location"]).json["description"] == text


@pytest.mark.parametrize(
    "document",
    [
        {"big": 2**63, "bigger": 123456789012345678901234567890, "negative": -(2**64)},
        {"float": 0.1, "whole": 1.0, "tiny": 1e-300, "huge": 1e22},
        {"deep": {"list": [1, "2", None, True, {"a": []}]}, "": {}, "ключ": "🛒"},
    ],
)
def test_a_document_comes_back_as_it_was(client, product, document):
    created = client.post(PRODUCTS, json=product | {"metadata": document})
    assert created.json["metadata"] == document
    assert client.get(created.headers["Location"]).json["metadata"] == document


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("name", 5, "Not a valid string."),
        ("name", None, "Field may not be null."),
        ("name", "", "Shorter than minimum length 1."),
        ("name", "x" * 201, "Longer than maximum length 200."),
        ("name", "a\0b", "Must not contain the NUL character."),
        ("price", 9.9, 'Must be an amount as a string, such as "19.90".'),
        ("price", "9,90", 'Must be an amount as a string, such as "19.90".'),
        ("price", "1e3", 'Must be an amount as a string, such as "19.90".'),
        ("price", "NaN", 'Must be an amount as a string, such as "19.90".'),
        ("price", "9.999", "Must have at most 2 decimals."),
        ("price", "100000000", "Must be below 100000000."),
        ("price", "-0.01", "Must be greater than or equal to 0."),
        ("stock_quantity", "5", "Not a valid integer."),
        ("stock_quantity", True, "Not a valid integer."),
        ("stock_quantity", 1.5, "Not a valid integer."),
        ("stock_quantity", -1, "Must be greater than or equal to 0."),
        ("metadata", [], "Must be a JSON object."),
        ("metadata", None, "Field may not be null."),
        ("metadata", {"a": "\0"}, "Must not contain the NUL character."),
        ("metadata", {"a\0": 1}, "Must not contain the NUL character."),
        ("tag_ids", 5, "Not a valid list."),
        ("tag_ids", [1] * 101, "Longer than maximum length 100."),
    ],
)
def test_a_value_of_the_wrong_kind_is_invalid_at_its_field(client, product, field, value, detail):
    assert errors(client.post(PRODUCTS, json=product | {field: value})) == {f"/{field}": [detail]}
    existing = ProductFactory()
    assert errors(client.patch(f"{PRODUCTS}/{existing.id}", json={field: value})) == {f"/{field}": [detail]}


def test_an_integer_too_large_for_its_column_is_invalid_at_its_field(client, product):
    for value in (2**31, 2**63, 2**64, 10**30):
        assert [*errors(client.post(PRODUCTS, json=product | {"stock_quantity": value}))] == ["/stock_quantity"]
        assert [*errors(client.post(PRODUCTS, json=product | {"category_id": value * 2**33}))] == ["/category_id"]


@pytest.mark.parametrize(
    ("value", "shown"), [("0", "0.00"), ("007.5", "7.50"), ("9.900", "9.90"), ("99999999.99",) * 2]
)
def test_an_amount_is_shown_with_two_decimals(client, product, value, shown):
    assert client.post(PRODUCTS, json=product | {"price": value}).json["price"] == shown


def test_a_whole_number_may_be_written_with_a_point(client, product):
    body = json.dumps(product | {"stock_quantity": 5}).replace(": 5,", ": 5.0,").replace(": 5}", ": 5.0}")
    assert "5.0" in body
    assert client.post(PRODUCTS, data=body, content_type="application/json").json["stock_quantity"] == 5


# -- every mistake at once, wherever it is


def test_every_mistake_is_told_at_once(client):
    body = {"sku": "", "name": 5, "price": "x", "colour": "red"}
    assert set(errors(client.post(PRODUCTS, json=body))) == {"/sku", "/name", "/price", "/colour", "/category_id"}


def test_a_mistake_in_a_nested_list_is_pointed_at(client):
    body = {
        "user_id": UserFactory().id,
        "items": [
            {"product_id": 1, "quantity": 1},
            {"product_id": "1", "quantity": 0},
            {"quantity": 1, "quantty": 1, "unit_price": "1.00"},
            "item",
        ],
    }
    assert errors(client.post(ORDERS, json=body)) == {
        "/items/1/product_id": ["Not a valid integer."],
        "/items/1/quantity": ["Must be greater than or equal to 1."],
        "/items/2/product_id": ["Missing data for required field."],
        "/items/2/quantty": ["Unknown field; did you mean 'quantity'?"],
        "/items/2/unit_price": ["Unknown field."],
        "/items/3": ["Must be a JSON object."],
    }


def test_a_mistake_in_a_nested_object_is_pointed_at(client):
    body = {
        "username": "ada",
        "email": "ada@example.com",
        "password": "correct horse battery",
        "profile": {"contry": "x", "bio": 5},
    }
    assert errors(client.post("/api/v1/users", json=body)) == {
        "/profile/contry": ["Unknown field; did you mean 'country'?"],
        "/profile/bio": ["Not a valid string."],
    }


def test_an_item_of_a_list_of_keys_is_pointed_at(client, product):
    assert errors(client.post(PRODUCTS, json=product | {"tag_ids": [1, "2", 0]})) == {
        "/tag_ids/1": ["Not a valid integer."],
        "/tag_ids/2": ["Must be greater than or equal to 1 and less than or equal to 9223372036854775807."],
    }


@pytest.mark.parametrize(("name", "pointer"), [("a/b", "/a~1b"), ("a~b", "/a~0b"), ("", "/"), ("_schema", "/_schema")])
def test_odd_names_are_written_as_pointers_are(client, product, name, pointer):
    assert [*errors(client.post(PRODUCTS, json=product | {name: 1}))] == [pointer]


@pytest.mark.parametrize("password", ["short", "x" * 129, None, 12345678])
def test_a_refused_password_is_not_repeated(client, password):
    body = {"username": "ada", "email": "ada@example.com", "password": password}
    response = client.post("/api/v1/users", json=body)
    assert [*errors(response)] == ["/password"]
    assert password is None or str(password) not in response.text


@pytest.mark.parametrize("field", ["user_id", "items"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_is_settled_on_creation_cannot_be_changed(client, method, field):
    order = OrderFactory()
    response = client.open(f"{ORDERS}/{order.id}", method=method, json={field: [], "status": "pending"})
    assert set(errors(response)) - {"/status"} == {f"/{field}"}


def test_a_body_nested_beyond_reason_is_malformed_with_a_long_number_in_it_too(client):
    body = '{"a": 1234567890123456789012, "b": ' + "[" * 1000 + "]" * 1000 + "}"
    response = client.post("/api/v1/tags", data=body, content_type="application/json")
    assert response.status_code in {400, 422}


def in_chunks(client, stream):
    """A POST whose length is not told, as gunicorn passes one on that comes in chunks."""
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": stream}
    return client.post("/api/v1/tags", content_type="application/json", environ_overrides=environ)


def test_a_body_in_chunks_is_read_to_its_end(client):
    assert in_chunks(client, BytesIO(b'{"name": "chunked"}')).status_code == 201


def test_a_body_in_chunks_beyond_the_limit_is_too_large_and_writes_nothing(client, settings):
    body = b'{"name": "cut"}' + b" " * settings.max_content_length + b"garbage"
    assert in_chunks(client, BytesIO(body)).status_code == 413
    assert client.get("/api/v1/tags").json["items"] == []


@pytest.mark.parametrize("error", [OSError(), InvalidChunkSize(b"ZZ"), ChunkMissingTerminator(b"")])
def test_a_body_in_broken_chunks_is_malformed(client, error):
    class Broken(BytesIO):
        def read(self, *_):
            raise error

    assert in_chunks(client, Broken()).status_code == 400


def test_a_request_without_a_body_is_answered_where_the_stream_has_no_end(client):
    class Endless(BytesIO):
        def read(self, *_):
            raise AssertionError("This would wait for the client.")

    response = client.post("/api/v1/tags", environ_overrides={"wsgi.input": Endless(), "wsgi.input_terminated": False})
    assert response.status_code == 400


# -- JSON that readers differ about


def test_a_key_that_is_given_twice_is_named(client):
    body = b'{"name": "a", "name": "b"}'
    response = client.post("/api/v1/tags", data=body, content_type="application/json")
    assert errors(response, 400) == {"/name": ["This key is given more than once."]}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ('{"a": {"b": 1, "b": 2}}', "/metadata/a/b"),
        (f'{{"a": [{"1" * 41}]}}', "/metadata/a/0"),
        ('{"a": 1e-999999}', "/metadata/a"),
        (f'{{"a": {"[" * 31}{"]" * 31}}}', "/metadata/a" + "/0" * 30),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_a_document_may_not_hold_is_refused_at_its_place(client, method, document, pointer):
    url = PRODUCTS if method == "POST" else f"{PRODUCTS}/{ProductFactory().id}"
    body = f'{{"metadata": {document}}}'
    response = client.open(url, method=method, data=body, content_type="application/json")
    assert [*errors(response, 400)] == [pointer]


def test_the_levels_of_a_body_are_a_setting(settings, database):
    del database
    app = create_app(replace(settings, json_depth_max=2))
    body = {"metadata": {"a": []}}
    response = app.test_client().post(PRODUCTS, json=body)
    assert errors(response, 400) == {"/metadata/a": ["Must not be nested deeper than 2 levels."]}


@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json"])
def test_a_number_that_sql_has_written_hinders_no_change_of_another_field(client, session, content_type):
    url = _product_with_long_number(session)
    assert client.get(url).status_code == 200
    url += "?fields=name"
    assert client.patch(url, data=b'{"name": "Cup"}', content_type=content_type).json["name"] == "Cup"
    patch = [{"op": "replace", "path": "/name", "value": "Jug"}]
    changed = client.patch(url, data=json.dumps(patch), content_type="application/json-patch+json")
    assert changed.json["name"] == "Jug"


def test_a_number_that_sql_has_written_can_be_replaced_and_is_not_written_again(client, session):
    url = _product_with_long_number(session)
    kept = client.patch(url, json={"metadata": {"b": 1}})
    assert errors(kept) == {"/metadata/a": ["This stored number is too long to be written again; send another one."]}
    assert client.patch(url, json={"metadata": {"a": 5, "b": 1}}).json["metadata"] == {"a": 5, "b": 1}


def _product_with_long_number(session):
    product = ProductFactory()
    session.execute(
        text("UPDATE products SET metadata = jsonb_build_object('a', repeat('7', 5000)::numeric) WHERE id = :id"),
        {"id": product.id},
    )
    session.commit()
    return f"{PRODUCTS}/{product.id}"
