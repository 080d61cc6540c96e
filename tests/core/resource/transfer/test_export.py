"""Exports: whole tables as files, streamed."""

from __future__ import annotations

import csv
import gzip
import json
import threading
import time
from decimal import Decimal
from http.client import HTTPConnection, IncompleteRead
from io import StringIO

import pytest
from sqlalchemy import text
from werkzeug.serving import make_server

from api.core.database.copying import CHUNK_SIZE, CHUNKS_AHEAD, CopyOut
from api.core.errors import UnavailableError
from api.extensions import db
from tests.callers import ADMIN, served_as
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    ProfileFactory,
    TagFactory,
    UserFactory,
)

PRODUCTS = "/api/v1/products"
# Sent from the first row on: in FROM, the series would be made as a whole first.
MANY = "SELECT repeat('x', 1000) || generate_series(1, 1000000)"


def table(response):
    assert response.status_code == 200, response.text
    return [*csv.DictReader(StringIO(response.text, newline=""))]


def lines(response):
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_ndjson_has_a_line_for_each_row_as_the_list_shows_it(client):
    ProductFactory.create_batch(3, description='"quoted",\n\\ back', metadata_={"a": ["\u0001", 'x"', None]})
    assert lines(client.get(f"{PRODUCTS}/export?format=ndjson")) == client.get(PRODUCTS).json["items"]


def test_csv_has_a_header_with_the_public_names_and_the_same_values_as_text(client):
    ProductFactory(name='A "mug",\nblue', metadata_={"colour": "blue"})
    (row,) = table(client.get(f"{PRODUCTS}/export?format=csv"))
    (shown,) = client.get(PRODUCTS).json["items"]
    assert row.pop("metadata") == '{"colour": "blue"}'
    assert row == {name: "" if value is None else str(value) for name, value in shown.items() if name != "metadata"}


def test_in_csv_null_is_nothing_and_an_empty_text_two_quotes(client):
    ProductFactory(sku="a", description=None)
    ProductFactory(sku="b", description="")
    assert client.get(f"{PRODUCTS}/export?fields=sku,description").text == 'sku,description\na,\nb,""\n'


def test_an_export_without_rows_is_a_header_or_nothing(client):
    assert client.get(f"{PRODUCTS}/export?fields=id,sku").text == "id,sku\n"
    assert client.get(f"{PRODUCTS}/export?format=ndjson").data == b""


def test_filters_sort_and_fields_are_those_of_the_list(client):
    mugs = CategoryFactory(name="Mugs")
    for sku, price in (("a", "5"), ("b", "15"), ("c", "25")):
        ProductFactory(sku=sku, price=Decimal(price), category=mugs)
    ProductFactory(price=Decimal(50))
    query = "price__gte=10&category.name=Mugs&sort=-price&fields=sku"
    assert [row["sku"] for row in table(client.get(f"{PRODUCTS}/export?{query}"))] == ["c", "b"]


def test_rows_come_in_the_order_of_a_related_field_when_that_is_asked_for(client):
    for name in ("b", "a", "c"):
        ProductFactory(sku=name, category=CategoryFactory(name=name))
    rows = table(client.get(f"{PRODUCTS}/export?sort=-category.name&include=category,tags"))
    assert [row["sku"] for row in rows] == ["c", "b", "a"]


def test_deleted_rows_are_left_out_unless_asked_for(client):
    ProductFactory(sku="gone").soft_delete()
    db.session.commit()
    assert table(client.get(f"{PRODUCTS}/export")) == []
    assert [row["sku"] for row in table(client.get(f"{PRODUCTS}/export?deleted=only"))] == ["gone"]


def test_a_single_related_row_is_spread_over_columns_and_many_are_json(client):
    profile = ProfileFactory(country="France")
    product = ProductFactory(name="Mug", tags=[TagFactory(name="sale")])
    OrderFactory(user=profile.user, items=[OrderItemFactory.build(product=product, quantity=2)])
    (row,) = table(client.get("/api/v1/orders/export?include=user.profile,items.product"))
    assert (row["user.username"], row["user.profile.country"]) == (profile.user.username, "France")
    assert json.loads(row["items"])[0]["product"]["name"] == "Mug"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_escaped_where_a_spreadsheet_is_to_read_the_file(client, formula):
    ProductFactory(name=formula, price=Decimal(3))
    (row,) = table(client.get(f"{PRODUCTS}/export?formulas=escape"))
    assert (row["name"], row["price"]) == (f"'{formula}", "3.00")


