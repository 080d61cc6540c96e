"""Strings that break others: NUL, lone surrogates, what cannot be seen, wherever the API takes a text.

Generated over the OpenAPI document, so that a new parameter or field is tried by itself. Each is refused with a 4xx
that names the place, or accepted and given back unchanged; never a 5xx.
"""

from __future__ import annotations

import json
from itertools import count, cycle
from urllib.parse import quote

import pytest

from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, ProfileFactory, TagFactory

# As they stand in JSON and, percent-encoded, in a URL; a lone surrogate has no UTF-8, so there it is the wrong bytes.
NASTY = {
    "NUL": ("\\u0000", b"\x00"),
    "NUL inside": ("a\\u0000b", b"a\x00b"),
    "high surrogate": ("\\ud800", b"\xed\xa0\x80"),
    "low surrogate": ("a\\udc00b", b"a\xed\xb0\x80b"),
    "swapped surrogates": ("\\udc00\\ud800", b"\xed\xb0\x80\xed\xa0\x80"),
    "override": ("a\u202eb", "a\u202eb".encode()),
    "isolate": ("\u2066a", "\u2066a".encode()),
    "zero width": ("\u200b", "\u200b".encode()),
    "byte order mark": ("\ufeffa", "\ufeffa".encode()),
    "blank": (" ", b" "),
    "controls": ("\\u0001\\u007f\\u0085", b"\x01\x7f\xc2\x85"),
    "line ends": ("\\r\\n", b"\r\n"),
    "noncharacter": ("\uffff", "\uffff".encode()),
    "beyond the plane": ("\U0010ffff", "\U0010ffff".encode()),
    "combining": ("e" + "\u0301" * 40, ("e" + "\u0301" * 40).encode()),
    "overlong": ("a", b"\xc0\x80"),
    "wrong byte": ("a", b"\xff"),
    "percent": ("%", b"%"),
    "quotes": ("\\\"'", b"\"'"),
    "backslash": ("\\\\", b"\\"),
    "case that grows": ("\u0130\ufb03", "\u0130\ufb03".encode()),
    "format": ("%(a)s {0} $1 :x", b"%(a)s {0} $1 :x"),
}
JSON = {"Content-Type": "application/json"}
METHODS = ("get", "post", "put", "patch", "delete")
SERVER_ERROR = 500


@pytest.fixture
def api(client):
    """The document of an application whose tables hold a few rows, and its client."""
    product = ProductFactory(tags=[TagFactory()])
    profile = ProfileFactory()
    OrderFactory(user=profile.user, items=[OrderItemFactory.build(product=product)])
    return client, client.get("/openapi.json").json


def operations(document):
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method], [*item.get("parameters", ()), *item[method].get("parameters", ())]


def address(path, key="1"):
    """The path with a key in the place of each parameter."""
    while "{" in path:
        path = path[: path.index("{")] + key + path[path.index("}") + 1 :]
    return path


def names_a_place(response):
    """Whether a refusal says what it is about."""
    problem = response.json
    return (
        all({"parameter", "pointer", "header"} & error.keys() for error in problem.get("errors", ()))
        and (problem["detail"])
    )


def check(response, sent):
    assert response.status_code < SERVER_ERROR, (sent, response.text)
    if response.status_code in {400, 422}:
        assert names_a_place(response), (sent, response.text)


def test_in_every_query_parameter(api, record_property):
    client, document = api
    tried, nasty = count(), cycle(NASTY.items())
    for method, path, _, parameters in operations(document):
        for parameter in parameters:
            if parameter["in"] != "query":
                continue
            for _, (name, (_, raw)) in zip(range(2), nasty, strict=False):
                url = f"{address(path)}?{quote(parameter['name'])}={quote(raw)}"
                check(client.open(url, method=method), (name, method, url))
                next(tried)
    record_property("attack inputs", f"strings in query parameters: {next(tried)}, no 5xx")
    assert next(tried) > 1000


def test_as_the_name_of_a_parameter_and_in_names_of_fields(api, record_property):
    client, document = api
    tried = count()
    lists = [path for _, path, operation, _ in operations(document) if "list_" in operation.get("operationId", "")]
    places = ("{}=1", "{}__eq=1", "name__{}=1", "metadata.{}=1", "metadata.a.{}__gt=1", "sort={}", "fields=id,{}")
    more = (
        "include={}",
        "or=({}=1)",
        "not=(name={})",
        'name__in="{}",a',
        "cursor={}",
        "q={}",
        "deleted={}",
        "sort=-metadata.{}",
    )
    for path in lists:
        for place in (*places, *more):
            for name, (_, raw) in NASTY.items():
                url = f"{path}?{place.format(quote(raw))}"
                check(client.get(url), (name, url))
                next(tried)
    record_property("attack inputs", f"strings as names: {next(tried)}, no 5xx")
    assert next(tried) > 1000


