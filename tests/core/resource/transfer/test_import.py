"""Imports: files of rows into a table, each row checked as a POST would be."""

from __future__ import annotations

import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text

from api.core.resource.transfer import importing, stage
from api.core.resource.transfer.report import REJECTS_SHOWN
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.products.models import Product
from api.resources.users.models import User
from tests.factories import CategoryFactory, ProductFactory, UserFactory

PRODUCTS = "/api/v1/products"
HEADER = "sku,name,price,category.name"
COUNTS = ("read", "inserted", "updated", "unchanged", "rejected")


@pytest.fixture
def send(client):
    """Import `lines`, by default of CSV; the answer."""
    CategoryFactory(name="Kitchen")

    def post(*lines, query="", resource="products", content_type="text/csv", **headers):
        body = lines[0] if isinstance(lines[0], bytes) else "\n".join(lines).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(f"/api/v1/{resource}/import{query}", data=body, content_type=content_type, headers=named)

    return post


def counts(response):
    assert response.status_code in {200, 422}, response.text
    return {name: response.json[name] for name in COUNTS if response.json[name]}


def rejects(response):
    return [(item["line"], item["column"], item["detail"]) for item in response.json["rejects"]]


def products(**conditions):
    db.session.rollback()
    return db.session.scalars(select(Product).filter_by(**conditions).order_by(Product.id)).all()


def number_of(model):
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(model))


def wait_for_waiters(number):
    """Return when so many transactions wait for another one's lock."""
    waiting = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with db.engine.connect() as connection:
            if connection.scalar(waiting) == number:
                return
        time.sleep(0.02)
    pytest.fail(f"There are not {number} that wait")


# -- right files ------------------------------------------------------------------------------------------------------


def test_rows_of_a_table_are_inserted_in_their_order(send):
    response = send(HEADER, "a,Mug,1.50,Kitchen", "b,Pot,20,Kitchen")
    assert (response.status_code, counts(response)) == (200, {"read": 2, "inserted": 2})
    assert [(row.sku, row.name, row.price) for row in products()] == [
        ("a", "Mug", Decimal("1.50")),
        ("b", "Pot", Decimal(20)),
    ]


def test_objects_by_the_line_are_inserted_and_may_lack_what_has_a_default(send):
    kitchen = db.session.scalars(select(Category)).one()
    lines = [
        json.dumps({"sku": "a", "name": "Mug", "price": "1", "category_id": kitchen.id, "stock_quantity": 5}),
        json.dumps({"sku": "b", "name": "Pot", "price": "2", "category": {"name": "Kitchen"}, "metadata": {"x": [1]}}),
    ]
    response = send(*lines, "", content_type="application/x-ndjson")
    assert counts(response) == {"read": 2, "inserted": 2}
    assert [(row.stock_quantity, row.metadata_, row.category_id) for row in products()] == [
        (5, {}, kitchen.id),
        (0, {"x": [1]}, kitchen.id),
    ]


def test_what_a_file_does_not_name_gets_its_default(send):
    send(HEADER, "a,Mug,1,Kitchen")
    (row,) = products()
    assert (row.stock_quantity, row.metadata_, row.description, row.version) == (0, {}, None, 1)
    assert row.created_at is not None


def test_columns_that_only_the_server_sets_are_not_looked_at_and_named(send):
    response = send(f"id,version,{HEADER}", "77,9,a,Mug,1,Kitchen")
    assert response.json["ignored_columns"] == ["id", "version"]
    (row,) = products()
    assert row.id != 77


def test_columns_are_mapped_to_fields_or_left_out(send):
    lines = ('"Art.-Nr., neu",Preis,name,Notiz,Regal', "a,1,Mug,x,Kitchen")
    query = '?map="Art.-Nr.%2C neu:sku",Preis:price,Notiz:,Regal:category.name'
    response = send(*lines, query=query)
    assert counts(response) == {"read": 1, "inserted": 1}
    assert response.json["ignored_columns"] == ["Notiz"]


def test_a_row_may_refer_to_another_by_its_unique_name_whatever_its_case(send):
    assert counts(send(HEADER, "a,Mug,1,KITCHEN", "b,Pot,1,kitchen")) == {"read": 2, "inserted": 2}