def test_formulas_stay_as_they_are_by_default(client):
    ProductFactory(name="=1+1")
    assert table(client.get(f"{PRODUCTS}/export"))[0]["name"] == "=1+1"


def test_nothing_but_public_fields_is_exported(client):
    user = ProfileFactory().user
    user.password_hash = "secret"
    db.session.commit()
    for query in ("format=csv&include=profile,roles", "format=ndjson&include=profile,roles"):
        exported = client.get(f"/api/v1/users/export?{query}").text
        assert user.username in exported
        assert "secret" not in exported
        assert "password" not in exported


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("limit=5", "limit", "An export has all rows; this parameter is for pages."),
        ("count=exact", "count", "An export has all rows; this parameter is for pages."),
        ("format=xml", "format", "Must be one of: csv, ndjson."),
        ("format=csv&format=csv", "format", "Must be given once only."),
        ("fromat=csv", "fromat", "There is no parameter 'fromat'; did you mean 'format'?"),
        ("fields=password_hash", "fields", "There is no field 'password_hash'; possible: "),
        ("price__gte=x", "price__gte", "Must be a decimal number, such as 12.50."),
    ],
)
def test_a_wrong_parameter_is_named(client, query, parameter, detail):
    response = client.get(f"{PRODUCTS}/export?{query}")
    assert response.status_code == 400
    (error,) = response.json["errors"]
    assert error["parameter"] == parameter
    assert error["detail"].startswith(detail)


def test_values_of_filters_are_quoted_by_the_driver(client):
    ProductFactory(name="O'Brien \\ 100% %(p0)s")
    ProductFactory(name="other")
    response = client.get(f"{PRODUCTS}/export", query_string={"name": "O'Brien \\ 100% %(p0)s", "fields": "name"})
    assert [row["name"] for row in table(response)] == ["O'Brien \\ 100% %(p0)s"]


# -- the stream -------------------------------------------------------------------------------------------------------


