"""Deletion over HTTP: what hangs on a deleted row is out of reach on every way, and comes back with it."""

from __future__ import annotations

import pytest

from api.core.access.policy import Policy
from api.core.access.predicates import anyone, role
from api.core.http.blueprint import ResourceBlueprint
from api.core.http.schema import BaseSchema, auto_field
from api.extensions import db
from api.resources.tags.models import Tag
from tests.callers import OPEN
from tests.factories import CategoryFactory, OrderFactory, OrderItemFactory, ProductFactory, TagFactory, UserFactory

API = "/api/v1"
PRODUCTS = f"{API}/products"


@pytest.fixture
def product(database):
    """A product whose category has been deleted over HTTP."""
    tag = TagFactory(name="sale")
    product = ProductFactory(sku="MUG", name="Mug", category=CategoryFactory(name="Kitchen"), tags=[tag])
    assert database.test_client().delete(f"{API}/categories/{product.category_id}").status_code == 204
    return product


def names(response):
    assert response.status_code == 200, response.json
    return [item["name"] for item in response.json["items"]]


# -- out of reach


@pytest.mark.parametrize("method", ["get", "patch", "put", "delete"])
def test_a_child_of_a_deleted_row_is_not_found_at_its_own_url(client, product, method):
    body = {"sku": "MUG", "name": "Mug", "price": "1.00", "category_id": CategoryFactory().id}
    response = client.open(f"{PRODUCTS}/{product.id}", method=method, json=body if method in {"put", "patch"} else None)
    assert response.status_code == 404
    assert response.json["detail"] == f"There is no product {product.id}."


@pytest.mark.parametrize(
    "query", ["", "?name=Mug", "?category.name=Kitchen", "?tags.name=sale", "?or=(sku=MUG,price__gt=0)", "?page=1"]
)
@pytest.mark.usefixtures("product")
def test_a_child_of_a_deleted_row_is_in_no_list_and_found_by_no_filter(client, query):
    assert names(client.get(f"{PRODUCTS}{query}")) == []


@pytest.mark.usefixtures("product")
def test_a_child_of_a_deleted_row_does_not_count(client):
    assert client.get(f"{PRODUCTS}?count=exact").json["total"] == 0


def test_a_child_of_a_deleted_row_is_embedded_nowhere_and_cannot_be_found_by(client, product):
    order = OrderItemFactory(order=OrderFactory(), product=product).order
    shown = client.get(f"{API}/orders/{order.id}?include=items.product").json
    assert [item["product"] for item in shown["items"]] == [None]


@pytest.mark.usefixtures("product")
def test_a_child_of_a_deleted_row_is_shown_to_who_asks_for_deleted_rows(client):
    assert names(client.get(f"{PRODUCTS}?deleted=only")) == ["Mug"]
    assert names(client.get(f"{PRODUCTS}?deleted=include")) == ["Mug"]


def test_nothing_new_can_be_put_below_a_deleted_row(client, product):
    body = {"sku": "NEW", "name": "New", "price": "1.00", "category_id": product.category_id}
    response = client.post(PRODUCTS, json=body)
    assert (response.status_code, response.json["errors"][0]["pointer"]) == (422, "/category_id")
    elsewhere = ProductFactory()
    response = client.patch(f"{PRODUCTS}/{elsewhere.id}", json={"category_id": product.category_id})
    assert (response.status_code, response.json["errors"][0]["pointer"]) == (422, "/category_id")


# -- and back


def test_a_restored_row_brings_back_what_was_deleted_with_it_and_nothing_else(client, product):
    other = ProductFactory(name="Gone before", category=CategoryFactory(name="Garden"))
    category = f"{API}/categories/{other.category_id}"
    ProductFactory(name="Spade", category=other.category)
    client.delete(f"{PRODUCTS}/{other.id}")
    client.delete(category)
    assert client.post(f"{category}/restore").status_code == 200
    assert names(client.get(PRODUCTS)) == ["Spade"]
    assert client.post(f"{API}/categories/{product.category_id}/restore").status_code == 200
    assert sorted(names(client.get(PRODUCTS))) == ["Mug", "Spade"]


def test_a_child_of_a_deleted_row_cannot_be_restored_alone(client, product):
    response = client.post(f"{PRODUCTS}/{product.id}/restore")
    assert response.status_code == 409
    assert response.json["errors"] == [
        {
            "pointer": "/category_id",
            "detail": f"The category {product.category_id} is deleted; restore it first.",
        }
    ]