def test_references_are_looked_up_by_the_batch(send, statements, monkeypatch):
    monkeypatch.setattr(importing, "BATCH", 50)
    for number in range(10):
        CategoryFactory(name=f"Shelf {number}")
    with statements(keep_texts=True) as counted:
        send(HEADER, *(f"{number},Mug,1,Shelf {number % 10}" for number in range(200)))
    assert len([line for line in counted.statements if "unnest" in line]) == 1
    assert number_of(Product) == 200


def test_a_byte_order_mark_and_line_ends_of_windows_are_understood(send):
    body = b"\xef\xbb\xbf" + f'{HEADER}\r\na,"M\r\nug",1,Kitchen\r\nb,Pot,1,Kitchen\r\n'.encode()
    assert counts(send(body)) == {"read": 2, "inserted": 2}
    assert products()[0].name == "M\r\nug"


def test_users_are_imported_without_a_password(send):
    response = send("username,email,is_active", "ada,ada@example.com,false", resource="users")
    assert counts(response) == {"read": 1, "inserted": 1}
    user = db.session.scalars(select(User)).one()
    assert (user.password_hash, user.is_active) == (None, False)
    refused = send("username,email,password", "bob,bob@example.com,secret123", resource="users")
    assert "There is no field 'password'" in refused.text


def test_a_resource_with_rules_of_its_own_cannot_be_imported(send):
    assert send("user_id", "1", resource="orders").status_code in {404, 405}


# -- rejects ----------------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_with_its_line_and_its_column(send):
    response = send(
        HEADER,
        'a,"two\nlines",1,Kitchen',
        "b,,x,Kitchen",
        "c,Mug,1,Nowhere",
        "d,Mug,1",
        "e,Mug,1,Kitchen,more",
        'f,M"ug,1,Kitchen',
        "g,Mug,1.999,Kitchen",
        f"{'h' * 65},Mug,1,Kitchen",
        query="?atomic=false",
    )
    assert counts(response) == {"read": 8, "inserted": 1, "rejected": 7}
    misplaced = "A quote is misplaced: a value with a quote in it goes into quotes, and the quote is doubled."
    assert rejects(response) == [
        (4, "name", "Field may not be null."),
        (4, "price", 'Must be an amount as a string, such as "19.90".'),
        (5, "category.name", "There is no category whose name is 'Nowhere'."),
        (6, None, "Has 3 cells, and the header 4."),
        (7, None, "Has 5 cells, and the header 4."),
        (8, None, misplaced),
        (9, "price", "Must have at most 2 decimals."),
        (10, "sku", "Longer than maximum length 64."),
    ]


def test_mistakes_of_objects_are_told_likewise(send):
    right = {"sku": "a", "name": "Mug", "price": "1", "category.name": "Kitchen"}
    response = send(
        json.dumps(right),
        json.dumps({**right, "sku": "b", "prise": 1}),
        "{",
        "[1]",
        json.dumps({**right, "sku": "c", "category.name": 5}),
        json.dumps({**right, "sku": "d", "category_id": 1}),
        json.dumps({"name": "Mug"}),
        content_type="application/x-ndjson",
        query="?atomic=false",
    )
    assert counts(response) == {"read": 7, "inserted": 1, "rejected": 6}
    assert rejects(response)[:5] == [
        (2, "prise", "Unknown field; did you mean 'price'?"),
        (3, None, "Not valid JSON: unexpected end of data at column 2."),
        (4, None, "Must be a JSON object."),
        (5, "category.name", "Must be a text."),
        (6, None, "'category.name' and 'category_id' say the same; leave one out."),
    ]
    assert {item[1] for item in rejects(response)[5:]} == {"sku", "price", "category_id"}


def test_a_key_without_a_name_is_an_unknown_field_and_not_left_out(send):
    row = {"sku": "a", "name": "Mug", "price": "1", "category.name": "Kitchen", "": 1}
    response = send(json.dumps(row), content_type="application/x-ndjson")
    assert rejects(response) == [(1, "", "Unknown field.")]


