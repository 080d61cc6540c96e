"""Categories, roles and tags: names that others refer to."""

from __future__ import annotations

import pytest

from tests.factories import CategoryFactory, ProductFactory, RoleFactory, TagFactory, UserFactory


@pytest.mark.parametrize("resource", ["categories", "roles", "tags"])
def test_a_name_is_unique_among_live_rows_in_any_case(client, resource):
    path = f"/api/v1/{resource}"
    first = client.post(path, json={"name": "Sale"})
    taken = client.post(path, json={"name": "SALE"})
    assert (taken.status_code, taken.json["errors"][0]["pointer"]) == (409, "/name")
    client.delete(first.headers["Location"])
    assert client.post(path, json={"name": "sale"}).status_code == 201


@pytest.mark.parametrize("resource", ["categories", "roles", "tags"])
@pytest.mark.parametrize("name", ["", None, 5, "x" * 101, "a\0"])
def test_a_name_that_is_none_is_refused(client, resource, name):
    response = client.post(f"/api/v1/{resource}", json={"name": name})
    assert (response.status_code, response.json["errors"][0]["pointer"]) == (422, "/name")


@pytest.mark.parametrize(
    ("factory", "resource", "refer"),
    [
        (CategoryFactory, "categories", lambda row: ProductFactory(category=row)),
        (TagFactory, "tags", lambda row: ProductFactory(tags=[row])),
        (RoleFactory, "roles", lambda row: UserFactory(roles=[row])),
    ],
)
def test_what_others_refer_to_can_be_deleted_and_restored(client, factory, resource, refer):
    row = factory()
    refer(row)
    url = f"/api/v1/{resource}/{row.id}"
    assert client.delete(url).status_code == 204
    assert client.post(f"{url}/restore").status_code == 200


def test_a_description_may_be_long_but_not_without_end(client):
    assert client.post("/api/v1/categories", json={"name": "a", "description": "x" * 10_000}).status_code == 201
    assert client.post("/api/v1/categories", json={"name": "b", "description": "x" * 10_001}).status_code == 422
    assert client.post("/api/v1/roles", json={"name": "a", "description": "x" * 501}).status_code == 422
