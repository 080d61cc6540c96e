"""What is stored comes back as it was sent, and what only reads changes nothing."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from api.extensions import db
from tests.factories import CategoryFactory, ProductFactory
from tests.security import witness
from tests.security.payloads import PAYLOADS
from tests.security.places import operations, places
from tests.security.test_injection import SEED, shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

__all__ = ["shop"]

PRODUCTS = "/api/v1/products"


def by_post(client: FlaskClient, row: dict[str, Any]) -> TestResponse:
    return client.post(PRODUCTS, json=row)


def by_bulk(client: FlaskClient, row: dict[str, Any]) -> TestResponse:
    return client.post(f"{PRODUCTS}/bulk", json={"items": [row]})


def by_put(client: FlaskClient, row: dict[str, Any]) -> TestResponse:
    key = ProductFactory(category=db.session.get_one(CategoryFactory._meta.model, row["category_id"])).id
    return client.put(f"{PRODUCTS}/{key}", json=row)


def by_patch(client: FlaskClient, row: dict[str, Any]) -> TestResponse:
    key = ProductFactory(category=db.session.get_one(CategoryFactory._meta.model, row["category_id"])).id
    steps = [{"op": "add", "path": f"/{name}", "value": value} for name, value in row.items()]
    return client.patch(f"{PRODUCTS}/{key}", data=json.dumps(steps), content_type="application/json-patch+json")


def by_file(client: FlaskClient, row: dict[str, Any]) -> TestResponse:
    return client.post(f"{PRODUCTS}/import", data=json.dumps(row) + "\n", content_type="application/x-ndjson")


WAYS = [by_post, by_bulk, by_put, by_patch, by_file]


@pytest.mark.parametrize("write", WAYS)
def test_whatever_is_stored_comes_back_as_it_was_sent(
    client, write: Callable[[FlaskClient, dict[str, Any]], TestResponse], record_property
):
    category = CategoryFactory().id
    stored = 0
    # A part of them for each way, so that together they take all.
    mine = PAYLOADS[WAYS.index(write) % 3 :: 3]
    for number, payload in enumerate(mine):
        sent = payload.strip()[:200]
        document = {sent: {"value": payload, "list": [payload, {sent: None}]}}
        row = {"sku": f"sent-{number}", "name": sent, "description": payload, "price": "1.00", "category_id": category}
        answer = write(client, {**row, "metadata": document})
        assert answer.status_code in {200, 201, 422}, answer.text
        found = client.get(PRODUCTS, query_string={"sku": f"sent-{number}"}).json["items"]
        if not found:
            # Characters that no text may have: refused, and not cut out of it.
            continue
        stored += 1
        assert found[0]["metadata"] == document
        for name in ("name", "description"):
            assert found[0][name] == row[name], payload
        again = client.get(PRODUCTS, query_string={"name": found[0]["name"], "sku": f"sent-{number}"}).json["items"]
        assert [item["id"] for item in again] == [found[0]["id"]], payload
    record_property("attack inputs", f"storage {write.__name__}: {len(mine)} inputs, {stored} stored unchanged")
    assert stored > len(mine) / 2


def contents() -> dict[str, str]:
    """A digest of each table."""
    with db.engine.connect() as connection:
        return {
            table.name: connection.scalar(
                text(f"SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table.name} t")  # noqa: S608 - its own names
            )
            for table in db.metadata.sorted_tables
        }


def test_no_read_changes_a_row_whatever_it_is_asked_for(app, client, shop):
    chance = random.Random(SEED)  # noqa: S311 - the same in every run
    reads = [
        place
        for operation in operations(app, shop)
        if operation.method == "get"
        for place in places(operation)
        if place.kind != "path"
    ]
    before, schema = contents(), witness.schema_digest()
    for place in chance.sample(reads, 400):
        with client.open(**place.request(chance.choice(PAYLOADS))) as answer:
            assert answer.status_code < 500, place
    assert contents() == before
    assert witness.schema_digest() == schema
