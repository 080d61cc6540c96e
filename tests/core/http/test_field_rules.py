"""Rules about fields: what a caller may not read is nowhere, what they may not set is refused at its place."""

from __future__ import annotations

import pytest

from api.app import API_PREFIX
from api.core.access.caller import Caller
from api.core.access.policy import PERMISSIONS, Policy
from api.core.access.predicates import authenticated, role
from api.core.http.blueprint import ALL_VIEWS, ResourceBlueprint
from api.extensions import db
from api.resources.products.models import Product
from api.resources.products.schemas import ProductSchema
from tests.apps import create_app
from tests.callers import as_caller
from tests.factories import CategoryFactory, OrderFactory, OrderItemFactory, ProductFactory, UserFactory

URL = "/api/v1/goods"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"
HIDDEN = ("price", "description", "metadata", "category")

manager = role("manager")


class GoodSchema(ProductSchema):
    """A product under another name."""


POLICY = Policy(
    dict.fromkeys(PERMISSIONS, authenticated),
    readable=dict.fromkeys(HIDDEN, manager),
    writable={"stock_quantity": manager, "tag_ids": manager},
)
SOMEBODY = Caller("user:1", 1)
MANAGER = Caller("user:2", 2, frozenset({"manager"}))


def goods(policy=POLICY, **options):
    return ResourceBlueprint(
        "goods",
        db,
        Product,
        GoodSchema,
        permissions=policy,
        filters=("category.name", "tags.name"),
        sorts=("name", "price", "category.name", "metadata"),
        includes=("category", "tags"),
        **options,
    )


def application(settings, blueprint):
    app = create_app(settings)
    app.extensions["flask-smorest"]["apis"][""]["ext_obj"].register_blueprint(
        blueprint, url_prefix=f"{API_PREFIX}{blueprint.url_prefix}"
    )
    return app


@pytest.fixture(scope="module")
def shop(app, settings):
    del app
    yield application(settings, goods())
    db.shutdown()


@pytest.fixture
def client(database, shop):
    del database
    return as_caller(shop.test_client(), SOMEBODY)


@pytest.fixture
def product(client):
    del client
    return ProductFactory(name="Blue mug", description="secretive", metadata_={"colour": "red"}, category__name="Mugs")


def by_manager(client, method, path, **sent):
    as_caller(client, MANAGER)
    answer = client.open(path, method=method, **sent)
    as_caller(client, SOMEBODY)
    return answer


# -- what one may not read


def test_a_hidden_field_is_shown_to_whom_its_rule_holds_of_and_nobody_else(client, product):
    url = f"{URL}/{product.id}"
    assert {*by_manager(client, "GET", f"{url}?include=category").json} >= {*HIDDEN}
    assert not {*client.get(url).json} & {*HIDDEN}
    assert not {*client.get(URL).json["items"][0]} & {*HIDDEN}


def test_a_hidden_field_is_hidden_in_the_embeds_of_other_resources(client, product):
    user = UserFactory()
    OrderFactory(user=user, items=[OrderItemFactory.build(product=product)])
    as_caller(client, Caller(f"user:{user.id}", user.id))
    (order,) = client.get("/api/v1/orders?include=items.product").json["items"]
    assert order["items"][0]["product"]["name"] == "Blue mug"
    assert not {*order["items"][0]["product"]} & {*HIDDEN}
    for query in ("fields=items.product.price", "include=items.product.category", "fields=items.product.metadata.a"):
        assert client.get(f"/api/v1/orders?{query}").status_code == 400


QUERIES = (
    "fields=price",
    "fields=name,metadata.colour",
    "price=9.99",
    "price__gt=1",
    "description__is_null=true",
    "or=(price=9.99,name=a)",
    "not=(price__lt=5)",
    "and=(name=a,or=(price=1,name=b))",
    "metadata.colour=red",
    "metadata__has_key=colour",
    "category.name=Mugs",
    "sort=price",
    "sort=-price,name",
    "sort=category.name",
    "sort=metadata.colour",
    "include=category",
    "fields=category.name&include=category",
    "q=secretive",
    "similar_to=mug",
    "q=mug&highlight=true",
)
AGGREGATES = (
    "group_by=price&count=*",
    "group_by=metadata.colour&count=*",
    "group_by=category.name&count=*",
    "sum=price",
    "min=price",
    "avg=price",
    "max=description",
    "count=price",
    "count_distinct=metadata.colour",
    "sum=price&having=sum_price__gt=1",
    "sum=stock_quantity&price__gt=1",
    "sum=price&sort=-sum_price",
)
MISSPELT = (
    ("prise=1", "price"),
    ("fields=descriptio", "description"),
    ("sort=prices", "price"),
    ("metadat.colour=red", "metadata"),
    ("include=categori", "category"),
    ("fields=nothing_like_it", "price"),
)


