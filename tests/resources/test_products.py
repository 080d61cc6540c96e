"""The products API, as its clients see it."""

from tests.factories import CategoryFactory, ProductFactory, TagFactory


def test_a_created_product_is_returned_as_a_read_would_show_it(client):
    category = CategoryFactory()
    body = {"sku": "MUG-1", "name": "Mug", "price": "9.9", "category_id": category.id}

    created = client.post("/api/v1/products", json=body)

    assert created.status_code == 201
    assert created.json["price"] == "9.90"
    assert client.get(created.headers["Location"]).json == created.json


def test_a_page_with_every_embed_is_one_statement(client, statements):
    ProductFactory.create_batch(3, tags=[TagFactory(), TagFactory()])

    with statements() as counted:
        page = client.get("/api/v1/products?include=category,tags").json

    assert counted.count == 1
    assert [len(item["tags"]) for item in page["items"]] == [2, 2, 2]