def test_a_row_that_is_not_utf8_is_rejected_with_its_line(send):
    response = send(f"{HEADER}\na,M\xfcg,1,Kitchen\nb,Mug,1,Kitchen".encode("latin-1"), query="?atomic=false")
    assert rejects(response) == [(2, None, "Not UTF-8: byte 4 of the row is 0xfc.")]
    assert counts(response) == {"read": 2, "inserted": 1, "rejected": 1}


def test_the_column_is_called_what_the_file_calls_it(send):
    response = send("sku,name,Preis,category.name", "a,Mug,x,Kitchen", query="?map=Preis:price")
    assert rejects(response)[0][:2] == (2, "Preis")


def test_what_is_taken_in_the_table_is_rejected(send):
    ProductFactory(sku="TAKEN")
    response = send(HEADER, "taken,Mug,1,Kitchen", "free,Mug,1,Kitchen", query="?atomic=false")
    assert rejects(response) == [(2, "sku", "This value is already taken.")]
    assert counts(response) == {"read": 2, "inserted": 1, "rejected": 1}


def test_what_is_taken_by_a_deleted_row_is_free(send):
    ProductFactory(sku="a").soft_delete()
    db.session.commit()
    assert counts(send(HEADER, "a,Mug,1,Kitchen")) == {"read": 1, "inserted": 1}


@pytest.mark.parametrize("query", ["?atomic=false", "?atomic=false&upsert=sku"])
def test_what_the_file_has_twice_is_rejected_from_the_second_time_on(send, query):
    response = send(HEADER, "a,Mug,1,Kitchen", "A,Pot,1,Kitchen", "a,Pan,1,Kitchen", query=query)
    assert rejects(response) == [(3, "sku", "The same is in line 2."), (4, "sku", "The same is in line 2.")]
    assert [row.name for row in products()] == ["Mug"]


def test_a_row_that_is_rejected_takes_no_name_from_a_later_one(send):
    response = send("sku,name,price,category_id", "a,Mug,1,4711", f"a,Mug,1,{_kitchen()}", query="?atomic=false")
    assert rejects(response) == [(2, "category_id", "There is no category 4711.")]
    assert number_of(Product) == 1


def _kitchen():
    return db.session.scalars(select(Category.id)).one()


def test_a_deleted_row_cannot_be_referred_to(send):
    gone = CategoryFactory(name="Gone")
    gone.soft_delete()
    db.session.commit()
    by_key = send("sku,name,price,category_id", f"a,Mug,1,{gone.id}")
    assert rejects(by_key) == [(2, "category_id", f"There is no category {gone.id}.")]
    by_name = send(HEADER, "a,Mug,1,Gone")
    assert rejects(by_name) == [(2, "category.name", "There is no category whose name is 'Gone'.")]


def test_one_reject_keeps_everything_from_being_written(send):
    response = send(HEADER, "a,Mug,1,Kitchen", "b,Mug,x,Kitchen")
    assert response.status_code == 422
    assert response.mimetype == "application/problem+json"
    assert response.json["detail"] == "1 of 2 rows are rejected, and so nothing was written."
    assert counts(response) == {"read": 2, "rejected": 1}
    assert number_of(Product) == 0


def test_the_answer_lists_the_first_rejects_and_counts_all(send):
    response = send(HEADER, *(f"{number},Mug,x,Kitchen" for number in range(REJECTS_SHOWN + 5)))
    assert len(response.json["rejects"]) == REJECTS_SHOWN
    assert response.json["rejected"] == REJECTS_SHOWN + 5


# -- upsert -----------------------------------------------------------------------------------------------------------


def test_rows_that_are_there_are_changed_and_others_inserted(send):
    old = ProductFactory(sku="OLD", name="Old", stock_quantity=7)
    response = send(HEADER, "old,New,2,Kitchen", "new,Mug,1,Kitchen", query="?upsert=sku")
    assert counts(response) == {"read": 2, "inserted": 1, "updated": 1}
    db.session.refresh(old)
    assert (old.sku, old.name, old.stock_quantity, old.version) == ("old", "New", 7, 2)
    assert old.updated_at > old.created_at


