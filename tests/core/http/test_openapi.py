"""The OpenAPI document tells the truth: what it offers is accepted, and what it does not offer is not."""

from __future__ import annotations

import pytest

from tests.core.http.cases import CASES, PREFIX
from tests.factories import CategoryFactory, ProductFactory, UserFactory

METHODS = {"get", "put", "post", "patch", "delete"}
# A value that fits a parameter's schema, by its type and format.
SAMPLES = {
    ("integer", None): "1",
    ("number", None): "1",
    ("boolean", None): "true",
    ("string", "date-time"): "2026-01-31T12:30:00Z",
    ("string", "uuid"): "01890a5d-ac96-774b-bcce-b302099a8057",
    ("string", "date"): "2026-01-31",
}
BY_NAME = {
    "sort": "-id",
    "fields": "id",
    "or": "(version=1,and=(version=2,version=3))",
    "and": "(version=1)",
    "not": "(version=1)",
}


@pytest.fixture(scope="module")
def document(app):
    return app.test_client().get("/openapi.json").json


def operations(document):
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield path, method, item[method]


def body_schema(document, operation):
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


def test_every_operation_of_the_api_has_a_summary_a_tag_and_a_name_of_its_own(document):
    api = [operation for path, _, operation in operations(document) if path.startswith(f"{PREFIX}/")]
    assert all(operation["summary"] and operation["tags"] for operation in api)
    names = [operation["operationId"] for operation in api]
    assert len(names) == len(set(names)) >= 8 * len(CASES)


def test_every_reference_leads_somewhere(document):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_every_error_is_documented_as_a_problem(document):
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if path.startswith(f"{PREFIX}/") and status >= "400":
                assert set(response["content"]) == {"application/problem+json"}, (path, method, status)


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("", "get", {"200", "400", "503"}),
        ("", "post", {"201", "400", "409", "413", "415", "422", "503"}),
        ("/aggregate", "get", {"200", "400", "503"}),
        ("/{id}", "get", {"200", "304", "400", "404", "503"}),
        ("/{id}", "put", {"200", "400", "404", "409", "412", "413", "415", "422", "503"}),
        ("/{id}", "patch", {"200", "400", "404", "409", "412", "413", "415", "422", "503"}),
        ("/{id}", "delete", {"204", "400", "404", "409", "412", "503"}),
        ("/{id}/restore", "post", {"200", "400", "404", "409", "412", "503"}),
    ],
)
def test_every_answer_of_a_resource_is_documented(document, case, path, method, statuses):
    assert statuses <= set(document["paths"][case.path + path][method]["responses"])


# -- parameters


def sample(parameter):
    schema = parameter["schema"]
    name = parameter["name"]
    if name in BY_NAME:
        return BY_NAME[name]
    if "enum" in schema:
        return schema["enum"][0]
    if name.endswith("__between"):
        return "{0},{0}"
    if name.endswith("__contains"):
        return "{}"
    if "pattern" in schema:
        return "19.90"
    return SAMPLES.get((schema["type"], schema.get("format")), "x")


def test_every_parameter_of_a_list_is_accepted_with_a_value_of_its_type(client, document, case):
    by_name = {item["name"]: item for item in document["paths"][case.path]["get"]["parameters"]}
    assert len(by_name) > 30
    for name, parameter in by_name.items():
        if name == "cursor":
            continue
        plain = by_name.get(name.rpartition("__")[0], parameter)
        value = sample(parameter)
        if name.endswith(("__in", "__not_in", "__between")):
            value = "{0},{0}".format(sample(plain))
        if name == "include":
            value = parameter["description"].rpartition(" of: ")[2].rstrip(".").replace(" ", "")
        beside = {"q": "x"} if name == "highlight" else {}
        response = client.get(case.path, query_string={name: value} | beside)
        assert response.status_code == 200, (name, value, response.text)


def test_every_parameter_of_an_aggregation_is_accepted_with_a_value_of_its_type(client, document, case):
    listed = {item["name"] for item in document["paths"][case.path]["get"]["parameters"]}
    parameters = document["paths"][f"{case.path}/aggregate"]["get"]["parameters"]
    own = [item for item in parameters if item["name"] not in listed - {"sort", "limit", "count", "deleted"}]
    assert {item["name"] for item in own} >= {"group_by", "sum", "avg", "min", "max", "count_distinct", "having"}
    for parameter in own:
        fields = parameter["description"].rpartition(" of: ")[2].rstrip(".").replace("<key>", "key").split(", ")
        values = {"group_by": ["created_at.month"], "having": ["count__gt=1"], "sort": ["-count"]}
        schema = parameter["schema"]
        fixed = (
            values.get(parameter["name"])
            or schema.get("enum")
            or ([schema["minimum"]] if "minimum" in schema else fields)
        )
        for value in fixed:
            response = client.get(f"{case.path}/aggregate", query_string={parameter["name"]: value})
            assert response.status_code == 200, (parameter["name"], value, response.text)


def test_a_filter_for_each_public_field_and_none_for_a_hidden_one(document, case):
    names = {item["name"] for item in document["paths"][case.path]["get"]["parameters"]}
    fields = {"id", "created_at", "updated_at", "deleted_at", "version"}
    assert fields <= names
    assert {"created_at__gte", "version__in", "id__ne", "deleted_at__is_null"} <= names
    assert not {name for name in names if "password" in name}


