"""The generic views: PUT replaces, PATCH merges, and a write answers as a read would."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from api.extensions import db
from api.resources.orders.models import Order
from api.resources.users.models import User
from tests.apps import create_app
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    ProductFactory,
    ProfileFactory,
    RoleFactory,
    TagFactory,
    UserFactory,
)

PRODUCTS = "/api/v1/products"


# -- PUT


def test_a_put_sets_what_is_missing_to_its_default_or_null(client):
    product = ProductFactory(description="Long.", stock_quantity=7, metadata_={"colour": "blue"})
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": product.category_id}
    replaced = client.put(f"{PRODUCTS}/{product.id}", json=body).json
    assert {name: replaced[name] for name in body} == body
    assert (replaced["description"], replaced["stock_quantity"], replaced["metadata"]) == (None, 0, {})


def test_a_put_of_a_user_makes_it_active_again_when_it_does_not_say(client):
    user = UserFactory(is_active=False)
    body = {"username": "ada", "email": "ada@example.com", "password": "correct horse"}
    assert client.put(f"/api/v1/users/{user.id}", json=body).json["is_active"] is True


def test_a_put_keeps_what_the_server_sets(client):
    category = CategoryFactory()
    before = client.get(f"/api/v1/categories/{category.id}").json
    after = client.put(f"/api/v1/categories/{category.id}", json={"name": "Books"}).json
    assert after["id"] == before["id"]
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["updated_at"]


def test_a_put_needs_everything_that_a_new_row_needs(client):
    response = client.put(f"{PRODUCTS}/{ProductFactory().id}", json={"name": "Mug"})
    assert response.status_code == 422
    assert {error["pointer"] for error in response.json["errors"]} == {"/sku", "/price", "/category_id"}


def test_a_put_makes_no_row(client):
    response = client.put("/api/v1/tags/4711", json={"name": "new"})
    assert response.status_code == 404
    assert client.get("/api/v1/tags").json["items"] == []


def test_a_put_without_related_keys_removes_the_related_rows(client):
    product = ProductFactory(tags=[TagFactory()])
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": product.category_id}
    assert client.put(f"{PRODUCTS}/{product.id}?include=tags", json=body).json["tags"] == []


def test_a_put_without_a_profile_removes_it_and_one_with_a_profile_replaces_it(client):
    url = f"/api/v1/users/{ProfileFactory(full_name='Ada', country='France').user_id}?include=profile"
    body = {"username": "ada", "email": "ada@example.com", "password": "correct horse"}
    replaced = client.put(url, json=body | {"profile": {"country": "Spain"}}).json["profile"]
    assert replaced == {"full_name": None, "phone": None, "country": "Spain", "bio": None}
    assert client.put(url, json=body).json["profile"] is None


def test_the_default_of_a_document_is_not_shared(client):
    orders = [OrderFactory(metadata_={"n": n}, status="delivered") for n in range(2)]
    for order in orders:
        client.put(f"/api/v1/orders/{order.id}", json={"status": "delivered"})
    client.patch(f"/api/v1/orders/{orders[0].id}", json={"metadata": {"changed": True}})
    assert client.get(f"/api/v1/orders/{orders[1].id}").json["metadata"] == {}


# -- PATCH


def test_a_patch_can_set_null(client):
    category = CategoryFactory(description="Long.")
    assert client.patch(f"/api/v1/categories/{category.id}", json={"description": None}).json["description"] is None


def test_a_put_replaces_a_document_as_a_whole(client):
    url = f"{PRODUCTS}/{ProductFactory(metadata_={'colour': 'blue', 'size': 1}).id}"
    row = client.get(f"{url}?fields=sku,name,price,category_id").json
    assert client.put(url, json={**row, "metadata": {"colour": "red"}}).json["metadata"] == {"colour": "red"}


@pytest.mark.parametrize("body", [{}, {"name": "same"}])
def test_a_patch_that_changes_nothing_leaves_version_and_time_alone(client, body):
    url = f"/api/v1/tags/{TagFactory(name='same').id}"
    before = client.get(url)
    after = client.patch(url, json=body)
    assert after.status_code == 200
    assert after.json == before.json
    assert after.headers["ETag"] == before.headers["ETag"]


def test_a_patch_to_the_same_related_rows_changes_nothing(client):
    tag = TagFactory()
    product = ProductFactory(tags=[tag])
    before = client.get(f"{PRODUCTS}/{product.id}").json
    assert client.patch(f"{PRODUCTS}/{product.id}", json={"tag_ids": [tag.id]}).json == before


# -- what a write shows


def test_a_write_shows_the_fields_and_relations_that_it_is_asked_for(client):
    category = CategoryFactory(name="Kitchen")
    query = "?include=category&fields=id,category.name"
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": category.id}
    created = client.post(f"{PRODUCTS}{query}", json=body)
    expected = {"id": created.json["id"], "category": {"name": "Kitchen"}}
    assert created.json == expected
    url = created.headers["Location"] + query
    assert client.patch(url, json={"name": "Cup"}).json == expected
    assert client.put(url, json=body).json == expected
    assert client.get(url).json == expected


def test_a_restore_shows_what_it_is_asked_for(client):
    tag = TagFactory(name="sale")
    client.delete(f"/api/v1/tags/{tag.id}")
    assert client.post(f"/api/v1/tags/{tag.id}/restore?fields=name").json == {"name": "sale"}


def test_what_a_write_cannot_show_is_refused_before_anything_is_written(client):
    response = client.post("/api/v1/tags?include=nothing", json={"name": "new"})
    assert response.status_code == 400
    assert client.get("/api/v1/tags").json["items"] == []


@pytest.mark.parametrize("parameter", ["deleted=include", "sort=id", "limit=1", "name=x", "count=exact"])
def test_a_write_refuses_the_parameters_of_a_list(client, parameter):
    tag = TagFactory()
    for response in (
        client.post(f"/api/v1/tags?{parameter}", json={"name": "new"}),
        client.patch(f"/api/v1/tags/{tag.id}?{parameter}", json={"name": "new"}),
        client.delete(f"/api/v1/tags/{tag.id}?{parameter}"),
        client.post(f"/api/v1/tags/{tag.id}/restore?{parameter}"),
    ):
        assert response.status_code == 400, response.request.path
        assert [error["parameter"] for error in response.json["errors"]] == [parameter.partition("=")[0]]


# -- addresses


def test_a_location_is_found_below_a_prefix_of_the_server(client):
    response = client.post("/api/v1/tags", json={"name": "new"}, base_url="http://shop.example/backend")
    assert response.headers["Location"] == f"/backend/api/v1/tags/{response.json['id']}"


def test_a_key_is_shown_as_it_is_asked_for(client):
    order = OrderFactory()
    assert client.get(f"/api/v1/orders/{str(order.id).upper()}").json["id"] == str(order.id)


def test_a_not_found_says_what_is_missing(client):
    assert client.get("/api/v1/categories/4711").json["detail"] == "There is no category 4711."
    assert client.delete("/api/v1/users/4711").json["detail"] == "There is no user 4711."


# -- one transaction


def test_a_write_that_fails_leaves_nothing_behind(client, session):
    user, product = UserFactory(), ProductFactory(stock_quantity=1)
    items = [{"product_id": product.id, "quantity": 1}, {"product_id": product.id, "quantity": 1}]
    assert client.post("/api/v1/orders", json={"user_id": user.id, "items": items}).status_code == 409
    session.refresh(product)
    assert product.stock_quantity == 1
    assert session.query(Order).count() == 0


def test_a_request_leaves_no_connection_behind(client, session):
    role = RoleFactory()
    session.remove()
    client.post("/api/v1/tags", json={"name": "a"})
    client.post("/api/v1/tags", json={"name": "A"})
    client.get("/api/v1/tags?nonsense=1")
    client.get(f"/api/v1/roles/{role.id}")
    assert db.engine.pool.checkedout() == 0


# -- logs


def test_no_log_shows_a_password_or_its_hash(settings, session, capfd):
    client = create_app(replace(settings, log_level="DEBUG")).test_client()
    body = {"username": "ada", "email": "ada@example.com", "password": "correct horse battery"}
    assert client.post("/api/v1/users", json=body).status_code == 201
    assert client.post("/api/v1/users", json=body).status_code == 409
    assert client.post("/api/v1/users", json=body | {"email": "nobody"}).status_code == 422
    assert session.scalar(select(User.password_hash)).startswith("$argon2id$")
    captured = capfd.readouterr()
    logged = captured.out + captured.err
    assert logged.count("POST /api/v1/users") >= 3
    assert "correct horse" not in logged
    assert "argon2" not in logged