def test_as_a_key_in_the_path(api, record_property):
    client, document = api
    tried, nasty = count(), cycle(NASTY.items())
    for method, path, _, _ in operations(document):
        if "{" in path:
            for _, (name, (_, raw)) in zip(range(4), nasty, strict=False):
                url = address(path, quote(raw, safe=""))
                check(client.open(url, method=method, data="{}", headers=JSON), (name, method, url))
                next(tried)
    record_property("attack inputs", f"strings as keys: {next(tried)}, no 5xx")
    assert next(tried) > 50


HEADERS = ("IDEMPOTENCY_KEY", "X_REQUEST_ID", "IF_MATCH", "IF_NONE_MATCH", "ACCEPT", "ACCEPT_ENCODING", "AUTHORIZATION")
MORE_HEADERS = ("ORIGIN", "X_FORWARDED_FOR", "USER_AGENT", "CONTENT_ENCODING", "IF_MODIFIED_SINCE", "RANGE", "COOKIE")


def test_in_every_header(api, record_property):
    client, _ = api
    tried = count()
    product = f"/api/v1/products/{ProductFactory().id}"
    requests = (("GET", product), ("PATCH", product), ("POST", "/api/v1/tags"), ("POST", "/api/v1/tags/import"))
    for header in (*HEADERS, *MORE_HEADERS, "CONTENT_TYPE"):
        key = header if header == "CONTENT_TYPE" else f"HTTP_{header}"
        for name, (_, raw) in NASTY.items():
            for method, path in requests:
                environ = {"CONTENT_TYPE": "application/json", key: raw.decode("latin-1")}
                response = client.open(path, method=method, data=b"{}", environ_overrides=environ)
                check(response, (name, method, path, header))
                next(tried)
    record_property("attack inputs", f"strings in headers: {next(tried)}, no 5xx")
    assert next(tried) > 1000


# -- bodies


def resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def texts(document, schema, path=(), depth=4):
    """The paths to all strings of a body, and into free documents."""
    schema = resolved(document, schema)
    kinds = schema.get("type", ())
    if "string" in kinds:
        yield path
    for option in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        if depth:
            yield from texts(document, option, path, depth - 1)
    if "properties" not in schema and "object" in kinds:
        yield (*path, "any", "thing")
    if depth:
        for name, inner in schema.get("properties", {}).items():
            yield from texts(document, inner, (*path, name), depth - 1)
        if "items" in schema:
            yield from texts(document, schema["items"], (*path, 0), depth - 1)


def body_with(path, text):
    """JSON with `text`, JSON itself, at `path`."""
    for step in reversed(path):
        text = f"[{text}]" if step == 0 else f"{{{json.dumps(step)}: {text}}}"
    return text


def test_in_every_text_of_every_body_and_as_its_key(api, record_property):
    client, document = api
    tried = count()
    for method, path, operation, _ in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        found = {*texts(document, content["schema"])}
        for place in sorted(found, key=str):
            for name, (escaped, _) in NASTY.items():
                for body in (body_with(place, f'"{escaped}"'), body_with(place[:-1], f'{{"{escaped}": 1}}')):
                    response = client.open(address(path), method=method, data=body.encode(), headers=JSON)
                    check(response, (name, method, path, body))
                    next(tried)
    record_property("attack inputs", f"strings in bodies: {next(tried)}, no 5xx")
    assert next(tried) > 1000


@pytest.mark.parametrize("name", NASTY)
def test_prose_and_documents_are_refused_or_come_back_as_they_were(client, name):
    escaped, _ = NASTY[name]
    category = ProductFactory().category_id
    body = (
        f'{{"sku": "A", "name": "Mug", "price": "1", "category_id": {category},'
        f' "description": "{escaped}", "metadata": {{"a{escaped}": ["{escaped}"]}}}}'
    )
    response = client.post("/api/v1/products", data=body.encode(), headers=JSON)
    if response.status_code == 201:
        text = json.loads(f'"{escaped}"')
        shown = client.get(response.headers["Location"]).json
        assert (shown["description"], shown["metadata"]) == (text, {f"a{text}": [text]})
    else:
        assert response.status_code in {400, 422}
        assert "surrogate" in name or "NUL" in name


# -- files


@pytest.mark.parametrize("name", NASTY)
def test_in_the_cells_and_the_header_of_a_file(client, name):
    escaped, raw = NASTY[name]
    cell = b'"' + raw.replace(b'"', b'""') + b'"'
    files = (
        ("text/csv", b"name\n" + cell + b"\n"),
        ("text/csv", b"name," + cell + b"\na,b\n"),
        ("application/x-ndjson", f'{{"name": "{escaped}"}}\n'.encode()),
        ("application/x-ndjson", f'{{"name": "a", "{escaped}": 1}}\n'.encode()),
        ("application/x-ndjson", b'{"name": "' + raw.replace(b'"', b"").replace(b"\\", b"") + b'"}\n'),
    )
    for content_type, content in files:
        response = client.post("/api/v1/tags/import", data=content, headers={"Content-Type": content_type})
        assert response.status_code in {200, 400, 422}, (content, response.text)
        for reject in (response.json or {}).get("rejects", ()):
            assert reject["line"]
            assert reject["detail"]
