"""CORS: which pages of other origins a browser lets read answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.extensions import db
from tests.apps import create_app

LISTED = "https://app.example"
WITH_PORT = "http://localhost:3000"
PRODUCTS = "/api/v1/products"
TRICKS = [
    "null",
    "",
    "*",
    "https://evil.example",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://app.exampl",
    "https://app_example",
    "https://sub.app.example",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example:443",
    "https://app.example/",
    "https://app.example https://evil.example",
    "https://app.example,https://evil.example",
    "https://app.example@evil.example",
    "https://APP.example",
    "http://localhost",
    "http://localhost:30001",
    "file://",
]


@pytest.fixture(scope="module")
def opened(settings):
    """A client of an application that is open to two origins."""
    yield create_app(replace(settings, cors_origins=(LISTED, WITH_PORT), cors_max_age=60)).test_client()
    db.shutdown()


def cors_headers(response):
    return {name for name, _ in response.headers if name.startswith("Access-Control")}


def preflight(client, origin, path=PRODUCTS, method="DELETE"):
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    return client.options(path, headers=headers)


@pytest.mark.parametrize("origin", [LISTED, WITH_PORT, "http://localhost", *TRICKS])
def test_as_long_as_no_origin_is_named_none_may_read_anything(client, origin):
    assert cors_headers(client.get("/livez", headers={"Origin": origin})) == set()
    assert cors_headers(preflight(client, origin)) == set()


@pytest.mark.parametrize("origin", [LISTED, WITH_PORT])
def test_a_listed_origin_may_read_answers_and_the_headers_of_the_api(opened, origin):
    response = opened.get("/livez", headers={"Origin": origin})
    assert response.headers.getlist("Access-Control-Allow-Origin") == [origin]
    exposed = set(response.headers["Access-Control-Expose-Headers"].split(", "))
    expected = {"ETag", "Link", "Location", "X-Request-ID", "RateLimit", "Retry-After", "Idempotency-Replayed"}
    assert expected <= exposed
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("origin", TRICKS)
def test_an_origin_that_only_looks_like_a_listed_one_may_read_nothing(opened, origin):
    assert cors_headers(opened.get("/livez", headers={"Origin": origin})) == set()
    assert cors_headers(preflight(opened, origin)) == set()


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/docs/", PRODUCTS + "?limit=none", "/openapi.json"])
@pytest.mark.parametrize("origin", [LISTED, "https://evil.example", None])
def test_every_answer_says_that_it_depends_on_the_origin(opened, path, origin):
    response = opened.get(path, headers={"Origin": origin} if origin else {})
    assert "Origin" in {name.strip() for value in response.headers.getlist("Vary") for name in value.split(",")}


def test_a_page_may_read_why_its_request_failed(opened):
    response = opened.get(PRODUCTS, query_string={"limit": "none"}, headers={"Origin": LISTED})
    assert response.status_code == 400
    assert response.headers["Access-Control-Allow-Origin"] == LISTED


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_of_a_listed_origin_allows_what_the_api_takes(opened, method):
    response = preflight(opened, LISTED, method=method)
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == LISTED
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} <= set(
        response.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert response.headers["Access-Control-Max-Age"] == "60"


def test_a_preflight_asks_neither_the_database_nor_for_credentials(settings):
    url = "postgresql+psycopg2://nobody@127.0.0.1:1/none"
    away = create_app(replace(settings, database_url=url, cors_origins=(LISTED,)))
    away.before_request(lambda: pytest.fail("Flask was asked"))
    response = preflight(away.test_client(), LISTED)
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (204, LISTED)


def test_an_ordinary_options_request_is_no_preflight(opened):
    response = opened.options(PRODUCTS, headers={"Origin": LISTED})
    assert response.status_code == 200
    assert "POST" in response.headers["Allow"]


def test_credentials_are_allowed_only_where_the_setting_says_so(settings):
    client = create_app(replace(settings, cors_origins=(LISTED,), cors_credentials=True)).test_client()
    for response in (client.get("/livez", headers={"Origin": LISTED}), preflight(client, LISTED)):
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert cors_headers(client.get("/livez", headers={"Origin": "https://evil.example"})) == set()


def test_any_origin_is_answered_with_a_star_and_never_with_its_own_name(settings):
    client = create_app(replace(settings, cors_origins=("*",))).test_client()
    for origin in ("https://whoever.example", "null"):
        assert client.get("/livez", headers={"Origin": origin}).headers["Access-Control-Allow-Origin"] == "*"
