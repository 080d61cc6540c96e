"""The products API, as its clients see it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from api.resources.products.models import product_tags
from tests.factories import CategoryFactory, ProductFactory, TagFactory

PRODUCTS = "/api/v1/products"


def url(product):
    return f"{PRODUCTS}/{product.id}"


def tags_of(client, product):
    return [tag["id"] for tag in client.get(f"{url(product)}?include=tags").json["tags"]]


def pointers(response, status=422):
    assert response.status_code == status, response.text
    return [error["pointer"] for error in response.json["errors"]]


def test_a_created_product_is_returned_as_a_read_would_show_it(client):
    category = CategoryFactory()
    body = {"sku": "MUG-1", "name": "Mug", "price": "9.9", "category_id": category.id}

    created = client.post(PRODUCTS, json=body)

    assert created.status_code == 201
    assert created.json["price"] == "9.90"
    assert client.get(created.headers["Location"]).json == created.json


def test_a_page_with_every_embed_is_one_statement(client, statements):
    ProductFactory.create_batch(3, tags=[TagFactory(), TagFactory()])

    with statements() as counted:
        page = client.get(f"{PRODUCTS}?include=category,tags").json

    assert counted.count == 1
    assert [len(item["tags"]) for item in page["items"]] == [2, 2, 2]


# -- tags


def test_tag_ids_are_taken_when_a_product_is_made(client):
    tags = TagFactory.create_batch(2)
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": CategoryFactory().id}
    created = client.post(f"{PRODUCTS}?include=tags", json=body | {"tag_ids": [tag.id for tag in tags]})
    assert [tag["id"] for tag in created.json["tags"]] == [tag.id for tag in tags]


def test_tag_ids_replace_the_tags(client):
    old, kept, new = TagFactory.create_batch(3)
    product = ProductFactory(tags=[old, kept])
    client.patch(url(product), json={"tag_ids": [new.id, kept.id]})
    assert tags_of(client, product) == [kept.id, new.id]
    client.patch(url(product), json={"tag_ids": []})
    assert tags_of(client, product) == []


def test_without_tag_ids_the_tags_stay(client):
    tag = TagFactory()
    product = ProductFactory(tags=[tag])
    client.patch(url(product), json={"name": "renamed"})
    assert tags_of(client, product) == [tag.id]


def test_a_tag_that_is_not_there_is_pointed_at_and_nothing_changes(client):
    tag = TagFactory()
    product = ProductFactory(tags=[tag])
    response = client.patch(url(product), json={"name": "renamed", "tag_ids": [4711]})
    assert pointers(response) == ["/tag_ids/0"]
    assert response.json["detail"] == "There is no tag 4711."
    assert tags_of(client, product) == [tag.id]
    assert client.get(url(product)).json["name"] != "renamed"


def test_a_deleted_tag_is_hidden_from_its_products_and_cannot_be_found_by(client):
    live, gone = TagFactory(name="live"), TagFactory(name="gone")
    product = ProductFactory(tags=[live, gone])
    client.delete(f"/api/v1/tags/{gone.id}")
    assert tags_of(client, product) == [live.id]
    assert client.get(f"{PRODUCTS}?tags.name=gone").json["items"] == []
    assert len(client.get(f"{PRODUCTS}?tags.name=live").json["items"]) == 1


def test_a_restored_tag_is_back_at_its_products(client):
    tag = TagFactory()
    product = ProductFactory(tags=[tag])
    client.delete(f"/api/v1/tags/{tag.id}")
    client.post(f"/api/v1/tags/{tag.id}/restore")
    assert tags_of(client, product) == [tag.id]


def test_an_association_knows_when_it_was_made_and_keeps_it(client, session):
    kept, new = TagFactory(), TagFactory()
    product = ProductFactory(tags=[kept])
    session.execute(text("UPDATE product_tags SET created_at = '2020-01-01Z'"))
    session.commit()
    client.patch(url(product), json={"tag_ids": [kept.id, new.id]})
    years = select(text("extract(year FROM created_at)::int")).select_from(product_tags).order_by(product_tags.c.tag_id)
    assert session.scalars(years).all()[0] == 2020
    recent = text("SELECT now() - created_at < interval '1 minute' FROM product_tags ORDER BY tag_id")
    assert session.scalars(recent).all() == [False, True]


# -- categories


@pytest.mark.parametrize("deleted", [False, True])
def test_a_category_that_is_not_there_is_pointed_at(client, deleted):
    key = 4711
    if deleted:
        key = CategoryFactory().id
        client.delete(f"/api/v1/categories/{key}")
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": key}
    response = client.post(PRODUCTS, json=body)
    assert pointers(response) == ["/category_id"]
    assert response.json["detail"] == f"There is no category {key}."
    assert pointers(client.patch(url(ProductFactory()), json={"category_id": key})) == ["/category_id"]


def test_a_deleted_category_takes_its_products_along_and_brings_them_back(client):
    product = ProductFactory()
    category = f"/api/v1/categories/{product.category_id}"
    client.delete(category)
    assert client.get(url(product)).status_code == 404
    assert client.patch(url(product), json={"name": "renamed"}).status_code == 404
    client.post(f"{category}/restore")
    assert client.get(url(product)).json["deleted_at"] is None


# -- skus


def test_a_sku_is_unique_among_live_products_in_any_case(client):
    product = ProductFactory(sku="MUG-1")
    body = {"sku": "mug-1", "name": "Mug", "price": "1.00", "category_id": product.category_id}
    assert pointers(client.post(PRODUCTS, json=body), 409) == ["/sku"]
    client.delete(url(product))
    assert client.post(PRODUCTS, json=body).status_code == 201
    assert pointers(client.post(f"{url(product)}/restore"), 409) == ["/sku"]


def test_a_product_may_keep_its_own_sku(client):
    product = ProductFactory(sku="MUG-1")
    assert client.patch(url(product), json={"sku": "mug-1"}).json["sku"] == "mug-1"


def test_the_database_refuses_metadata_that_is_no_object(session):
    product = ProductFactory()
    with pytest.raises(IntegrityError, match="ck_products_metadata_object"):
        session.execute(text("UPDATE products SET metadata = '[1]' WHERE id = :id"), {"id": product.id})
    session.rollback()