@pytest.mark.usefixtures("product")
def test_a_hidden_field_cannot_be_asked_for(client):
    paths = [f"{URL}?{query}" for query in QUERIES]
    paths += [f"{URL}/export?{query}" for query in QUERIES if "highlight" not in query]
    paths += [f"{URL}/aggregate?{query}" for query in AGGREGATES]
    assert [path for path in paths if client.get(path).status_code != 400] == []
    assert [path for path in paths if by_manager(client, "GET", path).status_code != 200] == []


@pytest.mark.usefixtures("product")
def test_a_hidden_field_is_nothing_that_may_have_been_meant(client):
    for misspelt, hidden in MISSPELT:
        answer = client.get(f"{URL}?{misspelt}")
        assert answer.status_code == 400
        assert hidden not in answer.json["errors"][0]["detail"].replace(misspelt.partition("=")[2], ""), misspelt
        assert hidden in by_manager(client, "GET", f"{URL}?{misspelt}").text


@pytest.mark.usefixtures("product")
def test_a_hidden_field_is_in_no_export(client):
    for file_format in ("csv", "ndjson"):
        exported = client.get(f"{URL}/export?format={file_format}").text
        assert "Blue mug" in exported
        assert not any(name in exported.split("\n")[0] for name in ("price", "description", "metadata", "secretive"))


def test_a_hidden_field_is_in_no_history(client, product):
    url = f"{URL}/{product.id}"
    by_manager(client, "PATCH", url, json={"price": "1.00", "name": "Red mug"})
    assert client.get(f"{url}/history").json["items"][0]["changes"].keys() == {"name"}
    assert by_manager(client, "GET", f"{url}/history").json["items"][0]["changes"].keys() == {"name", "price"}


def test_the_answer_to_a_write_shows_no_hidden_field(client, product):
    url = f"{URL}/{product.id}"
    for answer in (client.patch(url, json={"name": "a"}), client.post(f"{url}/revert", json={"version": 1})):
        assert answer.status_code == 200
        assert not {*answer.json} & {*HIDDEN}


def test_the_document_is_one_for_all(client):
    assert client.get("/openapi.json").data == by_manager(client, "GET", "/openapi.json").data


# -- what one does not see cannot be sent, and nothing is told of it


def sending(client, product, content):
    """The same fields in every way to write them."""
    url, item = f"{URL}/{product.id}", {"id": product.id, **content}
    full = {"sku": "a", "name": "a", "category_id": product.category_id, **content}
    return {
        "POST": client.post(URL, json=full),
        "PUT": client.put(url, json=full),
        "PATCH": client.patch(url, json=content),
        "merge patch": client.patch(url, json=content, content_type=MERGE),
        "bulk create": client.post(f"{URL}/bulk", json={"items": [full]}),
        "upsert": client.post(f"{URL}/bulk?upsert=sku", json={"items": [full]}),
        "bulk update": client.patch(f"{URL}/bulk", json={"items": [item]}),
        "by filter": client.patch(f"{URL}?id={product.id}", json=content),
    }


def test_a_hidden_field_is_as_unknown_as_one_that_is_not_there(client, product):
    for field, value in (("price", "9.99"), ("price", "1.00"), ("description", "a"), ("nothing_at_all", "1")):
        for way, answer in sending(client, product, {field: value}).items():
            assert answer.status_code == 422, way
            (error,) = [error for error in answer.json["errors"] if error["pointer"].endswith(f"/{field}")]
            assert error["detail"] == "Unknown field.", way


def test_what_a_json_patch_does_to_a_hidden_field_tells_nothing_of_it(client, product):
    def answered(operation):
        answer = client.patch(f"{URL}/{product.id}", json=[operation], content_type=PATCH)
        return answer.status_code, [error["detail"] for error in answer.json["errors"]]

    for operation in (
        {"op": "test", "path": "/{}", "value": "9.99"},
        {"op": "test", "path": "/{}", "value": "1.00"},
        {"op": "copy", "from": "/{}", "path": "/name"},
        {"op": "move", "from": "/{}", "path": "/name"},
        {"op": "replace", "path": "/{}", "value": "1.00"},
        {"op": "add", "path": "/{}", "value": "9.99"},
        {"op": "test", "path": "/{}/colour", "value": "red"},
    ):
        hidden, absent = (
            answered({key: str(value).format(name) for key, value in operation.items()})
            for name in ("price", "nothing")
        )
        assert hidden == absent
        assert hidden[0] in {409, 422}
    assert client.patch(f"{URL}/{product.id}", json={"name": "a"}).json["version"] == 2