def test_it_is_packed_for_those_who_accept_gzip(client):
    ProductFactory.create_batch(20)
    plain = client.get(f"{PRODUCTS}/export")
    packed = client.get(f"{PRODUCTS}/export", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(packed.data) == plain.data
    assert (packed.headers["Content-Encoding"], plain.headers.get("Content-Encoding")) == ("gzip", None)
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "gzip;q=0.2, identity"])
def test_it_is_not_packed_for_others(client, accepted):
    response = client.get(f"{PRODUCTS}/export", headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in response.headers


def test_a_boolean_in_a_table_is_written_as_in_json(client):
    UserFactory(username="ada", is_active=True)
    UserFactory(username="bob", is_active=False)
    content = client.get("/api/v1/users/export?fields=username,is_active&sort=username&username__in=ada,bob").text
    assert content.splitlines() == ["username,is_active", "ada,true", "bob,false"]


def test_the_file_has_a_name(client):
    response = client.get(f"{PRODUCTS}/export?format=ndjson")
    assert response.headers["Content-Disposition"] == 'attachment; filename="products.ndjson"'
    assert response.mimetype == "application/x-ndjson"


def test_the_statement_timeout_is_lifted(client, monkeypatch):
    ProductFactory()
    seen = []
    original = CopyOut.__init__

    def spy(self, connection, *args, **kwargs):
        seen.append(connection.exec_driver_sql("SHOW statement_timeout").scalar())
        original(self, connection, *args, **kwargs)

    monkeypatch.setattr(CopyOut, "__init__", spy)
    client.get(f"{PRODUCTS}/export")
    assert seen == ["1h"]


def test_an_export_cannot_change_anything(client, monkeypatch):
    ProductFactory()
    seen = []
    original = CopyOut.__init__

    def spy(self, connection, *args, **kwargs):
        seen.append(connection.exec_driver_sql("SHOW transaction_read_only").scalar())
        original(self, connection, *args, **kwargs)

    monkeypatch.setattr(CopyOut, "__init__", spy)
    client.get(f"{PRODUCTS}/export")
    assert seen == ["on"]


def in_use() -> int:
    return db.engine.pool.checkedout()


def eventually(condition) -> bool:
    """Whether it is true within seconds."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def running_copies() -> int:
    with db.engine.connect() as connection:
        return connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'")
        )


@pytest.mark.usefixtures("database")
def test_a_connection_is_given_back_when_all_is_read():
    before = in_use()
    with CopyOut(db.engine.connect(), "COPY (SELECT 1) TO STDOUT", silence=5) as copy:
        assert b"".join(copy) == b"1\n"
        assert in_use() == before


@pytest.mark.usefixtures("database")
def test_rows_are_handed_on_without_python_seeing_each():
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    threading.setprofile(count)
    try:
        with CopyOut(db.engine.connect(), "COPY (SELECT generate_series(1, 100000)) TO STDOUT", silence=5) as copy:
            assert b"".join(copy).count(b"\n") == 100_000
    finally:
        threading.setprofile(None)
    assert 0 < calls < 1_000


@pytest.mark.usefixtures("database")
def test_whoever_leaves_ends_the_copy_and_gives_the_connection_back():
    before = in_use()
    copy = CopyOut(db.engine.connect(), f"COPY ({MANY}) TO STDOUT", silence=5)
    assert len(next(copy)) >= CHUNK_SIZE
    assert in_use() == before + 1
    copy.close()
    assert in_use() == before
    assert eventually(lambda: running_copies() == 0)


@pytest.mark.usefixtures("database")
def test_the_server_is_never_far_ahead_of_the_reader():
    with CopyOut(db.engine.connect(), f"COPY ({MANY}) TO STDOUT", silence=5) as copy:
        time.sleep(0.3)
        assert copy._chunks.qsize() <= CHUNKS_AHEAD


@pytest.mark.usefixtures("database")
def test_a_reader_that_stops_reading_loses_the_connection():
    before = in_use()
    copy = CopyOut(db.engine.connect(), f"COPY ({MANY}) TO STDOUT", silence=0.2)
    assert eventually(lambda: in_use() == before)
    with pytest.raises(UnavailableError):
        for _ in copy:
            pass
    copy.close()


@pytest.mark.usefixtures("database")
def test_a_server_that_sends_nothing_is_given_up():
    before = in_use()
    with pytest.raises(UnavailableError, match="took too long"):
        CopyOut(db.engine.connect(), "COPY (SELECT pg_sleep(30)) TO STDOUT", silence=0.2)
    assert in_use() == before


@pytest.mark.usefixtures("database")
def test_what_fails_at_once_is_told_before_anything_is_sent():
    with pytest.raises(UnavailableError):
        CopyOut(_impatient(), "COPY (SELECT pg_sleep(5)) TO STDOUT", silence=5)


def _impatient():
    connection = db.engine.connect()
    connection.exec_driver_sql("SET LOCAL statement_timeout = 50")
    return connection


@pytest.mark.usefixtures("database")
def test_what_fails_in_the_middle_breaks_the_stream_off():
    before = in_use()
    failing = "SELECT 1000 / (20000 - i), repeat('x', 1000) FROM generate_series(1, 30000) i"
    copy = CopyOut(db.engine.connect(), f"COPY ({failing}) TO STDOUT", silence=5)
    with pytest.raises(Exception, match="outside of what the database can store"):
        for _ in copy:
            pass
    assert in_use() == before


def test_a_broken_stream_does_not_look_like_a_complete_one(database, monkeypatch):
    """Over a socket: no last chunk, so that every client of HTTP/1.1 knows."""
    ProductFactory.create_batch(3)
    original = CopyOut.__next__

    def break_off(self):
        monkeypatch.setattr(CopyOut, "__next__", _fail)
        return original(self)

    monkeypatch.setattr(CopyOut, "__next__", break_off)
    monkeypatch.setattr("werkzeug.serving.WSGIRequestHandler.protocol_version", "HTTP/1.1")
    server = make_server("127.0.0.1", 0, served_as(database, ADMIN), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", f"{PRODUCTS}/export")
        with pytest.raises(IncompleteRead):
            connection.getresponse().read()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _fail(_copy):
    raise UnavailableError
