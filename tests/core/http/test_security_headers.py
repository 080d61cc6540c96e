"""What every answer tells browsers and caches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.core.access.predicates import anyone
from api.core.http.permissions import requires
from api.extensions import db
from tests import factories
from tests.apps import create_app

API = "/api/v1"
STRICT = "default-src 'none'; frame-ancestors 'none'"
EXPECTED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ANSWERS = [
    ("GET", f"{API}/products", 200),
    ("GET", f"{API}/products/export", 200),
    ("HEAD", f"{API}/products", 200),
    ("OPTIONS", f"{API}/products", 200),
    ("GET", "/", 200),
    ("GET", "/livez", 200),
    ("GET", "/metrics", 200),
    ("GET", "/docs", 200),
    ("GET", "/docs/swagger-ui.css", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs/", 308),
    ("GET", f"{API}/products?limit=none", 400),
    ("GET", f"{API}/products/0", 404),
    ("GET", "/nothing", 404),
    ("DELETE", "/livez", 405),
    ("POST", f"{API}/tags", 400),
    ("GET", "/crash", 500),
]


@pytest.fixture(scope="module")
def crashing(settings, app):
    """A client of an application, on a migrated database, with a view that crashes."""
    del app
    crashing = create_app(settings)
    crashing.add_url_rule("/crash", "crash", requires(anyone)(lambda: 1 // 0))
    yield crashing.test_client()
    db.shutdown()


@pytest.fixture
def product(session):
    made = factories.ProductFactory()
    session.commit()
    return made


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_has_each_header_once(crashing, method, path, status):
    response = crashing.open(path, method=method, buffered=True)
    assert response.status_code == status
    for name, value in EXPECTED.items():
        assert response.headers.getlist(name) == [value]
    assert len(response.headers.getlist("Cache-Control")) == 1
    assert len(response.headers.getlist("Content-Security-Policy")) == 1


def test_answers_without_a_body_have_them_too(client, product):
    path = f"{API}/products/{product.id}"
    tag = client.get(path).headers["ETag"]
    for response, status in (
        (client.get(path, headers={"If-None-Match": tag}), 304),
        (client.delete(path, headers={"If-Match": tag}), 204),
    ):
        assert response.status_code == status
        assert EXPECTED.items() <= dict(response.headers).items()
        assert response.headers["Content-Security-Policy"] == STRICT


@pytest.mark.parametrize("path", [f"{API}/products", "/nothing", "/openapi.json", "/metrics", "/docs/"])
def test_what_is_no_page_may_do_nothing_in_a_browser(client, path):
    assert client.get(path).headers["Content-Security-Policy"] == STRICT


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_may_do_what_it_needs_and_may_not_be_framed(client, path):
    response = client.get(path, headers={"Accept": "text/html"})
    policy = response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in response.headers["Permissions-Policy"]


def test_what_may_depend_on_the_caller_is_kept_by_its_own_browser_only_and_asked_for_each_time(client, product):
    path = f"{API}/products/{product.id}"
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code) == (200, 304)
    for response in (first, again, client.get(f"{API}/products")):
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in response.headers["Vary"]


def test_errors_and_answers_to_writes_are_not_kept(client):
    for response in (
        client.get("/nothing"),
        client.get(f"{API}/products/0"),
        client.post(f"{API}/tags", json={"name": "new"}),
        client.post(f"{API}/tags", json={}),
    ):
        assert response.headers["Cache-Control"] == "no-store"


def test_a_view_that_speaks_of_caching_has_the_say(client):
    assert client.get("/docs/swagger-ui.css", buffered=True).headers["Cache-Control"] == "public, max-age=86400"
    assert client.get("/livez").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("changes", "scheme", "expected"),
    [
        ({"app_env": "production", "hsts_max_age": 600}, "https", ["max-age=600; includeSubDomains"]),
        ({"app_env": "production"}, "https", ["max-age=31536000; includeSubDomains"]),
        ({"app_env": "production"}, "http", []),
        ({"app_env": "production", "hsts_max_age": 0}, "https", []),
        ({}, "https", []),
    ],
)
def test_https_is_made_to_stay_in_production_and_only_over_https(settings, changes, scheme, expected):
    client = create_app(replace(settings, **changes)).test_client()
    response = client.get("/livez", base_url=f"{scheme}://localhost")
    assert response.headers.getlist("Strict-Transport-Security") == expected


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_no_answer_tells_what_the_service_is_made_of(crashing, method, path, status):
    response = crashing.open(path, method=method, buffered=True)
    assert response.status_code == status
    for name in ("Server", "X-Powered-By", "Via"):
        assert name not in response.headers
    if path not in {"/docs/swagger-ui.css", "/metrics"}:
        text = response.get_data(as_text=True).lower()
        assert not any(word in text for word in ("werkzeug", "flask", "gunicorn", "sqlalchemy", "psycopg"))