def test_the_same_file_again_changes_nothing(send):
    lines = (f"{HEADER},metadata", 'a,Mug,1,Kitchen,"{""b"": 1, ""a"": 2}"', "b,Pot,2,Kitchen,{}")
    send(*lines, query="?upsert=sku")
    before = [(row.id, row.version, row.updated_at) for row in products()]
    response = send(*lines, query="?upsert=sku")
    assert counts(response) == {"read": 2, "unchanged": 2}
    assert [(row.id, row.version, row.updated_at) for row in products()] == before
    assert [row.xmax for row in db.session.execute(text("SELECT xmax::text FROM products"))] == ["0", "0"]


def test_fields_that_an_object_lacks_stay_as_they_are(send):
    ProductFactory(sku="a", stock_quantity=7, description="kept")
    right = {"name": "Mug", "price": "1", "category.name": "Kitchen"}
    response = send(
        json.dumps({"sku": "a", **right}),
        json.dumps({"sku": "b", **right, "stock_quantity": 3}),
        content_type="application/x-ndjson",
        query="?upsert=sku",
    )
    assert counts(response) == {"read": 2, "inserted": 1, "updated": 1}
    assert [(row.sku, row.stock_quantity, row.description) for row in products()] == [("a", 7, "kept"), ("b", 3, None)]


def test_a_deleted_row_is_not_changed(send):
    gone = ProductFactory(sku="a", name="Gone")
    gone.soft_delete()
    db.session.commit()
    assert counts(send(HEADER, "a,Mug,1,Kitchen", query="?upsert=sku")) == {"read": 1, "inserted": 1}
    db.session.refresh(gone)
    assert gone.name == "Gone"


def test_a_second_unique_field_may_stay_and_not_be_taken_from_another(send):
    UserFactory(username="ada", email="ada@example.com")
    UserFactory(username="bob", email="bob@example.com")
    response = send(
        "username,email,is_active",
        "ada,ADA@example.com,false",
        "cleo,bob@example.com,true",
        resource="users",
        query="?upsert=username&atomic=false",
    )
    assert counts(response) == {"read": 2, "updated": 1, "rejected": 1}
    assert rejects(response) == [(3, "email", "This value is already taken.")]


def test_files_with_the_same_rows_in_another_order_wait_for_one_another(send):
    send(HEADER, "a,Mug,1,Kitchen", "b,Pot,1,Kitchen", "c,Pan,1,Kitchen")
    rows = ("a,Mug,{0},Kitchen", "b,Pot,{0},Kitchen", "c,Pan,{0},Kitchen")

    def upsert(price, order):
        return send(HEADER, *(rows[number].format(price) for number in order), query="?upsert=sku")

    with db.engine.connect() as other, ThreadPoolExecutor(2) as threads:
        # Each file would have a row of its own by now that the other one needs, were they written line by line.
        other.execute(text("SELECT FROM products WHERE sku = 'b' FOR UPDATE"))
        answers = [threads.submit(upsert, 2, (0, 1, 2)), threads.submit(upsert, 3, (2, 1, 0))]
        wait_for_waiters(2)
        other.rollback()
        assert [counts(answer.result()) for answer in answers] == [{"read": 3, "updated": 3}] * 2
    assert len({row.price for row in products()}) == 1


@pytest.mark.parametrize("field", ["name", "id", "skuu"])
def test_rows_are_recognised_by_unique_fields_only(send, field):
    response = send(HEADER, query=f"?upsert={field}")
    assert response.status_code == 400
    assert response.json["errors"][0]["parameter"] == "upsert"
    assert "'sku'" in response.text or "sku" in response.json["detail"]


# -- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(send):
    ProductFactory(sku="a")
    response = send(HEADER, "a,Mug,1,Kitchen", "b,Pot,1,Kitchen", query="?upsert=sku&dry_run=true")
    assert counts(response) == {"read": 2, "inserted": 1, "updated": 1}
    assert response.json["dry_run"] is True
    assert [row.sku for row in products()] == ["a"]
    assert products()[0].version == 1


def test_a_dry_run_of_a_file_that_would_be_refused_is_refused(send):
    assert send(HEADER, "a,Mug,x,Kitchen", query="?dry_run=true").status_code == 422


