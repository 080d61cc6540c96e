"""Packed bodies: only files may be packed, and one that grows beyond its limit is given up where it does."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from dataclasses import replace
from gzip import compress

import pytest
from sqlalchemy import func, select

from api.core.http.views import TRANSFER_LIMITS
from api.extensions import db
from api.resources.products.models import Product
from tests.factories import CategoryFactory, ProductFactory, UserFactory

PRODUCTS = "/api/v1/products"
LIMIT = 12_000_000
MEMORY = 16_000_000
SECONDS = 2.0
LONG_ROW = compress(b"long," + b"x" * 1_000_000 + b",1.00,Kitchen\n")


@pytest.fixture
def send(client, database, monkeypatch):
    """Import a packed file of at most 12 MB, as it is and unpacked; the answer."""
    limits = database.extensions[TRANSFER_LIMITS]
    monkeypatch.setitem(database.extensions, TRANSFER_LIMITS, replace(limits, import_bytes=LIMIT))
    CategoryFactory(name="Kitchen")

    def post(content, encoding="gzip", query=""):
        headers = {"Content-Encoding": encoding}
        return client.post(f"{PRODUCTS}/import{query}", data=content, content_type="text/csv", headers=headers)

    return post


def number_of_products():
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(Product))


def valid_rows(number):
    return "".join(["sku,name,price,category.name\n", *(f"{row},Mug,1.00,Kitchen\n" for row in range(number))]).encode()


@pytest.fixture(scope="module")
def bomb():
    """10 MB that are 10 GB: valid rows, then one long row again and again, in members behind one another."""
    return compress(valid_rows(100)) + LONG_ROW * 10_000


@pytest.mark.parametrize("query", ["", "?atomic=false"])
def test_a_bomb_is_given_up_at_the_limit_in_little_memory_and_keeps_nothing(send, bomb, query):
    assert 9_000_000 < len(bomb) < 12_000_000
    tracemalloc.start()
    started = time.monotonic()
    answer = send(bomb, query=query)
    taken, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json["detail"]) == (413, "The file is larger than 12000000 bytes when unpacked.")
    assert taken < SECONDS
    assert peak < MEMORY
    assert number_of_products() == 0


def test_members_that_are_small_enough_count_together(send):
    answer = send(compress(valid_rows(10)) + LONG_ROW * 12)
    assert answer.status_code == 413
    assert number_of_products() == 0


def test_a_gzip_in_a_gzip_is_unpacked_once(send):
    answer = send(compress(compress(valid_rows(10))))
    assert answer.status_code in {400, 422}
    assert number_of_products() == 0


def test_members_without_content_are_given_up_soon(send):
    started = time.monotonic()
    answer = send(compress(b"") * 200_000)
    assert (answer.status_code, answer.json["detail"]) == (400, "The gzip file goes on and on without content.")
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize(
    "content",
    [b"rubbish", compress(b"a")[:-1], compress(valid_rows(3))[:-5], compress(b"a")[:12] + b"\xff" * 100, b"\x1f\x8b"],
    ids=["rubbish", "without its end", "with a torn check sum", "with a broken block", "two bytes"],
)
def test_what_is_no_gzip_is_malformed_and_keeps_nothing(send, content):
    answer = send(content)
    assert answer.status_code == 400
    assert "gzip" in answer.json["detail"]
    assert number_of_products() == 0


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, identity", "x", "*"])
def test_files_are_packed_with_gzip_or_not_at_all(send, encoding):
    answer = send(zlib.compress(valid_rows(3)), encoding=encoding)
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "gzip"
    assert number_of_products() == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/users"),
        ("PUT", "/api/v1/users/{user}"),
        ("PATCH", "/api/v1/users/{user}"),
        ("POST", "/api/v1/products/bulk"),
        ("PATCH", "/api/v1/products/bulk"),
    ],
)
def test_no_other_body_may_be_packed(client, method, path, encoding):
    ProductFactory()
    answer = client.open(
        path.format(user=UserFactory().id),
        method=method,
        data=compress(b"{}"),
        content_type="application/json",
        headers={"Content-Encoding": encoding},
    )
    assert answer.status_code == 415
    assert answer.json["detail"] == (
        "The body has a Content-Encoding; send it as it is. Only files to be imported may be packed."
    )
