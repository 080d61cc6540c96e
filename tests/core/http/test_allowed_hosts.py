"""Which names the service answers to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.extensions import db
from tests.apps import create_app

PRODUCTS = "/api/v1/products"
OURS = [
    "api.example",
    "API.example",
    "api.example:8443",
    "shop.example",
    "a.b.shop.example",
    "127.0.0.1:8000",
    "[::1]:80",
]
TRICKS = [
    "evil.example",
    "api.example.evil.example",
    "evil-api.example",
    "evilshop.example",
    "x.api.example",
    "api.example, evil.example",
    "evil.example, api.example",
    "api.example evil.example",
    "api.example@evil.example",
    "evil.example#api.example",
    "evil.example/api.example",
    "api.example/",
    "api.example:80:80",
    "api.example:0",
    "api.example:port",
    "api.example.",
    "127.0.0.2",
    "127.0.0.1.evil.example",
    "2130706433",
    "[::1].evil.example",
    "[::2]",
    "::1",
    "localhost",
    "",
    ".shop.example",
    "x..shop.example",
    "api.example\t",
    "\u0430pi.example",
]


@pytest.fixture(scope="module")
def walled(settings):
    """A client of an application that goes by a few names."""
    hosts = ("api.example", ".shop.example", "127.0.0.1", "[::1]")
    yield create_app(replace(settings, allowed_hosts=hosts)).test_client()
    db.shutdown()


def ask(client, host, path="/openapi.json", **headers):
    return client.get(path, environ_overrides={"HTTP_HOST": host}, headers=headers)


@pytest.mark.parametrize("host", OURS)
def test_a_request_for_one_of_the_names_is_answered(walled, host):
    assert ask(walled, host).status_code == 200


@pytest.mark.parametrize("host", TRICKS)
def test_a_request_for_another_name_is_refused_and_the_name_is_not_repeated(walled, host):
    response = ask(walled, host)
    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    assert response.json["instance"] == "/openapi.json"
    assert response.json["errors"] == [{"header": "Host", "detail": "The service does not go by this name."}]
    assert "evil" not in response.get_data(as_text=True)
    assert "X-Request-ID" in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_request_without_a_name_is_refused(walled):
    environ = EnvironBuilder("/openapi.json").get_environ()
    del environ["HTTP_HOST"]
    assert run_wsgi_app(walled.application, environ)[1] == "400 BAD REQUEST"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_scrapers_may_come_by_address(walled, path):
    assert ask(walled, "10.1.2.3:8000", path).status_code in {200, 503}
    assert ask(walled, "10.1.2.3:8000", f"{path}/").status_code == 400


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "Forwarded", "X-Original-Host"])
def test_a_forwarded_name_neither_opens_nor_closes_anything(walled, header):
    assert ask(walled, "evil.example", **{header: "api.example"}).status_code == 400
    assert ask(walled, "api.example", **{header: "evil.example"}).status_code == 200


@pytest.mark.parametrize(("path", "location"), [("/docs/", "/docs"), ("//api///v1/products", "/api/v1/products?a=//b")])
def test_a_redirect_bears_a_path_and_no_name(client, path, location):
    """Also where any name is answered to."""
    forged = {"HTTP_HOST": "evil.example", "HTTP_X_FORWARDED_HOST": "evil.example", "QUERY_STRING": "a=//b"}
    response = client.get("/", environ_overrides={"PATH_INFO": path, **forged})
    assert response.status_code == 308
    assert response.headers["Location"] == location
    assert "evil" not in response.get_data(as_text=True)


@pytest.mark.parametrize("path", ["//evil.example/docs/", "///evil.example//docs", "/\\evil.example/docs", "//"])
def test_a_redirect_leads_to_no_other_service(client, path):
    location = client.get("/", environ_overrides={"PATH_INFO": path}).headers.get("Location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_what_was_made_and_the_next_page_are_told_by_path(client):
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "evil", "X-Forwarded-Prefix": "/evil"}
    for number in range(3):
        made = client.post("/api/v1/tags", json={"name": f"tag {number}"}, headers={"Host": "evil.example", **forged})
        assert made.headers["Location"].startswith("/api/v1/tags/")
    page = ask(client, "evil.example", "/api/v1/tags?limit=2", **forged)
    assert page.headers["Link"].startswith("</api/v1/tags?")
    assert "evil" not in str(page.headers) + page.get_data(as_text=True)


def test_without_a_list_any_name_is_answered_to(client):
    assert ask(client, "whatever.example").status_code == 200
