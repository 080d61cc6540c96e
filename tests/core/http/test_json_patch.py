"""Changing a JSON document: merge by default, JSON Patch where a client sends one."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.core.errors import ConflictError, InvalidError
from api.core.http.json_patch import json_patch
from api.resources.products.models import Product
from api.resources.products.schemas import ProductSchema
from tests.factories import ProductFactory, TagFactory, UserFactory

DOCUMENT = {"colour": "blue", "size": {"width": 5, "height": 7}, "labels": ["a", "b"]}


@pytest.fixture
def url(client):
    """The address of a product with a document."""
    del client
    return f"/api/v1/products/{ProductFactory(name='Mug', price=Decimal('12.50'), metadata_=DOCUMENT).id}"


def patched(client, url, *operations, **kwargs):
    return client.patch(url, data=json.dumps(operations), content_type="application/json-patch+json", **kwargs)


def problems(response, status):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    return {error.get("pointer"): error["detail"] for error in response.json.get("errors", [])}


# -- merge


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
def test_a_patch_is_merged_into_a_document(client, url, content_type):
    change = {"metadata": {"colour": None, "size": {"width": 6}, "labels": ["c"], "new": {"a": None, "b": 1}}}
    response = client.patch(url, data=json.dumps(change), content_type=content_type)
    assert response.json["metadata"] == {"size": {"width": 6, "height": 7}, "labels": ["c"], "new": {"b": 1}}
    assert client.get(url).json["metadata"] == response.json["metadata"]


def test_a_merge_that_changes_nothing_leaves_the_version_alone(client, url):
    response = client.patch(url, json={"metadata": {"size": {"width": 5}, "missing": None}})
    assert response.json["version"] == 1


def test_a_change_from_a_number_to_a_truth_value_is_a_change(client, url):
    client.patch(url, json={"metadata": {"size": 1}})
    assert client.patch(url, json={"metadata": {"size": True}}).json["metadata"]["size"] is True
    assert client.get(url).json["metadata"]["size"] is True


def test_null_for_the_document_as_a_whole_is_refused(client, url):
    assert problems(client.patch(url, json={"metadata": None}), 422) == {"/metadata": "Field may not be null."}


# -- JSON Patch


def test_operations_are_done_one_after_the_other(client, url):
    response = patched(
        client,
        url,
        {"op": "test", "path": "/metadata/colour", "value": "blue"},
        {"op": "replace", "path": "/metadata/size/width", "value": 6},
        {"op": "add", "path": "/metadata/labels/-", "value": "c"},
        {"op": "add", "path": "/metadata/labels/0", "value": "first"},
        {"op": "remove", "path": "/metadata/labels/1"},
        {"op": "move", "from": "/metadata/size/height", "path": "/metadata/height"},
        {"op": "copy", "from": "/name", "path": "/description"},
        {"op": "replace", "path": "/price", "value": "13.00"},
    )
    assert response.status_code == 200, response.text
    assert response.json["metadata"] == {
        "colour": "blue",
        "size": {"width": 6},
        "height": 7,
        "labels": ["first", "b", "c"],
    }
    assert (response.json["description"], response.json["price"], response.json["version"]) == ("Mug", "13.00", 2)
    assert response.headers["ETag"] == client.get(url).headers["ETag"]


def test_a_patch_that_changes_nothing_leaves_the_version_alone(client, url):
    response = patched(client, url, {"op": "replace", "path": "/name", "value": "Mug"})
    assert (response.status_code, response.json["version"]) == (200, 1)
    assert patched(client, url).json["version"] == 1


def test_a_nullable_field_that_is_removed_is_null_afterwards(client, url):
    client.patch(url, json={"description": "blue"})
    assert patched(client, url, {"op": "remove", "path": "/description"}).json["description"] is None


def test_a_field_that_cannot_be_null_cannot_be_removed(client, url):
    response = patched(client, url, {"op": "remove", "path": "/name"})
    assert problems(response, 422) == {"/name": "Field may not be null."}


def test_a_reference_can_be_written_though_it_cannot_be_read(client, url):
    tag = TagFactory()
    response = patched(client, f"{url}?include=tags", {"op": "add", "path": "/tag_ids", "value": [tag.id]})
    assert [item["id"] for item in response.json["tags"]] == [tag.id]


def test_a_test_that_fails_is_a_conflict_and_nothing_is_changed(client, url):
    response = patched(
        client,
        url,
        {"op": "replace", "path": "/metadata/colour", "value": "red"},
        {"op": "test", "path": "/metadata/size", "value": 1},
    )
    assert problems(response, 409) == {"/1/value": "The resource has another value there."}
    assert client.get(url).json["metadata"] == DOCUMENT


def test_the_result_is_checked_as_any_change_is(client, url):
    response = patched(client, url, {"op": "add", "path": "/price", "value": "-1.00"})
    assert problems(response, 422) == {"/price": "Must be greater than or equal to 0."}


@pytest.mark.parametrize(
    ("operation", "pointer"),
    [
        ({"op": "remove", "path": "/metadata/absent"}, "/0/path"),
        ({"op": "replace", "path": "/absent", "value": 1}, "/0/path"),
        ({"op": "add", "path": "/metadata/labels/9", "value": 1}, "/0/path"),
        ({"op": "add", "path": "/name/x", "value": 1}, "/0/path"),
        ({"op": "add", "path": "name", "value": 1}, "/0/path"),
        ({"op": "copy", "from": "/absent", "path": "/name"}, "/0/from"),
        ({"op": "move", "from": "/metadata", "path": "/metadata/inside"}, "/0/from"),
        ({"op": "remove", "path": "/id"}, "/0/path"),
        ({"op": "replace", "path": "", "value": 1}, "/0/path"),
    ],
)
def test_an_operation_that_leads_nowhere_is_pointed_at(client, url, operation, pointer):
    assert set(problems(patched(client, url, operation), 422)) == {pointer}
    assert client.get(url).json["version"] == 1


@pytest.mark.parametrize("field", ["id", "version", "deleted_at", "colour"])
def test_what_a_client_may_not_write_is_an_unknown_field(client, url, field):
    response = patched(client, url, {"op": "add", "path": f"/{field}", "value": 1})
    assert problems(response, 422)[f"/{field}"].startswith("Unknown field")


def test_what_nobody_may_see_is_not_there_to_be_tested(client):
    url = f"/api/v1/users/{UserFactory(password_hash='secret').id}"
    for path in ("/password_hash", "/password"):
        response = patched(client, url, {"op": "test", "path": path, "value": "secret"})
        assert response.status_code == 409
        copied = patched(client, url, {"op": "copy", "from": path, "path": "/username"})
        assert set(problems(copied, 422)) == {"/0/from"}


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        ({}, {None}),
        ([1], {"/0"}),
        ([{}], {"/0/op"}),
        ([{"op": "delete", "path": "/name"}], {"/0/op"}),
        ([{"op": ["add"], "path": "/name"}], {"/0/op"}),
        ([{"op": "add"}], {"/0/path", "/0/value"}),
        ([{"op": "copy", "path": "/name"}], {"/0/from"}),
        ([{"op": "remove", "path": 1}], {"/0/path"}),
        ([{"op": "remove", "path": "/name"}] * 101, {None}),
    ],
)
def test_a_patch_that_is_not_well_formed_says_where(client, url, content, pointers):
    response = client.patch(url, data=json.dumps(content), content_type="application/json-patch+json")
    found = problems(response, 422)
    assert (set(found) or {None}) == pointers


def test_a_document_cannot_be_doubled_without_end(client, url):
    doubling = [{"op": "copy", "from": "/metadata", "path": f"/metadata/copy{number}"} for number in range(40)]
    response = patched(client, url, *doubling)
    assert response.status_code == 422
    assert client.get(url).json["version"] == 1


@pytest.mark.parametrize("levels", [33, 300, 1000])
def test_a_value_that_is_nested_too_deeply_is_refused(client, url, levels):
    deep = '{"a":' * levels + "1" + "}" * levels
    content = f'[{{"op": "add", "path": "/metadata/deep", "value": {deep}}}]'
    response = client.patch(url, data=content, content_type="application/json-patch+json")
    assert "nested" in "".join(problems(response, 400).values())


def test_a_result_that_is_nested_too_deeply_is_refused(client, url):
    deep = json.loads('{"a":' * 20 + "1" + "}" * 20)
    operations = [
        {"op": "add", "path": "/metadata/deep", "value": deep},
        {"op": "copy", "from": "/metadata/deep", "path": "/metadata/deep" + "/a" * 20},
    ]
    response = client.patch(url, data=json.dumps(operations), content_type="application/json-patch+json")
    assert problems(response, 422) == {"/metadata": "Must not be nested deeper than 32 levels."}


def test_an_integer_beyond_64_bits_is_kept_with_all_its_digits(client, url):
    large = 123456789012345678901234567890
    response = patched(client, url, {"op": "add", "path": "/metadata/serial", "value": large})
    assert response.json["metadata"]["serial"] == large
    assert patched(client, url, {"op": "replace", "path": "/name", "value": "Cup"}).json["metadata"]["serial"] == large


def test_an_integer_that_no_field_can_hold_is_pointed_at(client, url):
    response = patched(client, url, {"op": "replace", "path": "/category_id", "value": 10**30})
    assert "/category_id" in problems(response, 422)


def test_the_tag_is_checked_before_the_operations(client, url):
    response = patched(client, url, {"op": "remove", "path": "/absent"}, headers={"If-Match": '"0-1"'})
    assert response.status_code == 412


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_only_a_patch_takes_operations(client, url, method):
    place = url if method == "PUT" else "/api/v1/products"
    response = client.open(place, method=method, data="[]", content_type="application/json-patch+json")
    assert response.status_code == 415
    assert response.headers["Accept"] == "application/json"


def test_a_body_of_another_type_is_told_which_a_patch_may_have(client, url):
    response = client.patch(url, data="<x/>", content_type="text/xml")
    assert response.status_code == 415
    assert response.headers["Accept-Patch"] == (
        "application/json, application/merge-patch+json, application/json-patch+json"
    )


POINTERS = st.lists(
    st.sampled_from(["metadata", "name", "colour", "size", "labels", "0", "1", "-", "~0", "~", "", "01"]), max_size=4
).map(lambda parts: "".join(f"/{part}" for part in parts))
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS, "from": POINTERS},
    optional={"value": st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)},
)


@given(st.lists(OPERATIONS, max_size=6))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_operations_either_make_a_valid_change_or_say_what_is_wrong(operations):
    product = Product(sku="A", name="Mug", price=Decimal("12.50"), stock_quantity=1, category_id=1, metadata_=DOCUMENT)
    schema = ProductSchema(variant="patch")
    try:
        changes = json_patch(operations).changes(schema, product)
    except (ConflictError, InvalidError):
        changes = {}
    assert set(changes) <= {*schema.load_fields, "metadata_"}
    assert product.metadata_ == DOCUMENT
