"""`GET …/{id}/history` and `POST …/{id}/revert`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest
from sqlalchemy import delete, text

from api.core.database.history import History
from api.core.database.mixins import INCLUDE_DELETED
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.products.models import Product
from tests.callers import ADMIN
from tests.core.http.cases import CASES, PREFIX
from tests.factories import CategoryFactory, OrderFactory, ProductFactory, TagFactory, UserFactory

RECORDED = [
    pytest.param(case, id=case.name) for case in CASES if case.name in {"users", "categories", "products", "orders"}
]


def url(row, view=""):
    return f"{PREFIX}/{type(row).__tablename__}/{row.id}{view}"


def history_of(client, row, query=""):
    response = client.get(url(row, "/history") + query)
    assert response.status_code == 200, response.json
    return response.json["items"]


def revert(client, row, body, **headers):
    return client.post(url(row, "/revert"), json=body, headers=headers)


def patch(client, row, body, **headers):
    response = client.patch(url(row), json=body, headers=headers)
    assert response.status_code == 200, response.json
    return response.json


def problems(response):
    return {error.get("pointer", error.get("parameter")): error["detail"] for error in response.json["errors"]}


# -- what an entry tells


def test_an_entry_tells_what_became_what_and_in_which_request(client):
    product = ProductFactory(name="Mug", price=Decimal("9.90"))
    patch(client, product, {"name": "Cup", "price": "12.5"}, **{"X-Request-ID": "r-17"})
    newest, _ = history_of(client, product)
    assert newest == {
        "id": newest["id"],
        "at": newest["at"],
        "operation": "update",
        "version": 2,
        "actor": ADMIN.name,
        "request_id": "r-17",
        "changes": {"name": {"old": "Mug", "new": "Cup"}, "price": {"old": "9.90", "new": "12.50"}},
    }
    assert datetime.fromisoformat(newest["at"]).utcoffset().total_seconds() == 0


def test_the_first_entry_tells_all_values_that_the_row_began_with(client):
    product = ProductFactory(description=None, metadata_={"colour": "blue", "size": {"cm": 9}})
    shown = client.get(url(product)).json
    (entry,) = history_of(client, product)
    assert entry["operation"] == "insert"
    assert {change["old"] for change in entry["changes"].values()} == {None}
    expected = {name: value for name, value in shown.items() if value is not None}
    del expected["version"], expected["updated_at"]
    assert {name: change["new"] for name, change in entry["changes"].items()} == expected


@pytest.mark.parametrize("case", RECORDED)
def test_values_are_written_as_the_resource_writes_them(client, case):
    row = case.row()
    before = client.get(url(row)).json
    after = patch(client, row, case.change)
    changes = history_of(client, row)[0]["changes"]
    assert set(changes) == set(case.change)
    for name, change in changes.items():
        assert change == {"old": before[name], "new": after[name]}


def test_times_are_in_utc_whatever_the_session_that_wrote_them_was_in(client):
    product = ProductFactory()
    with db.engine.begin() as connection:
        connection.execute(text("SET LOCAL TimeZone = 'Asia/Kathmandu'"))
        connection.execute(text("UPDATE products SET deleted_at = '2026-01-31 12:30:00+00'"))
    newest = history_of(client, product, "?deleted=include")[0]
    assert newest["changes"] == {"deleted_at": {"old": None, "new": "2026-01-31T12:30:00.000000Z"}}


def test_a_password_never_shows_though_its_change_does(client):
    user = UserFactory()
    patch(client, user, {"password": "correct horse battery"})
    response = client.get(url(user, "/history"))
    assert [entry["operation"] for entry in response.json["items"]] == ["update", "insert"]
    assert response.json["items"][0]["changes"] == {}
    assert "argon2" not in response.text
    assert "password" not in response.text


def test_a_change_of_references_alone_is_an_entry_without_changes(client):
    product, tag = ProductFactory(), TagFactory()
    patch(client, product, {"tag_ids": [tag.id]})
    newest = history_of(client, product)[0]
    assert (newest["version"], newest["changes"]) == (2, {})


# -- which rows have one


@pytest.mark.parametrize("case", RECORDED)
def test_a_row_that_never_was_has_none(client, case):
    response = client.get(f"{case.absent_url()}/history?deleted=include")
    assert response.status_code == 404
    assert response.json["detail"].startswith("There is no ")


def test_of_a_deleted_row_it_is_shown_where_the_row_is(client):
    product = ProductFactory()
    client.delete(url(product))
    assert client.get(url(product, "/history")).status_code == 404
    for mode in ("include", "only"):
        newest = history_of(client, product, f"?deleted={mode}")[0]
        assert list(newest["changes"]) == ["deleted_at"]
    live = ProductFactory()
    assert client.get(url(live, "/history?deleted=only")).status_code == 404


def test_of_a_row_that_is_gone_altogether_it_is_shown_with_deleted_rows(client, session):
    product = ProductFactory(name="Mug")
    session.execute(delete(Product))
    session.commit()
    assert client.get(url(product, "/history")).status_code == 404
    newest = history_of(client, product, "?deleted=only")[0]
    assert newest["operation"] == "delete"
    assert newest["changes"]["name"] == {"old": "Mug", "new": None}


def test_a_row_of_which_nothing_is_recorded_has_an_empty_one(client, owner):
    product = ProductFactory()
    owner.execute(delete(History))
    owner.commit()
    assert history_of(client, product) == []


def test_models_that_do_not_ask_for_it_have_none(client):
    tag = TagFactory()
    assert client.get(url(tag, "/history")).status_code == 404
    assert "/api/v1/tags/{id}/history" not in client.get("/openapi.json").json["paths"]
    assert "/api/v1/products/{id}/history" in client.get("/openapi.json").json["paths"]


# -- pages and filters


@pytest.mark.parametrize("query", ["", "?deleted=include&operation=update&count=exact", "?fields=at"])
def test_it_is_one_statement(client, statements, query):
    product = ProductFactory()
    with statements() as counted:
        assert client.get(url(product, "/history") + query).status_code == 200
    assert counted.count == 1
    with statements() as counted:
        assert client.get(f"{PREFIX}/products/4711/history").status_code == 404
    assert counted.count == 1


def test_pages_follow_one_another_newest_first(client):
    product = ProductFactory()
    for number in range(4):
        patch(client, product, {"name": f"Name {number}"})
    versions, address, back = [], url(product, "/history?limit=2"), None
    while address:
        page = client.get(address).json
        versions.append([entry["version"] for entry in page["items"]])
        address, back = page["next"], page["prev"] or back
    assert versions == [[5, 4], [3, 2], [1]]
    assert [entry["version"] for entry in client.get(back).json["items"]] == [3, 2]


def test_a_cursor_is_good_for_the_history_of_its_own_row_only(client):
    products = [ProductFactory(), ProductFactory()]
    for product in products:
        patch(client, product, {"name": "Cup"})
    following = client.get(url(products[0], "/history?limit=1")).json["next"]
    response = client.get(following.replace(url(products[0]), url(products[1])))
    assert response.status_code == 400
    assert "cursor" in problems(response)


def test_entries_are_filtered(client):
    product = ProductFactory()
    patch(client, product, {"name": "Cup"}, **{"X-Request-ID": "r-1"})
    middle = patch(client, product, {"name": "Pot"}, **{"X-Request-ID": "r-2"})
    patch(client, product, {"name": "Pan"}, **{"X-Request-ID": "r-3"})

    def versions(query):
        return [entry["version"] for entry in history_of(client, product, f"?{query}")]

    assert versions("operation=insert") == [1]
    assert versions("request_id=r-2") == [3]
    assert versions("version__lt=3&sort=id") == [1, 2]
    assert versions("actor__startswith=db:") == [1]
    at = history_of(client, product, f"?version={middle['version']}")[0]["at"]
    assert versions(f"at__gte={at}") == [4, 3]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("opration=insert", "opration"),
        ("row_id=1", "row_id"),
        ("table_name=users", "table_name"),
        ("old__contains={}", "old__contains"),
        ("version=x", "version"),
        ("sort=at", "sort"),
        ("limit=0", "limit"),
        ("include=row", "include"),
        ("deleted=maybe", "deleted"),
    ],
)
def test_a_wrong_parameter_is_named(client, query, parameter):
    response = client.get(url(ProductFactory(), "/history?") + query)
    assert response.status_code == 400
    assert parameter in problems(response)


# -- going back


@pytest.mark.parametrize("case", RECORDED)
def test_revert_sets_the_fields_back_and_answers_as_a_patch_does(client, case):
    row = case.row()
    before = client.get(url(row)).json
    changed = patch(client, row, case.change)
    response = revert(client, row, {"version": 1}, **{"If-Match": f'"{row.id}-{changed["version"]}"'})
    assert response.status_code == 200, response.json
    assert response.headers["ETag"] == f'"{row.id}-3"'
    moved = {"updated_at", "version"}
    assert {k: v for k, v in response.json.items() if k not in moved} == {
        k: v for k, v in before.items() if k not in moved
    }
    assert response.json == client.get(url(row)).json


def test_revert_goes_back_to_an_entry_too(client):
    product = ProductFactory(name="Mug", metadata_={"colour": "blue"})
    entry = history_of(client, product)[0]["id"]
    patch(client, product, {"name": "Cup", "metadata": {"size": 3}})
    response = revert(client, product, {"entry": entry})
    assert (response.json["name"], response.json["metadata"]) == ("Mug", {"colour": "blue"})


def test_revert_is_a_change_of_its_own_and_can_be_reverted(client):
    product = ProductFactory(name="Mug")
    patch(client, product, {"name": "Cup"})
    revert(client, product, {"version": 1}, **{"X-Request-ID": "r-9"})
    newest = history_of(client, product)[0]
    assert (newest["version"], newest["request_id"]) == (3, "r-9")
    assert newest["changes"] == {"name": {"old": "Cup", "new": "Mug"}}
    assert revert(client, product, {"version": 2}).json["name"] == "Cup"


def test_revert_to_what_the_row_is_changes_nothing(client):
    product = ProductFactory()
    response = revert(client, product, {"version": 1})
    assert (response.status_code, response.json["version"]) == (200, 1)
    assert len(history_of(client, product)) == 1


def test_revert_shows_the_fields_that_are_asked_for(client):
    product = ProductFactory(name="Mug")
    patch(client, product, {"name": "Cup"})
    assert client.post(url(product, "/revert?fields=name"), json={"version": 1}).json == {"name": "Mug"}


def test_revert_leaves_references_and_secrets_alone(client, session):
    product, tag = ProductFactory(), TagFactory()
    patch(client, product, {"tag_ids": [tag.id]})
    revert(client, product, {"version": 1})
    assert [item["id"] for item in client.get(url(product, "?include=tags")).json["tags"]] == [tag.id]
    user = UserFactory(password_hash="secret")
    patch(client, user, {"username": "other"})
    assert revert(client, user, {"version": 1}).status_code == 200
    assert session.scalar(text("SELECT password_hash FROM users")) == "secret"


def test_revert_of_another_version_than_the_caller_knows_is_refused(client):
    product = ProductFactory()
    patch(client, product, {"name": "Cup"})
    assert revert(client, product, {"version": 1}, **{"If-Match": f'"{product.id}-1"'}).status_code == 412
    assert client.get(url(product)).json["name"] == "Cup"


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"version": 9}, "/version", "There is no version 9 in the history; the newest is 3."),
        ({"version": 1}, "/version", "Version 1 is no longer in the history, which goes back to version 2."),
        ({"entry": 10**17}, "/entry", f"There is no entry {10**17} in this history that the row could go back to."),
        ({"version": 0}, "/version", "Must be greater than or equal to 1 and less than or equal to 2147483647."),
        ({"version": "2"}, "/version", "Not a valid integer."),
        ({}, "", "Give either version or entry."),
        ({"version": 2, "entry": 2}, "", "Give either version or entry."),
        ({"verison": 2}, "/verison", "Unknown field; did you mean 'version'?"),
    ],
)
def test_revert_to_what_is_not_in_the_history_says_so(client, owner, body, pointer, detail):
    product = ProductFactory()
    patch(client, product, {"name": "Cup"})
    patch(client, product, {"name": "Pot"})
    owner.execute(delete(History).where(History.version == 1))
    owner.commit()
    response = revert(client, product, body)
    assert response.status_code == 422
    assert problems(response)[pointer] == detail
    assert client.get(url(product)).json["version"] == 3


def test_revert_knows_no_entry_of_another_row(client):
    product, other = ProductFactory(), ProductFactory()
    entry = history_of(client, other)[0]["id"]
    assert "/entry" in problems(revert(client, product, {"entry": entry}))


def test_revert_obeys_the_rules_of_the_resource(client):
    order = OrderFactory()
    patch(client, order, {"status": "processing"})
    patch(client, order, {"status": "shipped"})
    response = revert(client, order, {"version": 1})
    assert response.status_code == 409
    assert problems(response) == {"/status": "After 'shipped' comes only delivered, not 'pending'."}
    assert client.get(url(order)).json["version"] == 3


def test_revert_onto_a_name_that_was_taken_meanwhile_is_a_conflict(client):
    category = CategoryFactory(name="Mugs")
    patch(client, category, {"name": "Cups"})
    CategoryFactory(name="mugs")
    response = revert(client, category, {"version": 1})
    assert response.status_code == 409
    assert "/name" in problems(response)


def test_revert_to_a_parent_that_is_deleted_is_refused(client, session):
    product = ProductFactory()
    before = product.category_id
    patch(client, product, {"category_id": CategoryFactory().id})
    session.get(Category, before).soft_delete()
    session.commit()
    response = revert(client, product, {"version": 1})
    assert response.status_code == 422
    assert problems(response) == {"/category_id": f"There is no category {before}."}


def test_revert_to_a_value_that_a_rule_forbids_by_now_is_refused(client, owner):
    product = ProductFactory(name="Mug")
    patch(client, product, {"name": "Cup"})
    owner.execute(text("""UPDATE history SET new = jsonb_set(new, '{name}', '""') WHERE version = 1"""))
    owner.commit()
    response = revert(client, product, {"version": 1})
    assert response.status_code == 422
    assert "/name" in problems(response)


def test_revert_leaves_a_column_alone_that_was_not_there_yet(client, owner):
    product = ProductFactory(name="Mug", stock_quantity=5)
    patch(client, product, {"name": "Cup", "stock_quantity": 7})
    owner.execute(text("UPDATE history SET new = new - 'stock_quantity' WHERE version = 1"))
    owner.commit()
    response = revert(client, product, {"version": 1}).json
    assert (response["name"], response["stock_quantity"]) == ("Mug", 7)


def test_a_deleted_row_is_restored_before_it_is_reverted(client, session):
    product = ProductFactory()
    client.delete(url(product))
    assert revert(client, product, {"version": 1}).status_code == 404
    found = session.get(Product, product.id, execution_options={INCLUDE_DELETED: True}, populate_existing=True)
    assert found.is_deleted
