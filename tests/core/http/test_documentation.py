"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from flask import Flask

from api.core.http import documentation
from api.core.http.openapi import create_api

FILES = ["swagger-ui.css", "index.css", "swagger-ui-bundle.js", "favicon-32x32.png", "start.js"]


def test_the_document_is_openapi_3_1(client):
    response = client.get("/openapi.json")
    assert response.content_type == "application/json"
    assert response.json["openapi"].startswith("3.1")
    assert response.json["info"]["title"] == "Backend Framework"


def test_the_document_describes_every_endpoint_of_the_api(client):
    described = set(client.get("/openapi.json").json["paths"])
    rules = {rule.rule for rule in client.application.url_map.iter_rules() if rule.rule.startswith("/api/v1")}
    assert {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule) for rule in rules} <= described


def test_a_client_that_has_the_document_is_not_sent_it_again(client):
    tag = client.get("/openapi.json").headers["ETag"]
    response = client.get("/openapi.json", headers={"If-None-Match": tag})
    assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)


def test_a_client_asks_each_time_whether_the_document_has_changed(client):
    assert client.get("/openapi.json").headers["Cache-Control"] == "no-cache"


def test_bounds_of_decimals_are_numbers():
    assert documented_bound(Decimal("0.01")) == 0.01
    assert documented_bound(Decimal("5.00")) == 5


def documented_bound(bound):
    app = Flask("documented")
    app.config.update(PROPAGATE_EXCEPTIONS=True)
    api = create_api(app)
    api.spec.components.schema("Price", {"type": "number", "minimum": bound})
    documentation.init_app(app, api)
    return app.test_client().get("/openapi.json").json["components"]["schemas"]["Price"]["minimum"]


def test_what_has_no_place_in_the_document_is_an_error():
    with pytest.raises(TypeError, match="not JSON serializable: object"):
        documented_bound(object())


def test_the_page_names_the_api_and_its_document(client):
    response = client.get("/docs")
    assert response.content_type == "text/html; charset=utf-8"
    assert "Backend Framework" in response.text
    assert 'data-document="/openapi.json"' in response.text


def test_the_page_takes_all_it_needs_from_this_server(client):
    page = client.get("/docs").text
    references = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {f"/docs/{name}" for name in FILES} <= set(references)
    assert all(reference.startswith("/") and not reference.startswith("//") for reference in references)


def test_the_page_allows_no_inline_script_and_nothing_from_elsewhere(client):
    response = client.get("/docs")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=", response.text)


def test_the_page_works_below_the_path_that_the_application_is_mounted_at(client):
    page = client.get("/docs", environ_overrides={"SCRIPT_NAME": "/shop"}).text
    assert 'data-document="/shop/openapi.json"' in page
    assert 'src="/shop/docs/start.js"' in page


def test_a_slash_too_many_leads_to_the_page(client):
    assert client.get("/docs/", follow_redirects=True).request.path == "/docs"


@pytest.mark.parametrize("name", FILES)
def test_each_file_of_the_page_is_served_and_kept_for_a_day(client, name):
    with client.get(f"/docs/{name}") as response:
        assert response.status_code == 200
        assert len(response.data) > 100
        assert response.headers["Cache-Control"] == "public, max-age=86400"


def test_a_browser_that_has_a_file_is_not_sent_it_again(client):
    with client.get("/docs/swagger-ui.css") as response:
        tag = response.headers["ETag"]
    with client.get("/docs/swagger-ui.css", headers={"If-None-Match": tag}) as response:
        assert (response.status_code, response.data) == (304, b"")


@pytest.mark.parametrize(
    "name", ["swagger-editor.js", "LICENSE", "oauth2-redirect.html", "docs.html", "..%2Fcore.py", "../../config.py"]
)
def test_no_other_file_is_served(client, name):
    assert client.get(f"/docs/{name}").status_code == 404


def test_swagger_ui_is_set_up_to_be_used(client):
    with client.get("/docs/start.js") as response:
        script = response.text
    for option in ("deepLinking: true", "displayRequestDuration: true", "tryItOutEnabled: true", "validatorUrl: null"):
        assert option in script
