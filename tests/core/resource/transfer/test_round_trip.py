"""What is exported and imported again is the same, whatever it is; and memory does not grow with the file."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from socket import SHUT_WR, create_connection

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select
from werkzeug.serving import make_server

from api.core.errors import MalformedRequestError
from api.core.http.views import TRANSFER_LIMITS
from api.core.resource.transfer.rows import csv_rows
from api.core.resource.transfer.source import LINE_MAX, lines
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.products.models import Product
from tests.callers import ADMIN, served_as
from tests.factories import CategoryFactory, ProductFactory

PRODUCTS = "/api/v1/products"
MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}

rubbish = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=("Cs",))
    | st.sampled_from("\",\n\r\\\t;='\u2028\ufeff"),
    max_size=12,
)
documents = st.dictionaries(
    rubbish,
    st.recursive(st.none() | st.booleans() | st.integers() | rubbish, lambda inner: st.lists(inner, max_size=3)),
    max_size=3,
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.builds("{}x{}".format, rubbish, rubbish),
            "description": st.none() | rubbish,
            "price": st.decimals(0, 99_999_999, places=2),
            "stock_quantity": st.integers(0, 2**31 - 1),
            "metadata_": documents,
        }
    ),
    max_size=5,
)


def stored():
    columns = (Product.sku, Product.name, Product.description, Product.price, Product.stock_quantity)
    return db.session.execute(select(*columns, Product.metadata_, Product.category_id).order_by(Product.id)).all()


@pytest.mark.parametrize("file_format", ["csv", "ndjson"])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(values=rows)
def test_what_is_exported_can_be_imported_and_is_the_same(client, file_format, values):
    db.session.execute(delete(Product))
    db.session.execute(delete(Category))
    shelf = CategoryFactory(name='Books, "old" and = new')
    added = [{"sku": f"sku {number}", "category_id": shelf.id, **row} for number, row in enumerate(values)]
    if added:
        db.session.execute(insert(Product), added)
    db.session.commit()
    before = stored()
    exported = client.get(f"{PRODUCTS}/export?format={file_format}")
    url, content_type = f"{PRODUCTS}/import", MEDIA_TYPES[file_format]
    again = client.post(f"{url}?upsert=sku", data=exported.data, content_type=content_type)
    assert (again.status_code, again.json["unchanged"]) == (200, len(values)), again.text
    db.session.execute(delete(Product))
    db.session.commit()
    done = client.post(url, data=exported.data, content_type=content_type)
    assert (done.status_code, done.json["inserted"]) == (200, len(values)), done.text
    assert stored() == before
    db.session.rollback()


def test_a_reference_by_name_goes_both_ways(client):
    ProductFactory(sku="a", category=CategoryFactory(name="Books"))
    query = "fields=sku,name,price,category.name&include=category"
    exported = client.get(f"{PRODUCTS}/export?{query}")
    again = client.post(f"{PRODUCTS}/import?upsert=sku", data=exported.data, content_type="text/csv")
    assert again.json["unchanged"] == 1


# -- CSV by itself ----------------------------------------------------------------------------------------------------


def cells_of(content, size=7):
    """The rows of `content`, which arrives in blocks of `size` bytes."""
    blocks = (content[start : start + size] for start in range(0, len(content), size))
    return [*csv_rows(lines(blocks))]


def as_csv(table):
    def cell(value):
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    return "".join(",".join(map(cell, row)) + "\n" for row in table).encode()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    table=st.lists(st.lists(st.none() | st.text(st.sampled_from('ab",\n\r '), max_size=5), min_size=2, max_size=4)),
    size=st.integers(1, 20),
)
def test_whatever_is_quoted_is_read_as_it_was(table, size):
    assert [cells for _, cells in cells_of(as_csv(table), size)] == table


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(content=st.text(st.sampled_from('a",\n\r\u00e9'), max_size=30).map(str.encode), size=st.integers(1, 20))
def test_rubbish_is_rows_or_reasons_and_lines_are_counted_right(content, size):
    try:
        found = cells_of(content, size)
    except MalformedRequestError:
        return
    numbers = [number for number, _ in found]
    assert numbers == sorted(set(numbers))
    assert all(1 <= number <= content.count(b"\n") + 1 for number in numbers)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'a,""\n', [(1, ["a", ""])]),
        (b"a,\n", [(1, ["a", None])]),
        (b'"a\n\nb",c\nd,e', [(1, ["a\n\nb", "c"]), (4, ["d", "e"])]),
        (b'"a""b",c\r\n', [(1, ['a"b', "c"])]),
        (b"\n\r\na,b\n\n", [(3, ["a", "b"])]),
    ],
)
def test_lines_are_those_of_the_file(content, expected):
    assert cells_of(content) == expected


@pytest.mark.parametrize("line", [b'a"b,c', b'"a"b,c', b'"a" ,c', b'a,b"'])
def test_a_misplaced_quote_spoils_its_own_line_only(line):
    (first, reason), second = cells_of(line + b"\nx,y\n")
    assert (first, second) == (1, (2, ["x", "y"]))
    assert reason.startswith("A quote is misplaced")


def test_a_quote_that_is_never_closed_is_told_with_its_line():
    with pytest.raises(MalformedRequestError, match="opened in line 2 is not closed"):
        cells_of(b'a,b\nc,"d\ne,f\n')


def test_a_line_without_end_is_refused_and_not_collected():
    with pytest.raises(MalformedRequestError, match=f"Line 2 is longer than {LINE_MAX} bytes"):
        [*lines(iter([b"a\n", *[b"x" * 65_536] * 100]))]


# -- memory and broken bodies -----------------------------------------------------------------------------------------


@pytest.fixture
def address(database, monkeypatch):
    """Host and port of the application behind a socket."""
    monkeypatch.setattr("werkzeug.serving.WSGIRequestHandler.protocol_version", "HTTP/1.1")
    server = make_server("127.0.0.1", 0, served_as(database, ADMIN), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield "127.0.0.1", server.port
    server.shutdown()
    thread.join()
    server.server_close()


ROWS = 50_000
GROWTH_MAX = 24
"""MiB; the file has more than fifty."""


def memory(what):
    """MiB of this process, by proc(5)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{what}:")) / 1024


