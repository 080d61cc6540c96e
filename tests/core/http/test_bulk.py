"""Bulk writes over HTTP: by list, all or nothing or with a verdict for each item, and by filter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from threading import Barrier, Thread

import pytest
from sqlalchemy import text

from api.core.database.outbox import publish
from api.core.database.session import on_commit
from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.tags.schemas import TagSchema
from tests.apps import create_app
from tests.callers import OPEN
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    TagFactory,
    UserFactory,
)

PRODUCTS, BULK = "/api/v1/products", "/api/v1/products/bulk"
TAGS, ORDERS = "/api/v1/tags/bulk", "/api/v1/orders/bulk"


@pytest.fixture
def new(database):
    """`new("A", price="2.00")`: an item that makes a product."""
    del database
    category = CategoryFactory().id

    def make(sku, **values):
        return {"sku": sku, "name": f"Name of {sku}", "price": "1.00", "category_id": category, **values}

    return make


def rows(table, columns="*", where="true"):
    with db.engine.connect() as connection:
        return connection.execute(text(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY id")).all()  # noqa: S608


def column(table, name, where="true"):
    return [row[0] for row in rows(table, name, where)]


def statuses(response):
    return [item["status"] for item in response.json["items"]]


def places(response):
    """Where the problem, or each failed item, says that something is wrong."""
    found = response.json.get("errors") or [e for item in response.json["items"] for e in item.get("errors", ())]
    return [error.get("pointer", error.get("parameter")) for error in found]


# -- create


def test_a_list_is_created_with_a_verdict_for_each_item(client, new):
    response = client.post(BULK, json={"items": [new("A"), new("B")]})
    assert response.status_code == 200
    ids = column("products", "id")
    assert response.json == {
        "atomic": True,
        "dry_run": False,
        "succeeded": 2,
        "failed": 0,
        "items": [{"index": n, "status": 201, "id": id_, "version": 1} for n, id_ in enumerate(ids)],
    }


def test_five_hundred_products_take_a_handful_of_statements(client, new, statements):
    tags = [tag.id for tag in TagFactory.create_batch(3)]
    items = [new(f"S{number}", tag_ids=tags[: number % 4]) for number in range(500)]
    with statements() as counted:
        response = client.post(BULK, json={"items": items})
    assert response.json["succeeded"] == 500
    assert counted.count <= 8
    assert column("products", "count(*) OVER ()")[0] == 500


def test_all_or_nothing_lists_every_item_that_fails(client, new):
    ProductFactory(sku="TAKEN")
    items = [
        new("A"),
        new("B", price="-1.00"),
        new("taken"),
        new("C", category_id=999, tag_ids=[998]),
        {"sku": "D", "colour": "red"},
    ]
    response = client.post(BULK, json={"items": items})
    assert response.status_code == 422
    assert response.json["detail"] == "4 of 5 failed, and nothing was written."
    assert sorted(places(response)) == [
        "/items/1/price",
        "/items/2/sku",
        "/items/3/category_id",
        "/items/3/tag_ids/0",
        "/items/4/category_id",
        "/items/4/colour",
        "/items/4/name",
        "/items/4/price",
    ]
    assert column("products", "sku") == ["TAKEN"]


def test_failures_of_one_kind_keep_their_status(client, new):
    ProductFactory(sku="A")
    response = client.post(BULK, json={"items": [new("a"), new("B")]})
    assert response.status_code == 409
    assert places(response) == ["/items/0/sku"]
    assert response.json["detail"] == "1 of 2 failed, and nothing was written."


def test_each_on_its_own_writes_what_is_right_and_judges_the_rest(client, new):
    ProductFactory(sku="TAKEN")
    items = [new("A"), new("B", price="x"), new("taken"), new("C", category_id=999), new("D")]
    response = client.post(f"{BULK}?atomic=false", json={"items": items})
    assert response.status_code == 200
    assert statuses(response) == [201, 422, 409, 422, 201]
    assert (response.json["succeeded"], response.json["failed"]) == (2, 3)
    assert [item["index"] for item in response.json["items"]] == [0, 1, 2, 3, 4]
    assert places(response) == ["/items/1/price", "/items/2/sku", "/items/3/category_id"]
    assert response.json["items"][2]["detail"] == "This value is already taken."
    assert sorted(column("products", "sku")) == ["A", "D", "TAKEN"]


def test_one_value_twice_in_a_list_is_told_by_the_first(client, new):
    response = client.post(f"{BULK}?atomic=false", json={"items": [new("x"), new("B"), new("X")]})
    assert statuses(response) == [201, 201, 422]
    assert response.json["items"][2]["errors"] == [{"pointer": "/items/2/sku", "detail": "The same as in item 0."}]


def test_a_failing_item_leaves_nothing_half_written(client):
    user = UserFactory()
    product, scarce = ProductFactory(stock_quantity=10), ProductFactory(stock_quantity=1)
    lines = [{"product_id": product.id, "quantity": 3}, {"product_id": scarce.id, "quantity": 2}]
    items = [{"user_id": user.id, "items": lines}, {"user_id": user.id, "items": lines[:1]}]
    response = client.post(f"{ORDERS}?atomic=false", json={"items": items})
    assert statuses(response) == [409, 201]
    assert places(response) == ["/items/0/items/1/quantity"]
    assert column("products", "stock_quantity") == [7, 1]
    assert len(rows("order_items")) == 1


def test_users_are_created_with_hashed_passwords_and_profiles(client, statements):
    items = [
        {"username": f"user{n}", "email": f"u{n}@example.com", "password": "correct horse", "profile": {"bio": "…"}}
        for n in range(20)
    ]
    with statements() as counted:
        assert client.post("/api/v1/users/bulk", json={"items": items}).json["succeeded"] == 20
    assert counted.count <= 8
    assert all(value.startswith("$argon2id$") for value in column("users", "password_hash"))
    assert len(rows("profiles")) == 20


# -- upsert


def test_an_upsert_creates_and_changes_and_tells_which(client, new):
    ProductFactory(sku="B", stock_quantity=3, metadata_={"kept": False})
    items = [new("A"), new("b", price="7.00", metadata={"colour": "red"})]
    response = client.post(f"{BULK}?upsert=sku", json={"items": items})
    assert statuses(response) == [201, 200]
    assert response.json["items"][1]["version"] == 2
    changed = rows("products", "price, stock_quantity, metadata", "lower(sku) = 'b'")[0]
    assert (str(changed[0]), changed[1], changed[2]) == ("7.00", 3, {"colour": "red"})
    assert len(rows("products")) == 2


def test_an_upsert_takes_the_name_of_an_index(client, new):
    ProductFactory(sku="A")
    response = client.post(f"{BULK}?upsert=uq_products_sku_live", json={"items": [new("a")]})
    assert statuses(response) == [200]


def test_an_upsert_of_a_deleted_row_s_value_creates_a_live_one(client, new):
    gone = ProductFactory(sku="A")
    client.delete(f"{PRODUCTS}/{gone.id}")
    response = client.post(f"{BULK}?upsert=sku", json={"items": [new("A")]})
    assert statuses(response) == [201]
    assert response.json["items"][0]["id"] != gone.id
    assert len(rows("products", where="deleted_at IS NULL")) == 1


def test_an_upsert_sets_related_rows_for_new_and_for_old_ones(client, new):
    one, two = TagFactory(), TagFactory()
    ProductFactory(sku="B", tags=[one])
    items = [new("A", tag_ids=[two.id]), new("B", tag_ids=[two.id]), new("C")]
    client.post(f"{BULK}?upsert=sku", json={"items": items})
    shown = client.get(f"{PRODUCTS}?include=tags&fields=sku,tags.id").json["items"]
    assert {item["sku"]: item["tags"] for item in shown} == {"A": [{"id": two.id}], "B": [{"id": two.id}], "C": []}


def test_an_upsert_goes_through_a_service_with_rules_of_its_own(client):
    UserFactory(username="ada", email="old@example.com")
    made = {"password": "correct horse", "profile": {"country": "France"}}
    items = [
        {"username": "ADA", "email": "ada@example.com", **made},
        {"username": "bob", "email": "bob@example.com", **made},
    ]
    response = client.post("/api/v1/users/bulk?upsert=username", json={"items": items})
    assert statuses(response) == [200, 201]
    assert column("users", "email") == ["ada@example.com", "bob@example.com"]
    assert all(value.startswith("$argon2id$") for value in column("users", "password_hash"))
    assert column("profiles", "country") == ["France", "France"]


def test_an_upsert_judges_each_item_too(client, new):
    items = [new("A"), new("a"), new("B", price="-1.00"), new("C", category_id=999), new("D")]
    response = client.post(f"{BULK}?upsert=sku&atomic=false", json={"items": items})
    assert statuses(response) == [201, 422, 422, 422, 201]
    assert places(response) == ["/items/1/sku", "/items/2/price", "/items/3/category_id"]


@pytest.mark.parametrize(
    ("path", "upsert", "hint"),
    [
        (BULK, "skuu", "There is no unique key 'skuu'; did you mean 'sku'?"),
        (BULK, "price", "There is no unique key 'price'; possible: sku, uq_products_sku_live."),
        (BULK, "id", "There is no unique key 'id'; "),
        ("/api/v1/users/bulk", "password_hash", "There is no unique key 'password_hash'; "),
        (ORDERS, "user_id", "There is no unique key 'user_id'; possible: none."),
    ],
)
def test_an_upsert_by_what_is_no_public_unique_key_is_refused(client, new, path, upsert, hint):
    response = client.post(f"{path}?upsert={upsert}", json={"items": [new("A")]})
    assert response.status_code == 400
    assert places(response) == ["upsert"]
    assert response.json["detail"].startswith(hint)


# -- update by list


def test_a_list_of_changes_is_merged_into_its_rows(client):
    one, two = ProductFactory(metadata_={"colour": "red", "size": 1}), ProductFactory(tags=[TagFactory()])
    items = [
        {"id": two.id, "tag_ids": [], "name": "Two"},
        {"id": one.id, "version": 1, "metadata": {"colour": None, "new": True}},
    ]
    response = client.patch(BULK, json={"items": items})
    assert response.json["items"] == [
        {"index": 0, "status": 200, "id": two.id, "version": 2},
        {"index": 1, "status": 200, "id": one.id, "version": 2},
    ]
    assert column("products", "metadata")[0] == {"size": 1, "new": True}
    assert column("products", "name")[1] == "Two"
    assert client.get(f"{PRODUCTS}/{two.id}?include=tags").json["tags"] == []


def test_each_kind_of_verdict_of_a_change(client):
    products = ProductFactory.create_batch(4)
    a, b, c, d = (product.id for product in products)
    client.patch(f"{PRODUCTS}/{b}", json={"name": "changed"})
    items = [
        {"id": a, "version": 1, "name": "A"},
        {"id": b, "version": 1, "name": "B"},
        {"id": c, "price": "-1.00"},
        {"id": 999_999, "name": "nobody"},
        {"id": a, "name": "again"},
        {"name": "no id"},
        {"id": "x", "name": "wrong id"},
        {"id": d, "sku": products[0].sku.lower()},
        {"id": d, "version": 0},
    ]
    response = client.patch(f"{BULK}?atomic=false", json={"items": items})
    assert statuses(response) == [200, 412, 422, 404, 422, 422, 422, 409, 422]
    assert places(response) == [
        "/items/1/version",
        "/items/2/price",
        "/items/3/id",
        "/items/4/id",
        "/items/5/id",
        "/items/6/id",
        "/items/7/sku",
        "/items/8/version",
    ]
    assert response.json["items"][4]["detail"] == "The same as in item 0."
    assert column("products", "name")[:2] == ["A", "changed"]


def test_versions_of_a_list_are_412_when_they_are_all_that_is_wrong(client):
    product = ProductFactory()
    response = client.patch(BULK, json={"items": [{"id": product.id, "version": 7, "name": "x"}]})
    assert response.status_code == 412
    assert places(response) == ["/items/0/version"]
    assert column("products", "name") == [product.name]


def test_rules_of_a_service_hold_for_each_change(client):
    product = ProductFactory(stock_quantity=0)
    orders = [OrderFactory(status=status) for status in ("pending", "delivered", "processing")]
    for order in orders:
        OrderItemFactory(order=order, product=product, quantity=2)
    items = [{"id": str(order.id), "status": "cancelled"} for order in orders]
    response = client.patch(f"{ORDERS}?atomic=false", json={"items": items})
    assert statuses(response) == [200, 409, 200]
    assert places(response) == ["/items/1/status"]
    assert column("products", "stock_quantity") == [4]
    assert response.json["items"][0]["id"] == str(orders[0].id)


def test_what_is_given_once_cannot_be_changed(client):
    order = OrderFactory()
    response = client.patch(ORDERS, json={"items": [{"id": str(order.id), "user_id": 1}]})
    assert response.status_code == 422
    assert places(response) == ["/items/0/user_id"]


# -- delete by list


def test_a_list_of_rows_is_deleted(client):
    tags = TagFactory.create_batch(3)
    response = client.delete(TAGS, json={"items": [{"id": tags[0].id}, {"id": tags[2].id, "version": 1}]})
    assert response.json["items"] == [
        {"index": 0, "status": 204, "id": tags[0].id},
        {"index": 1, "status": 204, "id": tags[2].id},
    ]
    assert column("tags", "id", "deleted_at IS NULL") == [tags[1].id]
    assert column("tags", "id") == [tag.id for tag in tags]


def test_each_kind_of_verdict_of_a_deletion(client):
    order, open_order = OrderFactory(status="delivered"), OrderFactory(status="pending")
    items = [
        {"id": str(order.id)},
        {"id": str(open_order.id)},
        {"id": "01890a5d-ac96-774b-bcce-b302099a8057"},
        {"id": str(order.id), "version": 1},
        {"id": str(open_order.id), "name": "x"},
    ]
    response = client.delete(f"{ORDERS}?atomic=false", json={"items": items})
    assert statuses(response) == [204, 409, 404, 422, 422]
    refused = client.delete(ORDERS, json={"items": items[1:2]})
    assert refused.status_code == 409
    assert column("orders", "id", "deleted_at IS NOT NULL") == [order.id]


# -- by filter


def test_all_that_match_are_changed(client):
    books = CategoryFactory(name="Books")
    hit = ProductFactory(category=books, metadata_={"colour": "red"})
    others = [ProductFactory(category=books), ProductFactory(metadata_={"colour": "red"})]
    response = client.patch(f"{PRODUCTS}?category.name=Books&metadata.colour=red", json={"price": "5.00"})
    assert response.status_code == 200
    assert response.json == {"affected": 1, "dry_run": False}
    assert column("products", "id", "price = 5") == [hit.id]
    assert column("products", "version", f"id = {hit.id}") == [2]
    assert column("products", "version", f"id <> {hit.id}") == [1] * len(others)


def test_all_that_match_are_deleted(client):
    sale = TagFactory(name="sale")
    ProductFactory(tags=[sale], price=1)
    ProductFactory(tags=[sale], price=9)
    ProductFactory()
    response = client.delete(f"{PRODUCTS}?tags.name=sale&or=(price__lt=5,price__gt=100)")
    assert response.json == {"affected": 1, "dry_run": False}
    assert len(rows("products", where="deleted_at IS NULL")) == 2


def test_deleted_rows_never_match(client):
    tag = TagFactory(name="gone")
    client.delete(f"/api/v1/tags/{tag.id}")
    assert client.patch("/api/v1/tags?id__gt=0", json={"name": "back"}).json["affected"] == 0
    assert client.delete("/api/v1/tags?id__gt=0").json["affected"] == 0


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_write_by_filter_needs_a_filter(client, method):
    ProductFactory()
    for query in ("", "?dry_run=true", "?max_affected=5"):
        response = client.open(f"{PRODUCTS}{query}", method=method, json={"price": "1.00"})
        assert response.status_code == 400
        assert response.json["detail"].startswith("Say which rows are meant: give at least one filter")
    assert column("products", "version") == [1]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_nothing_is_written_where_more_match_than_may_be_affected(client, method):
    ProductFactory.create_batch(3)
    response = client.open(f"{PRODUCTS}?id__gt=0&max_affected=2", method=method, json={"price": "1.00"})
    assert response.status_code == 422
    assert response.json["detail"] == "More than 2 products match; nothing was written."
    assert places(response) == ["max_affected"]
    assert column("products", "version", "deleted_at IS NULL") == [1, 1, 1]
    ok = client.open(f"{PRODUCTS}?id__gt=0&max_affected=3", method=method, json={"price": "1.00"})
    assert ok.json["affected"] == 3


def test_how_many_may_be_affected_is_a_setting(settings, database):
    del database
    ProductFactory.create_batch(3)
    client = create_app(replace(settings, bulk_affected_default=2, bulk_affected_max=5)).test_client()
    assert client.delete(f"{PRODUCTS}?id__gt=0").status_code == 422
    refused = client.delete(f"{PRODUCTS}?id__gt=0&max_affected=6")
    assert refused.status_code == 400
    assert places(refused) == ["max_affected"]
    assert client.delete(f"{PRODUCTS}?id__gt=0&max_affected=5").json["affected"] == 3


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("nmae=x", "nmae"),
        ("id=1&sort=name", "sort"),
        ("id=1&limit=2", "limit"),
        ("id=1&deleted=include", "deleted"),
        ("id=1&max_affected=0", "max_affected"),
        ("id=1&dry_run=maybe", "dry_run"),
        ("id=1&dry_run=true&dry_run=false", "dry_run"),
        ("password_hash=x", "password_hash"),
    ],
)
def test_a_wrong_parameter_of_a_write_by_filter_is_named(client, query, parameter):
    for response in (client.delete(f"{PRODUCTS}?{query}"), client.patch(f"{PRODUCTS}?{query}", json={"name": "x"})):
        assert response.status_code == 400
        assert places(response) == [parameter]


def test_rules_hold_for_rows_by_filter_and_the_row_is_named(client):
    delivered = OrderFactory(status="delivered")
    OrderFactory(status="pending")
    response = client.patch("/api/v1/orders?total_amount__gt=0", json={"status": "cancelled"})
    assert response.status_code == 409
    assert response.json["detail"] == "1 of 2 failed, and nothing was written."
    assert places(response) == ["/status"]
    assert response.json["errors"][0]["detail"].startswith(f"Order {delivered.id}: After 'delivered' comes")
    assert sorted(column("orders", "status")) == ["delivered", "pending"]


# -- dry run


@pytest.mark.parametrize("atomic", ["true", "false"])
def test_a_dry_run_answers_as_the_run_would_and_leaves_nothing(client, new, atomic):
    there = ProductFactory(sku="B")
    query = f"atomic={atomic}&dry_run=true"
    created = client.post(f"{BULK}?upsert=sku&{query}", json={"items": [new("A"), new("B")]})
    assert created.json["dry_run"] is True
    assert statuses(created) == [201, 200]
    changed = client.patch(f"{BULK}?{query}", json={"items": [{"id": there.id, "name": "x"}]})
    assert changed.json["items"] == [{"index": 0, "status": 200, "id": there.id, "version": 2}]
    assert statuses(client.delete(f"{BULK}?{query}", json={"items": [{"id": there.id}]})) == [204]
    for response in (
        client.patch(f"{PRODUCTS}?sku=B&dry_run=true", json={"price": "2.00"}),
        client.delete(f"{PRODUCTS}?sku=B&dry_run=true"),
    ):
        assert response.json == {"affected": 1, "dry_run": True}
    assert rows("products", "sku, version, deleted_at") == [("B", 1, None)]


def test_a_dry_run_tells_the_same_problems(client, new):
    items = [new("A", price="-1.00")]
    wet, dry = (client.post(f"{BULK}?dry_run={flag}", json={"items": items}) for flag in ("false", "true"))
    assert dry.status_code == wet.status_code == 422
    assert dry.json == wet.json


def test_a_dry_run_calls_and_publishes_nothing_that_waits_for_the_commit(app, client, monkeypatch):
    called = []
    service = app.blueprints["tags"].service_class

    class Telling(service):
        def create(self, data):
            on_commit(self.session, lambda: called.append(data["name"]))
            publish(self.session, "tags.made", {"name": data["name"]})
            return super().create(data)

    monkeypatch.setattr(app.blueprints["tags"], "service_class", Telling)
    client.post(f"{TAGS}?dry_run=true", json={"items": [{"name": "dry"}]})
    client.post(TAGS, json={"items": [{"name": "wet"}]})
    assert called == ["wet"]
    with db.engine.connect() as connection:
        assert connection.scalars(text("SELECT payload->>'name' FROM outbox_events")).all() == ["wet"]


# -- the list itself


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/items"),
        ({"items": []}, "/items"),
        ({"items": {}}, "/items"),
        ({"items": [1]}, "/items/0"),
        ({"items": [{}], "more": 1}, "/more"),
        ([], ""),
    ],
)
def test_what_is_no_list_of_objects_is_refused_as_a_whole(client, body, pointer):
    for method in ("POST", "PATCH", "DELETE"):
        response = client.open(f"{TAGS}?atomic=false", method=method, json=body)
        assert response.status_code == 422, method
        assert places(response) == [pointer]


def test_a_list_that_is_too_long_is_refused(settings, database):
    del database
    client = create_app(replace(settings, bulk_items_max=2)).test_client()
    response = client.post(TAGS, json={"items": [{"name": str(n)} for n in range(3)]})
    assert response.status_code == 422
    assert response.json["errors"] == [{"pointer": "/items", "detail": "At most 2 items at a time; these are 3."}]
    assert rows("tags") == []


@pytest.mark.parametrize(
    ("method", "query", "parameter"),
    [
        ("POST", "atomic=yes!", "atomic"),
        ("POST", "dry_runn=true", "dry_runn"),
        ("POST", "upsert=", "upsert"),
        ("PATCH", "upsert=name", "upsert"),
        ("DELETE", "limit=1", "limit"),
        ("PATCH", "atomic=true&atomic=false", "atomic"),
    ],
)
def test_a_wrong_parameter_of_a_list_is_named(client, method, query, parameter):
    response = client.open(f"{TAGS}?{query}", method=method, json={"items": [{"name": "x"}]})
    assert response.status_code == 400
    assert places(response) == [parameter]


def views(**options):
    return {
        route.view for route in ResourceBlueprint("labels", db, Tag, TagSchema, permissions=OPEN, **options)._routes
    }


@pytest.mark.parametrize("left_out", ["bulk_create", "bulk_update", "bulk_delete", "update_where", "delete_where"])
def test_a_resource_may_leave_each_bulk_view_out(left_out):
    assert views() - views(without=(left_out,)) == {left_out}


@pytest.mark.parametrize(
    ("left_out", "along"),
    [
        ("create", {"create", "bulk_create"}),
        ("patch", {"patch", "bulk_update", "update_where"}),
        ("delete", {"delete", "bulk_delete", "delete_where"}),
    ],
)
def test_what_a_resource_does_not_do_for_one_row_it_does_not_do_for_many(left_out, along):
    assert along <= views() - views(without=(left_out,))


def test_a_resource_whose_rows_cannot_be_changed_has_no_upsert(app, client, monkeypatch):
    monkeypatch.setattr(app.blueprints["tags"], "_routes", [])
    response = client.post(f"{TAGS}?upsert=name", json={"items": [{"name": "x"}]})
    assert response.status_code == 400
    assert places(response) == ["upsert"]


def test_where_versions_are_demanded_each_item_names_one(app, client, monkeypatch):
    monkeypatch.setattr(app.blueprints["tags"], "require_if_match", True)
    one, two = TagFactory(), TagFactory()
    items = [{"id": one.id, "version": 1}, {"id": two.id}]
    response = client.delete(f"{TAGS}?atomic=false", json={"items": items})
    assert statuses(response) == [204, 428]
    assert places(response) == ["/items/1/version"]
    assert client.delete("/api/v1/tags?id__gt=0").status_code == 428
    assert client.post(f"{TAGS}?upsert=name", json={"items": [{"name": "x"}]}).status_code == 428


# -- at the same time


def at_the_same_time(app, *requests):
    """Send each request in a thread of its own, all at once; the answers in their order."""
    barrier, answers = Barrier(len(requests)), [None] * len(requests)

    def send(number, method, path, body):
        client = app.test_client()
        barrier.wait()
        answers[number] = client.open(path, method=method, json=body)

    threads = [Thread(target=send, args=(number, *request)) for number, request in enumerate(requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_lists_of_the_same_rows_in_any_order_do_not_deadlock(app, client):
    del client
    ids = [tag.id for tag in TagFactory.create_batch(30)]
    orders = [ids, ids[::-1], ids[15:] + ids[:15], sorted(ids, key=str)]
    requests = [
        ("PATCH", TAGS, {"items": [{"id": key, "name": f"{turn}-{key}"} for key in order]})
        for turn, order in enumerate(orders)
    ]
    before = deadlocks()
    answers = at_the_same_time(app, *requests)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert column("tags", "version") == [5] * 30
    assert deadlocks() == before


def deadlocks():
    with db.engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        return connection.scalar(text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))


def test_upserts_of_the_same_new_rows_create_each_once(app, client, new):
    del client
    items = [new(f"S{number}") for number in range(30)]
    before = deadlocks()
    answers = at_the_same_time(
        app,
        *(("POST", f"{BULK}?upsert=sku", {"items": order}) for order in (items, items[::-1], items[10:] + items[:10])),
    )
    assert [answer.status_code for answer in answers] == [200] * 3
    assert Counter(status for answer in answers for status in statuses(answer)) == {201: 30, 200: 60}
    assert len(rows("products")) == 30
    assert deadlocks() == before


def test_bulk_orders_never_oversell(app, client):
    del client
    user = UserFactory().id
    products = [product.id for product in ProductFactory.create_batch(3, stock_quantity=10)]
    wanted = [{"user_id": user, "items": [{"product_id": key, "quantity": 1} for key in products]} for _ in range(6)]
    backwards = [{"user_id": user, "items": order["items"][::-1]} for order in wanted]
    before = deadlocks()
    answers = at_the_same_time(
        app,
        *(("POST", f"{ORDERS}?atomic=false", {"items": items}) for items in (wanted, backwards, wanted, backwards)),
    )
    made = Counter(status for answer in answers for status in statuses(answer))
    assert made == {201: 10, 409: 14}
    assert column("products", "stock_quantity") == [0, 0, 0]
    assert len(rows("orders")) == 10
    assert deadlocks() == before


def test_an_order_list_that_does_not_fit_the_stock_takes_nothing(client):
    user, product = UserFactory(), ProductFactory(stock_quantity=5)
    items = [{"user_id": user.id, "items": [{"product_id": product.id, "quantity": 2}]} for _ in range(3)]
    response = client.post(ORDERS, json={"items": items})
    assert response.status_code == 409
    assert places(response) == ["/items/2/items/0/quantity"]
    assert column("products", "stock_quantity") == [5]
    assert client.post(ORDERS, json={"items": items[:2]}).json["succeeded"] == 2
    assert column("products", "stock_quantity") == [1]


def test_a_row_deleted_meanwhile_is_a_404_in_its_verdict(client, session):
    tags = TagFactory.create_batch(2)
    tags[0].soft_delete()
    session.commit()
    response = client.patch(f"{TAGS}?atomic=false", json={"items": [{"id": tag.id, "name": "x"} for tag in tags]})
    assert statuses(response) == [404, 200]


def test_nothing_that_is_not_public_is_shown(client, new):
    answer = client.post(BULK, json={"items": [new("A")]}).text
    assert set(Product.__table__.columns.keys()) & set(answer.split('"')) == {"id", "version"}


# -- what holds for single writes


def test_bulk_writes_are_in_the_history_of_each_row(client, new):
    key = client.post(BULK, json={"items": [new("A"), new("B")]}).json["items"][0]["id"]
    client.patch(BULK, json={"items": [{"id": key, "name": "listed"}]})
    client.patch(f"{PRODUCTS}?id={key}", json={"name": "matched"})
    client.post(f"{BULK}?upsert=sku", json={"items": [new("a", name="upserted")]})
    client.delete(BULK, json={"items": [{"id": key}]})
    entries = client.get(f"{PRODUCTS}/{key}/history?deleted=include").json["items"]
    assert [entry["version"] for entry in entries] == [5, 4, 3, 2, 1]
    assert client.get(f"{PRODUCTS}/{key}").status_code == 404


def test_a_bulk_write_is_done_once_for_one_idempotency_key(client, new):
    body, headers = {"items": [new("A")]}, {"Idempotency-Key": "bulk-1"}
    first, again = (client.post(BULK, json=body, headers=headers) for _ in range(2))
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(rows("products")) == 1
