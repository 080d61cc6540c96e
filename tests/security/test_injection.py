"""Payloads at every place of every operation: no 5xx, no code in a statement, no word of the inside, no delay.

`make test` takes a sample of the inputs, the same in every run; `make attack` takes many (`ATTACK_INPUTS`).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from api.core.access.caller import Caller
from tests.accounts import PASSWORD
from tests.callers import as_caller
from tests.factories import (
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    ProfileFactory,
    RoleFactory,
    TagFactory,
)
from tests.security import witness
from tests.security.payloads import MARK, NUMBERS, PAYLOADS
from tests.security.places import operations, places

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from tests.security.places import Operation, Place

INPUTS = int(os.environ.get("ATTACK_INPUTS", "1600"))
SEED = int(os.environ.get("ATTACK_SEED", "4"))
SLOW = 5.0
"""Seconds: what sleeps, sleeps longer, and nothing else takes as long."""


@dataclass
class Findings:
    """What came of all requests."""

    tried: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@pytest.fixture
def shop(database) -> dict[str, Any]:
    """One row in every table, and their ids by resource and by the fields that refer to them."""
    del database
    tag, role = TagFactory(), RoleFactory()
    product = ProductFactory(tags=[tag], stock_quantity=1_000_000, metadata_={"a": {"b": [1, "x", None]}, "c": "d"})
    user = ProfileFactory(user__roles=[role]).user
    order = OrderItemFactory(product=product, order=OrderFactory(user=user)).order
    return {
        "products": product.id,
        "categories": product.category_id,
        "tags": tag.id,
        "roles": role.id,
        "users": user.id,
        "orders": str(order.id),
        "category_id": product.category_id,
        "product_id": product.id,
        "user_id": user.id,
        "tag_ids": [tag.id],
        "role_ids": [role.id],
        "scopes": ["orders:read"],
        "password": PASSWORD,
        "auth": "01890000-0000-7000-8000-000000000000",
    }


def callers(shop: dict[str, Any]) -> list[Caller | None]:
    """Mostly those who get furthest."""
    admin = Caller(f"user:{shop['users']}", shop["users"], frozenset({"admin"}))
    return [*[admin] * 8, Caller(f"user:{shop['users']}", shop["users"], frozenset()), None]


def sample(found: list[Operation], inputs: int) -> list[tuple[Place, str]]:
    """Places of every operation and of every kind, each with a payload; the same ones for the same seed."""
    chance = random.Random(SEED)  # noqa: S311 - the same in every run
    by_kind: dict[tuple[str, str], list[Place]] = {}
    for operation in found:
        for place in places(operation):
            by_kind.setdefault((place.operation, place.kind), []).append(place)
    kinds = [*by_kind.values()]
    payloads = [*PAYLOADS, *NUMBERS]
    drawn = [(chance.choice(kinds[number % len(kinds)]), payloads[number % len(payloads)]) for number in range(inputs)]
    chance.shuffle(drawn)
    return drawn


def attack(client: FlaskClient, inputs: list[tuple[Place, str]], known: dict[str, Any]) -> Findings:
    """Send all of these, and look at each answer."""
    chance = random.Random(SEED)  # noqa: S311 - the same in every run
    findings, possible = Findings(), callers(known)
    for place, payload in inputs:
        as_caller(client, chance.choice(possible))
        began = time.monotonic()
        answer = client.open(**place.request(payload))
        said = answer.get_data()
        taken = time.monotonic() - began
        findings.tried += 1
        findings.statuses[answer.status_code] += 1
        leaked = witness.leaks(answer, payload)
        if answer.status_code >= 500 or leaked or taken > SLOW:
            told = said[:300].decode(errors="replace")
            findings.problems.append(f"{place} {payload!r}: {answer.status_code} {leaked} {taken:.1f} s {told}")
        answer.close()
    return findings


def test_no_payload_at_any_place_becomes_code_or_an_error_of_ours(app, client, shop, monkeypatch, record_property):
    found = operations(app, shop)
    inputs = sample(found, INPUTS)
    before = witness.schema_digest()
    with witness.watching(monkeypatch) as seen:
        findings = attack(client, inputs, shop)
    record_property(
        "attack inputs",
        f"injection: {findings.tried} inputs, {seen.count} statements, "
        f"{seen.with_mark} of them with a payload as a value, {dict(sorted(findings.statuses.items()))}",
    )
    assert not findings.problems, "\n".join(["", *findings.problems[:40]])
    assert not seen.suspicious, "\n".join(["", *seen.suspicious[:20]])
    assert witness.schema_digest() == before
    assert findings.tried >= min(INPUTS, 1500)
    assert {place.operation for place, _ in inputs} == {operation.name for operation in found}
    # Otherwise all would have been refused before it came to a statement, and nothing been shown.
    assert seen.with_mark > findings.tried / 40


def test_the_scanner_finds_a_payload_that_is_code_and_none_that_is_a_value():
    values = [f"SELECT '{MARK}'", f"SELECT E'\\'{MARK}\\\\', 'it''s {MARK} --'", f"SELECT '\n{MARK};'"]
    assert not any(MARK in witness.outside_of_literals(statement) for statement in values)
    code = [
        f"SELECT '' OR {MARK}",
        f"SELECT '{MARK}' OR '1'='1' -- {MARK}",
        f'SELECT "{MARK}"',
        f"SELECT '\\' || {MARK} || '",
    ]
    assert all(MARK in witness.outside_of_literals(statement) for statement in code)


def test_no_host_that_is_sent_gets_into_an_answer(app, client, shop):
    for payload in PAYLOADS:
        host = payload.encode().decode("latin-1").translate({10: " ", 13: " ", 0: " "})
        for form in (host, f"localhost:{host}", f"{host}@localhost", f"localhost, {host}"):
            environ = create_environ(f"/api/v1/products/{shop['products']}", method="GET") | {"HTTP_HOST": form}
            body, status, headers = run_wsgi_app(app, environ)
            said = b"".join(body).decode() + str(headers)
            assert int(status[:3]) < 500, (form, said)
            assert MARK not in said.lower(), (form, said)
    assert client.get("/api/v1/products").status_code == 200
