"""Aggregations over HTTP: the answers, what is refused, and one statement each."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import API_PREFIX
from api.core.http.blueprint import ResourceBlueprint
from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.query.aggregate_params import AGGREGATE_PARAMETERS, parse_aggregate
from api.core.query.aggregate_statement import AggregateCache
from api.core.query.allowlist import Limits
from api.extensions import db
from api.resources.tags.models import Tag
from api.resources.tags.schemas import TagSchema
from tests.callers import OPEN
from tests.core.http.cases import CASES
from tests.core.query.strategies import examples
from tests.core.query.test_rubbish import NASTY, assert_answered, names, texts
from tests.factories import CategoryFactory, OrderFactory, OrderItemFactory, ProductFactory, TagFactory, UserFactory

PRODUCTS = f"{API_PREFIX}/products/aggregate"


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def shop(database):
    """Three mugs and one book, a deleted category and a deleted product."""
    del database
    mugs, books = CategoryFactory(name="Mugs"), CategoryFactory(name="Books")
    sale, new = TagFactory(name="sale"), TagFactory(name="new")
    for number, price in enumerate(("1.00", "2.00", "2.01"), start=1):
        document = {"colour": "blue" if number > 1 else "red", "weight": number if number > 1 else "heavy"}
        ProductFactory(
            category=mugs, price=Decimal(price), stock_quantity=number, tags=[sale, new][:number], metadata_=document
        )
    ProductFactory(category=books, price=Decimal("9.99"), stock_quantity=10)
    ProductFactory(category=CategoryFactory(name="Gone", deleted_at=datetime.now(UTC)), stock_quantity=0)
    ProductFactory(category=books, price=Decimal("100.00"), deleted_at=datetime.now(UTC))


def answer(client, query, path=PRODUCTS):
    response = client.get(path, query_string=query)
    assert response.status_code == 200, response.text
    return response.json


@pytest.mark.usefixtures("shop")
def test_categories_with_more_than_one_product_are_counted(client):
    query = {"group_by": "category.name", "count": "*", "having": "count__gt=1"}
    assert answer(client, query) == {"groups": [{"category.name": "Mugs", "count": 3}], "more": False}


@pytest.mark.usefixtures("shop")
def test_rows_of_a_deleted_parent_are_a_group_without_a_name(client):
    assert answer(client, {"group_by": "category.name"})["groups"] == [
        {"category.name": "Books", "count": 1},
        {"category.name": "Mugs", "count": 3},
        {"category.name": None, "count": 1},
    ]


@pytest.mark.usefixtures("shop")
def test_every_function_can_be_asked_for_at_once(client):
    query = {
        "group_by": "category.name",
        "category.name": "Mugs",
        "count": "*",
        "sum": "stock_quantity,price",
        "avg": "price,stock_quantity",
        "min": "price,sku",
        "max": "price",
        "count_distinct": "metadata.colour",
    }
    [group] = answer(client, query)["groups"]
    assert group == {
        "category.name": "Mugs",
        "count": 3,
        "sum_stock_quantity": 6,
        "sum_price": "5.01",
        "avg_price": "1.67",
        "avg_stock_quantity": 2,
        "min_price": "1.00",
        "min_sku": group["min_sku"],
        "max_price": "2.01",
        "count_distinct_metadata.colour": 2,
    }


@pytest.mark.usefixtures("shop")
def test_a_path_into_a_document_groups_and_its_numbers_are_added(client):
    query = {"group_by": "metadata.colour", "sum": "metadata.weight", "count": "*"}
    assert answer(client, query)["groups"] == [
        {"metadata.colour": "blue", "count": 2, "sum_metadata.weight": 5},
        {"metadata.colour": "red", "count": 1, "sum_metadata.weight": None},
        {"metadata.colour": None, "count": 2, "sum_metadata.weight": None},
    ]


@pytest.mark.usefixtures("shop")
def test_a_row_counts_once_for_each_of_its_tags(client):
    query = {"group_by": "tags.name", "sum": "stock_quantity", "count": "*"}
    assert answer(client, query)["groups"] == [
        {"tags.name": "new", "count": 2, "sum_stock_quantity": 5},
        {"tags.name": "sale", "count": 3, "sum_stock_quantity": 6},
        {"tags.name": None, "count": 2, "sum_stock_quantity": 10},
    ]


def test_what_belongs_to_a_row_is_added_without_multiplying_the_row(client):
    user, product = UserFactory(username="ada"), ProductFactory()
    for _ in range(2):
        order = OrderFactory(user=user, total_amount=Decimal("10.00"))
        OrderItemFactory.create_batch(3, order=order, quantity=2, product=product)
    query = {"group_by": "user.username", "sum": "items.quantity,total_amount", "count": "*"}
    assert answer(client, query, f"{API_PREFIX}/orders/aggregate")["groups"] == [
        {"user.username": "ada", "count": 2, "sum_items.quantity": 12, "sum_total_amount": "20.00"}
    ]
    query = {"group_by": "items.product_id", "sum": "items.quantity,total_amount", "count": "*"}
    assert answer(client, query, f"{API_PREFIX}/orders/aggregate")["groups"] == [
        {"items.product_id": product.id, "count": 2, "sum_items.quantity": 12, "sum_total_amount": "20.00"}
    ]


def test_orders_are_grouped_by_the_month_in_utc(client):
    for moment in ("2026-01-31T23:59:59.999999+00:00", "2026-02-01T00:30:00+01:00", "2026-02-01T00:00:00+00:00"):
        OrderFactory(created_at=datetime.fromisoformat(moment))
    groups = answer(client, {"group_by": "created_at.month"}, f"{API_PREFIX}/orders/aggregate")["groups"]
    assert groups == [
        {"created_at.month": "2026-01-01T00:00:00.000000Z", "count": 2},
        {"created_at.month": "2026-02-01T00:00:00.000000Z", "count": 1},
    ]


@pytest.mark.usefixtures("shop")
def test_deleted_rows_are_left_out_unless_asked_for(client):
    counts = [answer(client, {"deleted": mode})["groups"][0]["count"] for mode in ("exclude", "include", "only")]
    assert counts == [5, 6, 1]


@pytest.mark.usefixtures("shop")
def test_nothing_is_cut_without_saying_so(client):
    query = {"group_by": "sku", "limit": "2", "sort": "-max_price", "max": "price"}
    first, last = answer(client, query), answer(client, {**query, "offset": "4"})
    assert ([group["max_price"] for group in first["groups"]], first["more"]) == (["9.99", "9.99"], True)
    assert (len(last["groups"]), last["more"]) == (1, False)


def test_every_resource_can_be_aggregated_in_one_statement(client, case, statements):
    case.row()
    query = {"group_by": "created_at.day", "count": "*", "max": "id" if case.name != "orders" else "version"}
    with statements() as counted:
        groups = answer(client, query, f"{case.path}/aggregate")["groups"]
    assert (len(groups), counted.count) == (1, 1)


def test_nothing_hidden_can_be_grouped_by_or_worked_out(client):
    for parameter in ("group_by", "count", "min", "count_distinct"):
        response = client.get(f"{API_PREFIX}/users/aggregate", query_string={parameter: "password_hash"})
        assert response.status_code == 400
        assert response.json["errors"][0]["detail"].startswith("There is no field 'password_hash'; possible: ")


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_an_aggregation_is_only_read(client, method):
    assert getattr(client, method)(PRODUCTS).status_code == 405


def test_a_resource_may_be_declared_without_it():
    blueprint = ResourceBlueprint("tags", db, Tag, TagSchema, permissions=OPEN, without=("aggregate",))
    assert "aggregate" not in {route.view for route in blueprint._routes}


@pytest.mark.usefixtures("shop")
def test_any_aggregation_is_answered_or_refused_with_the_name_of_the_parameter(client, resources):
    @examples(250)
    @given(data=st.data())
    def run(data):
        resource = resources[data.draw(st.sampled_from(sorted(resources)))]
        known = st.sampled_from(sorted(resource.collection.comparable))
        fields = known | st.builds("{}.{}".format, known, texts) | texts
        values = st.lists(fields, min_size=1, max_size=3).map(",".join) | texts
        conditions = st.builds("{}={}".format, st.sampled_from(["count__gt", "sum", "max__in", "avg"]), texts) | texts
        parameter = st.sampled_from(AGGREGATE_PARAMETERS) | names(resource)
        pairs = data.draw(st.lists(st.tuples(parameter, values), min_size=1, max_size=4))
        pairs += [("having", data.draw(conditions))] if data.draw(st.booleans()) else []
        response = client.get(f"{API_PREFIX}/{resource.name}/aggregate?{urlencode(pairs)}")
        assert_answered(response, pairs)

    run()


@pytest.mark.parametrize("text", NASTY)
def test_rubbish_is_refused_in_every_parameter(client, text):
    for parameter in ("group_by", "sum", "having", "sort"):
        response = client.get(PRODUCTS, query_string={parameter: text})
        assert response.status_code in {200, 400}
        assert response.mimetype == (PROBLEM_TYPE if response.status_code == 400 else "application/json")


def test_no_name_or_value_of_a_client_gets_into_the_text_of_a_statement(resources):
    collection = resources["products"].collection
    pairs = [("group_by", "metadata.<key>"), ("sum", "metadata.<sum>"), ("name", "<name>"), ("having", "sum__gt=4711")]
    statement = AggregateCache(collection).statement(parse_aggregate(pairs, collection.allow_list(Limits())))
    assert "<" not in statement.text.replace("<=", "").replace("<>", "")
    assert "4711" not in statement.text