# -- wrong files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "query", "detail"),
    [
        ("sku,nmae,price,category.name", "", "There is no field 'nmae'; did you mean 'name'?"),
        ("sku,name,price", "", "There is no column for 'category_id', which every row must have."),
        ("sku,sku,name,price,category.name", "", "'sku' is there twice."),
        ("sku,,name,price,category.name", "", "There is no name for column 2."),
        (f"{HEADER},category_id", "", "'category_id' and 'category.name' say the same; map one of them to nothing."),
        (HEADER, "?map=Preis:price", "There is no column 'Preis' to map."),
        ("sku;name;price;category.name", "", "There is no field 'sku;name;price;category.name'"),
        ('sku,na"me', "", "A quote is misplaced"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_with_what_would(send, header, query, detail):
    response = send(header, "a,b,1,Kitchen", query=query)
    assert response.status_code == 400
    assert f"In the header: {detail}" in json.dumps(response.json, ensure_ascii=False).replace('\\"', '"')


def test_a_table_without_a_header_is_refused(send):
    response = send(b"")
    assert (response.status_code, response.json["detail"]) == (
        400,
        "The file is empty; its first line has the names of the columns.",
    )


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("?map=Name", "map", "Must be column:field, each column once, with commas between them."),
        ("?map=Name:nam", "map", "There is no field 'nam'; did you mean 'name'?"),
        ("?atomic=yes", "atomic", "Must be true or false."),
        ("?dryrun=true", "dryrun", "There is no parameter 'dryrun'; did you mean 'dry_run'?"),
        ("?upsert=sku&upsert=sku", "upsert", "Must be given once only."),
    ],
)
def test_a_wrong_parameter_is_named(send, query, parameter, detail):
    response = send(HEADER, query=query)
    assert response.status_code == 400
    assert response.json["errors"] == [{"parameter": parameter, "detail": detail}]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_refused(send, content_type):
    response = send(HEADER, content_type=content_type)
    assert response.status_code == 415
    assert "send the file as text/csv or application/x-ndjson, in UTF-8." in response.json["detail"]


def test_another_character_set_is_refused(send):
    assert send(HEADER, content_type="text/csv; charset=latin-1").status_code == 415


# -- packed -----------------------------------------------------------------------------------------------------------


def test_a_packed_file_is_unpacked_on_the_way_in(send):
    body = gzip.compress(f"{HEADER}\na,Mug,1,Kitchen\n".encode()) + gzip.compress(b"b,Pot,1,Kitchen\n")
    assert counts(send(body, Content_Encoding="gzip")) == {"read": 2, "inserted": 2}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"sku,name", "The file is not valid gzip."),
        (gzip.compress(HEADER.encode() * 100, mtime=0)[:-12], "The gzip file breaks off."),
        (gzip.compress(f"{HEADER}\n".encode(), mtime=0) + b"rubbish", "The file is not valid gzip."),
    ],
)
def test_a_file_that_is_not_packed_as_it_says_is_refused(send, body, detail):
    response = send(body, Content_Encoding="gzip")
    assert (response.status_code, response.json["detail"]) == (400, detail)


def test_another_packing_is_refused(send):
    response = send(HEADER, Content_Encoding="br")
    assert (response.status_code, response.headers["Accept-Encoding"]) == (415, "gzip")


# -- files that are there to wear the server out ----------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-ndjson"])
def test_a_file_of_empty_lines_is_given_up(send, content_type):
    first = f"{HEADER}\n".encode() if content_type == "text/csv" else b""
    packed = gzip.compress(first + b"\n" * 1_000_000)
    response = send(packed, content_type=content_type, Content_Encoding="gzip")
    assert (response.status_code, response.json["detail"]) == (400, "The file has more than 100000 empty lines.")


def test_a_file_of_nothing_but_mistakes_is_given_up(send, monkeypatch):
    monkeypatch.setattr(stage, "REJECTS_MAX", 10)
    response = send(HEADER, *("a" for _ in range(11)), query="?atomic=false")
    assert (response.status_code, response.json["detail"]) == (
        400,
        "The file has more than 10 mistakes; it is given up.",
    )
    assert number_of(Product) == 0