def test_a_restore_onto_a_name_that_a_child_has_lost_names_the_field(client, product):
    ProductFactory(sku="mug", name="Usurper")
    response = client.post(f"{API}/categories/{product.category_id}/restore")
    assert response.status_code == 409
    assert response.json["errors"] == [
        {"pointer": "/products/sku", "detail": "The sku of one of its products is already taken."}
    ]
    assert names(client.get(PRODUCTS)) == ["Usurper"]


def test_delete_recreate_and_restore_leave_one_live_row(client):
    body = {"name": "Kitchen"}
    first = client.post(f"{API}/categories", json=body).headers["Location"]
    client.delete(first)
    assert client.post(f"{API}/categories", json=body).status_code == 201
    response = client.post(f"{first}/restore")
    assert (response.status_code, response.json["errors"][0]["pointer"]) == (409, "/name")
    assert client.get(f"{API}/categories?name=Kitchen&count=exact").json["total"] == 1


def test_the_version_of_a_child_moves_with_its_deletion(client):
    product = ProductFactory()
    url, category = f"{PRODUCTS}/{product.id}", f"{API}/categories/{product.category_id}"
    before = client.get(url).headers["ETag"]
    client.delete(category)
    client.post(f"{category}/restore")
    assert client.patch(url, json={"name": "x"}, headers={"If-Match": before}).status_code == 412


# -- what must not be deleted


def test_a_user_with_an_open_order_cannot_be_deleted_and_the_order_is_named(client):
    order = OrderFactory(status="pending")
    response = client.delete(f"{API}/users/{order.user_id}")
    assert response.status_code == 409
    assert response.json["detail"] == f"Order {order.id} is pending and holds stock; cancel it first."
    assert client.get(f"{API}/users/{order.user_id}").status_code == 200


def test_a_user_whose_orders_are_finished_takes_them_along(client):
    order = OrderFactory(status="delivered", user=UserFactory())
    assert client.delete(f"{API}/users/{order.user_id}").status_code == 204
    assert client.get(f"{API}/orders/{order.id}").status_code == 404
    client.post(f"{API}/users/{order.user_id}/restore")
    assert client.get(f"{API}/orders/{order.id}").status_code == 200


# -- who may see deleted rows


class _LabelSchema(BaseSchema):
    """A tag under another name."""

    class Meta(BaseSchema.Meta):
        model = Tag

    id = auto_field(dump_only=True)
    name = auto_field()


@pytest.fixture
def labels_of(database, client_of):
    """`labels_of(permissions=…)`: a client of a resource with a live and a deleted row."""
    del database
    TagFactory(name="live")
    TagFactory(name="gone").soft_delete()
    db.session.commit()
    return lambda **options: client_of(ResourceBlueprint("labels", db, Tag, _LabelSchema, **options))


LABELS = f"{API}/labels"


def seen_by(predicate):
    """A policy that shows deleted rows to whom `predicate` holds of; to nobody, with None."""
    permissions = {**OPEN.permissions, "see_deleted": predicate}
    return Policy({name: rule for name, rule in permissions.items() if rule is not None})


def test_deleted_rows_can_be_asked_for_where_the_resource_allows_it(labels_of):
    assert names(labels_of(permissions=seen_by(anyone)).get(f"{LABELS}?deleted=only")) == ["gone"]


@pytest.mark.parametrize("predicate", [None, role("archivist")])
@pytest.mark.parametrize("path", [f"{LABELS}?deleted=only", f"{LABELS}/1?deleted=include"])
def test_where_it_does_not_there_is_no_such_parameter(labels_of, predicate, path):
    response = labels_of(permissions=seen_by(predicate)).get(path)
    assert response.status_code == 400
    assert response.json["errors"][0]["parameter"] == "deleted"
    assert "There is no parameter 'deleted'" in response.json["detail"]


@pytest.mark.parametrize(("predicate", "documented"), [(anyone, True), (None, False), (role("archivist"), True)])
def test_the_document_has_the_parameter_where_somebody_may_use_it(labels_of, predicate, documented):
    paths = labels_of(permissions=seen_by(predicate)).get("/openapi.json").json["paths"]
    listed = {parameter["name"] for parameter in paths[LABELS]["get"]["parameters"]}
    assert ("deleted" in listed) is documented


def test_a_deleted_row_can_be_restored_by_who_cannot_see_it(labels_of):
    client = labels_of(permissions=seen_by(None))
    key = db.session.scalars(db.select(Tag.id).where(Tag.name == "gone").execution_options(include_deleted=True)).one()
    assert client.post(f"{LABELS}/{key}/restore").json["name"] == "gone"