def test_limits_are_the_application_s(document, settings):
    by_name = {item["name"]: item["schema"] for item in document["paths"][f"{PREFIX}/tags"]["get"]["parameters"]}
    assert by_name["limit"]["maximum"] == settings.page_size_max
    assert by_name["per_page"]["maximum"] == settings.page_size_max


def test_a_change_documents_its_precondition(document, case):
    for path, method in (("/{id}", "put"), ("/{id}", "patch"), ("/{id}", "delete"), ("/{id}/restore", "post")):
        parameters = document["paths"][case.path + path][method]["parameters"]
        assert ("header", "If-Match") in {(item["in"], item["name"]) for item in parameters}


# -- bodies


@pytest.mark.usefixtures("database")
def test_a_body_documents_what_it_must_and_may_hold(document, case):
    created = body_schema(document, document["paths"][case.path]["post"])
    assert {f"/{name}" for name in created["required"]} == set(case.required)
    assert set(case.new()) <= set(created["properties"])
    patched = body_schema(document, document["paths"][f"{case.path}/{{id}}"]["patch"])
    assert not patched.get("required")
    for read_only in ("id", "created_at", "version"):
        assert read_only not in created["properties"]
        assert read_only not in patched["properties"]


def test_a_body_documents_its_rules(document):
    product = document["components"]["schemas"]["ProductCreate"]["properties"]
    assert (product["sku"]["minLength"], product["sku"]["maxLength"]) == (1, 64)
    assert (product["stock_quantity"]["minimum"], product["stock_quantity"]["maximum"]) == (0, 2**31 - 1)
    assert product["price"]["type"] == "string"
    assert product["price"]["pattern"].startswith("^0*")
    assert product["tag_ids"]["maxItems"] == 100
    user = document["components"]["schemas"]["UserCreate"]["properties"]
    assert user["email"]["format"] == "email"
    assert (user["password"]["minLength"], user["password"]["maxLength"]) == (12, 128)
    order = document["components"]["schemas"]["OrderPatch"]["properties"]
    assert order["status"]["enum"] == ["pending", "processing", "shipped", "delivered", "cancelled"]


def test_no_answer_documents_a_password(document):
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith(("Create", "Replace", "Patch", "NamesUpdate")):
            assert not {field for field in schema.get("properties", {}) if "password" in field}


def test_the_examples_of_new_rows_work(client, document, case):
    content = document["paths"][case.path]["post"]["requestBody"]["content"]["application/json"]
    # Only keys are not the same everywhere.
    keys = {"category_id": CategoryFactory().id, "user_id": UserFactory().id, "product_id": ProductFactory().id}

    def here(value):
        if isinstance(value, dict):
            return {name: keys.get(name, here(item)) for name, item in value.items()}
        return [here(item) for item in value] if isinstance(value, list) else value

    response = client.post(case.path, json=here(content["example"]))
    assert response.status_code == 201, response.text


def test_headings_have_the_right_article(document):
    paths = document["paths"]
    assert paths["/api/v1/orders"]["post"]["summary"] == "Create an order"
    assert paths["/api/v1/orders/{id}/restore"]["post"]["summary"] == "Restore a deleted order"
    assert paths["/api/v1/users"]["post"]["summary"] == "Create a user"


# -- who may


def test_it_says_how_to_say_who_one_is(document):
    assert {name: scheme["scheme"] for name, scheme in document["components"]["securitySchemes"].items()} == {
        "accessToken": "bearer",
        "apiKey": "bearer",
    }


def test_every_operation_says_who_may_and_what_is_told_to_others(document):
    for path, method, operation in operations(document):
        name = f"{method} {path}"
        assert "For " in operation["description"], name
        assert "401" in operation["responses"], name
        is_open = {} in operation["security"]
        assert is_open == ("For anyone." in operation["description"]), name
        assert {"accessToken": []} in operation["security"], name


@pytest.mark.parametrize(
    ("method", "path", "security", "who", "has_403"),
    [
        ("get", "/products", [{}, {"accessToken": []}, {"apiKey": []}], "For anyone.", False),
        (
            "post",
            "/products",
            [{"accessToken": []}, {"apiKey": []}],
            "For the role manager or admin. An API key needs the scope `products:write`.",
            True,
        ),
        (
            "get",
            "/orders/{id}",
            [{"accessToken": []}, {"apiKey": []}],
            "For the owner or the role manager or admin. An API key needs the scope `orders:read`.",
            True,
        ),
        ("get", "/auth/sessions", [{"accessToken": []}], "For people who are logged in, not for API keys.", True),
        ("post", "/auth/login", [{}, {"accessToken": []}, {"apiKey": []}], "For anyone.", False),
    ],
)
def test_who_may_is_what_the_permission_says(document, method, path, security, who, has_403):
    operation = document["paths"][f"{PREFIX}{path}"][method]
    assert operation["security"] == security
    assert operation["description"].endswith(who)
    assert ("403" in operation["responses"]) is has_403
