"""Routes that are found without asking werkzeug: the same ones as it finds, or none."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from api.core.http.keys import KeyConverter
from api.core.http.routing import PathAdapter, Routes

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
KEYS = (
    *(
        "1",
        "42",
        "0",
        "007",
        "-1",
        "1e3",
        "9" * 18,
        "9" * 19,
        "x",
        "export",
        "",
        " ",
        "1 ",
        "\u0661",
        "1/",
        "/1",
        "1\n",
    ),
    *(
        "0190a3c5-7d3e-7aaa-8bbb-0123456789ab",
        "0190A3C5-7D3E-7AAA-8BBB-0123456789AB",
        "0190a3c57d3e7aaa8bbb0123456789ab",
    ),
)


def found(adapter):
    try:
        rule, values = adapter.match(return_rule=True)
    except HTTPException as error:
        return type(error), getattr(error, "new_url", None), sorted(getattr(error, "valid_methods", None) or ())
    # Rules with the same pattern are equal.
    return rule.endpoint, values


def both(url_map, method, path):
    """What werkzeug finds, and what we find."""
    plain, ours = (kind(url_map, "localhost", "", "", "http", path, method) for kind in (MapAdapter, PathAdapter))
    ours.routes = Routes(url_map)
    return found(plain), found(ours)


def test_each_path_of_the_application_is_found_as_werkzeug_finds_it(app):
    routes = Routes(app.url_map)
    shapes = {rule.rule for rule in app.url_map.iter_rules()}
    paths = {re.sub("<[^<>]+>", lambda _, key=key: key, shape) for shape in shapes for key in KEYS}
    for path in sorted(paths | {f"{path}/" for path in paths} | {path.rstrip("/") for path in paths}):
        for method in METHODS:
            adapters = [
                kind(app.url_map, "localhost", "", "", "http", path, method) for kind in (MapAdapter, PathAdapter)
            ]
            adapters[1].routes = routes
            plain, ours = map(found, adapters)
            assert plain == ours, (method, path)


def test_rows_and_lists_of_the_application_are_found_at_once(app):
    routes = Routes(app.url_map)
    rule, values = routes.find("GET", "/api/v1/products/7")
    assert (rule.endpoint, values) == ("products.get", {"id": 7})
    assert routes.find("GET", "/api/v1/products")[0].endpoint == "products.list"


RULES = {
    "a word among keys": ["/a/<int:id>", "/a/12"],
    "two kinds of keys": ["/a/<int:id>", "/a/<string:name>"],
    "the rest of a path": ["/a/<path:rest>"],
    "a name of no kind": ["/a/<name>"],
    "a key that is refused afterwards": ["/a/<int(max=5):id>"],
    "a key at the top": ["/<int:id>"],
    "a key in the middle": ["/a/<int:id>/b", "/a/<int:id>"],
    "a key with something around it": ["/a/x<int:id>"],
    "a folder of keys": ["/a/<int:id>/"],
    "two keys": ["/a/<int:one>/<int:two>"],
    "a word with a slash behind it among keys": ["/a/<string:name>", "/a/12/"],
    "a folder of other keys": ["/a/<string:name>", "/a/<int:id>/"],
    "the same twice": ["/a/<int:id>", "/a/<int:other>", "/b", "/b"],
}
PATHS = ("/a/3", "/a/12", "/a/x", "/a/x3", "/a/3/", "/a/3/b", "/a/3/4", "/3", "/b", "/b/", "/a//3", "//a/3", "/", "")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("path", PATHS)
def test_rules_that_compete_are_found_as_werkzeug_finds_them(name, path):
    bare = Flask("bare", static_folder=None)
    bare.url_map.converters["key"] = KeyConverter
    for number, rule in enumerate(RULES[name]):
        bare.add_url_rule(rule, f"view{number}", lambda **_: "")
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        plain, ours = both(bare.url_map, method, path)
        assert plain == ours


@pytest.mark.parametrize("path", ["/b", "/a/<int:id>"])
def test_of_two_rules_for_a_path_the_first_has_the_say_also_where_it_is_left_to_werkzeug(path):
    bare = Flask("bare", static_folder=None)
    for rule, endpoint in ((path, "of several"), ("/elsewhere", "of several"), (path, "of one")):
        bare.add_url_rule(rule, endpoint, bare.view_functions.get(endpoint, lambda **_: ""))
    plain, ours = both(bare.url_map, "GET", path.replace("<int:id>", "3"))
    assert plain == ours


def test_rules_with_defaults_redirects_and_names_of_hosts_are_left_to_werkzeug():
    bare = Flask("bare", static_folder=None)
    bare.add_url_rule("/pages/<int:page>", "pages", lambda **_: "")
    bare.add_url_rule("/pages/", "pages", defaults={"page": 1})
    bare.add_url_rule("/old", "old", redirect_to="pages/")
    for path in ("/pages/1", "/pages/2", "/pages/", "/old"):
        plain, ours = both(bare.url_map, "GET", path)
        assert plain == ours
    assert Routes(bare.url_map).find("GET", "/pages/2") is None