def test_a_put_keeps_what_one_does_not_see_or_may_not_set(client, product):
    url = f"{URL}/{product.id}"
    body = {"sku": "new", "name": "New", "category_id": product.category_id}
    assert client.put(url, json=body).status_code == 200
    seen = by_manager(client, "GET", url).json
    assert (seen["price"], seen["description"], seen["metadata"]) == ("9.99", "secretive", {"colour": "red"})
    assert seen["stock_quantity"] == 10


# -- what one may not set


def test_a_protected_field_is_refused_at_its_place_in_every_way_to_write(client, product):
    for value in ({"stock_quantity": 99}, {"tag_ids": []}):
        (name,) = value
        for way, answer in sending(client, product, value).items():
            assert answer.status_code == 422, way
            assert any(error["pointer"].endswith(f"/{name}") for error in answer.json["errors"]), way
    patch = [{"op": "replace", "path": "/stock_quantity", "value": 99}]
    answer = client.patch(f"{URL}/{product.id}", json=patch, content_type=PATCH)
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/stock_quantity")
    assert by_manager(client, "GET", f"{URL}/{product.id}").json["version"] == 1


def test_to_send_what_a_protected_field_has_is_no_change(client, product):
    url = f"{URL}/{product.id}"
    body = {"sku": "new", "name": "New", "category_id": product.category_id, "stock_quantity": 10}
    assert client.put(url, json=body).status_code == 200
    assert client.patch(url, json={"stock_quantity": 10, "name": "Newer"}).status_code == 200
    item = {"id": product.id, "stock_quantity": 10}
    assert client.patch(f"{URL}/bulk", json={"items": [item]}).status_code == 200


def test_a_revert_leaves_protected_and_hidden_fields(client, product):
    url = f"{URL}/{product.id}"
    by_manager(client, "PATCH", url, json={"stock_quantity": 99, "price": "1.00", "name": "Red mug"})
    assert client.post(f"{url}/revert", json={"version": 1}).json["name"] == "Blue mug"
    seen = by_manager(client, "GET", url).json
    assert (seen["stock_quantity"], seen["price"]) == (99, "1.00")


def test_an_import_takes_no_column_that_one_may_not_set(client):
    category = CategoryFactory(name="Mugs").id
    for column in ("stock_quantity", "price", "description", "nothing_at_all", "category.name"):
        content = f"sku,name,category_id,{column}\na,a,{category},1\n"
        answer = client.post(f"{URL}/import", data=content, content_type="text/csv")
        assert (answer.status_code, column in answer.json["errors"][0]["detail"]) == (400, True), column
        mapped = client.post(f"{URL}/import?map=a:{column}", data="a\n1\n", content_type="text/csv")
        assert (mapped.status_code, mapped.json["errors"][0]["parameter"]) == (400, "map"), column


NOT_SET = ("id", "created_at", "updated_at", "deleted_at", "version", "search_vector", "password_hash", "tags")


def test_what_nobody_sets_is_refused_to_everybody_in_every_way(client, product):
    as_caller(client, MANAGER)
    for field in NOT_SET:
        for way, answer in sending(client, product, {field: "1"}).items():
            # These name a row or its version in a list.
            if way == "bulk update" and field in {"id", "version"}:
                continue
            assert answer.status_code == 422, (field, way)
            assert any(error["pointer"].endswith(f"/{field}") for error in answer.json["errors"]), (field, way)


# -- what would not hold


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        ({"readable": {"name": manager}}, {"default_sort": "-name"}, "'name'.* cannot be hidden"),
        ({"readable": {"category": manager}}, {"default_sort": "category.name"}, "'category'.* cannot be hidden"),
        ({"readable": {"id": manager}}, {}, "'id'.* cannot be hidden"),
        ({"readable": {"prise": manager}}, {}, "no fields .'prise'."),
        ({"writable": {"stock": manager}}, {}, "no fields .'stock'."),
    ],
)
def test_a_rule_that_would_not_hold_is_refused_at_the_start(settings, rules, options, message):
    with pytest.raises(ValueError, match=message):
        application(settings, goods(Policy({"read": authenticated}, **rules), without=ALL_VIEWS - {"list"}, **options))
    db.shutdown()