@contextmanager
def bounded_growth():
    """The block needs no more than `GROWTH_MAX`."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < GROWTH_MAX


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file(address):
    right = {"name": "Mug", "price": "1.00", "category_id": CategoryFactory(name="Books").id, "description": "x" * 1000}
    content = (json.dumps({"sku": f"{number}", **right}).encode() + b"\n" for number in range(ROWS))
    with bounded_growth():
        assert json.loads(post(address, content))["inserted"] == ROWS
    connection = HTTPConnection(*address, timeout=120)
    connection.request("GET", f"{PRODUCTS}/export?format=ndjson")
    with bounded_growth():
        response, size = connection.getresponse(), 0
        while block := response.read(65_536):
            size += len(block)
    assert size > ROWS * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_rejects(address):
    content = (b'{"sku":' + str(number).encode() + b"}\n" for number in range(ROWS))
    with bounded_growth():
        assert json.loads(post(address, content))["rejected"] == ROWS


def post(address, content, **headers):
    """Send the parts of `content` in chunks; the answer."""
    connection = HTTPConnection(*address, timeout=120)
    headers = {"Content-Type": "application/x-ndjson", **headers}
    connection.request("POST", f"{PRODUCTS}/import", content, headers, encode_chunked=True)
    return connection.getresponse().read()


def test_a_body_that_breaks_off_writes_nothing(address):
    line = json.dumps({"sku": "a", "name": "Mug", "price": "1", "category_id": CategoryFactory().id}).encode() + b"\n"
    head = f"POST {PRODUCTS}/import HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    for length in (f"Content-Length: {len(line) + 100}\r\n\r\n".encode(), b"Transfer-Encoding: chunked\r\n\r\n"):
        body = line if length.startswith(b"Content") else f"{len(line):x}\r\n".encode() + line + b"\r\n"
        with create_connection(address, timeout=10) as sender:
            sender.sendall(head.encode() + length + body)
            sender.shutdown(SHUT_WR)
            assert sender.recv(65_536).startswith(b"HTTP/1.1 400")
    assert db.session.scalar(select(func.count()).select_from(Product)) == 0


def test_a_file_larger_than_allowed_is_refused_packed_or_not(client, monkeypatch, database):
    limits = database.extensions[TRANSFER_LIMITS]
    monkeypatch.setitem(database.extensions, TRANSFER_LIMITS, replace(limits, import_bytes=100_000))
    bomb = gzip.compress(b"\n" * 10_000_000)
    assert len(bomb) < 10_000
    headers = {"Content-Encoding": "gzip"}
    packed = client.post(f"{PRODUCTS}/import", data=bomb, content_type="text/csv", headers=headers)
    assert (packed.status_code, packed.json["detail"]) == (413, "The file is larger than 100000 bytes when unpacked.")
    plain = client.post(f"{PRODUCTS}/import", data=b"a" * 100_001, content_type="text/csv")
    assert (plain.status_code, plain.json["detail"]) == (413, "The file is larger than 100000 bytes.")


def test_a_file_may_be_larger_than_other_bodies(client, database):
    shelf = CategoryFactory()
    line = json.dumps({"name": "Mug", "price": "1", "category_id": shelf.id, "description": "x" * 9000})
    body = "\n".join(f'{{"sku":"{number}",{line[1:]}' for number in range(200))
    assert len(body) > database.config["MAX_CONTENT_LENGTH"]
    done = client.post(f"{PRODUCTS}/import", data=body, content_type="application/x-ndjson")
    assert done.json["inserted"] == 200


def test_an_import_with_an_idempotency_key_is_done_once_however_large(client, database):
    CategoryFactory(name="Books")
    lines = (f"{number},Mug,1,Books,{'x' * 9000}" for number in range(200))
    body = "\n".join(["sku,name,price,category.name,description", *lines])
    assert len(body) > database.config["MAX_CONTENT_LENGTH"]
    for replayed in (None, "true"):
        done = client.post(
            f"{PRODUCTS}/import", data=body, content_type="text/csv", headers={"Idempotency-Key": "once"}
        )
        assert (done.json["inserted"], done.headers.get("Idempotency-Replayed")) == (200, replayed)
