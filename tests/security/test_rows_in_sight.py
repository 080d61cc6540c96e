"""What a customer reads is what there would be if nobody else had any rows.

Requests are generated, answered to an admin over a database that holds one customer's rows only, and answered to this
customer when the rows of others have come: the answers are the same to the byte.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from api.core.access.caller import Caller
from api.core.http.views import ALLOW_LISTS
from api.core.query.aggregate_params import FUNCTIONS, possible_fields
from api.core.query.allowlist import Kind
from api.extensions import db
from tests.callers import ADMIN, as_caller
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, ProfileFactory, RoleFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

    from api.core.query.allowlist import AllowList
    from api.resources.orders.models import Order
    from api.resources.users.models import User

REQUESTS = 64
"""For each resource."""
LISTS = ("in", "not_in", "between")


def orders_of(user: User, product: Any, statuses: tuple[str, ...]) -> list[Order]:
    return [
        OrderFactory(
            user=user,
            status=status,
            total_amount=Decimal(10 * number),
            metadata_={"gift": number, "channel": user.username},
            items=[OrderItemFactory.build(product=product, quantity=number + 1)],
        )
        for number, status in enumerate(statuses)
    ]


class World:
    """A customer with orders and, later, all the others."""

    def __init__(self) -> None:
        self.me = ProfileFactory(full_name="Ada Lovelace", user__username="ada").user
        self.product = ProductFactory(name="Blue mug")
        self.mine = orders_of(self.me, self.product, ("pending", "shipped", "shipped", "delivered"))
        self.caller = Caller(f"user:{self.me.id}", self.me.id)
        db.session.commit()

    def fill(self) -> None:
        """Add what is not for the customer: others with orders, a deleted order of theirs, and a role they hold."""
        role = RoleFactory(name="vip")
        for name in ("adam", "bob", "eve"):
            other = ProfileFactory(full_name="Ada Byron", user__username=name, user__roles=[role]).user
            orders_of(other, self.product, ("pending", "shipped", "cancelled"))
        gone = orders_of(self.me, self.product, ("cancelled",))[0]
        gone.soft_delete()
        db.session.commit()
        # Not by way of the object: that would be a change of the user, too.
        db.session.execute(
            text("INSERT INTO user_roles (user_id, role_id) VALUES (:user, :role)"),
            {"user": self.me.id, "role": role.id},
        )
        db.session.commit()

    def values(self) -> dict[Kind, list[str]]:
        """What filters compare with: of the customer, of others, and of nobody."""
        mine = [str(order.id) for order in self.mine]
        return {
            Kind.INTEGER: ["0", "1", "2", "3", str(self.me.id), str(self.me.id + 1), str(self.product.id)],
            Kind.DECIMAL: ["0", "10", "20", "9.99"],
            Kind.TEXT: ["ada", "bob", "a", "shipped", "pending", "Ada Lovelace", "Ada Byron", "vip", "France"],
            Kind.BOOLEAN: ["true", "false"],
            Kind.TIMESTAMP: ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"],
            Kind.UUID: [*mine, "00000000-0000-7000-8000-000000000000"],
            Kind.JSON: ["1", "ada", "bob"],
        }


class Requests:
    """Generates requests for one resource, of all that its allow-list has."""

    def __init__(self, allowed: AllowList, values: dict[Kind, list[str]], seed: str) -> None:
        self._allowed = allowed
        self._values = values
        self._random = Random(seed)  # noqa: S311 - the same requests in each run

    def some(self, number: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Paths below the resource, and their parameters."""
        kinds = (self._list, self._list, self._aggregate, self._export)
        for place in range(number):
            yield kinds[place % len(kinds)]()

    def _list(self) -> tuple[str, dict[str, str]]:
        asked = self._filters() | self._shown() | {"count": "exact"}
        sorts = sorted(self._allowed.sorts)
        if self._random.random() < 0.6:
            asked["sort"] = ",".join(self._random.choice(("", "-")) + name for name in self._some(sorts, 2))
        if self._random.random() < 0.3 and self._allowed.searched:
            asked |= {self._random.choice(("q", "similar_to")): "ada", "highlight": "true"}
        size = {"limit": "2"} if self._random.random() < 0.7 else {"page": "2", "per_page": "1"}
        return "", asked | size

    def _aggregate(self) -> tuple[str, dict[str, str]]:
        asked = self._filters() | {"count": "*"}
        if self._random.random() < 0.8:
            asked["group_by"] = ",".join(self._some(self._names(possible_fields(self._allowed)), 2))
        for function in self._some(sorted(FUNCTIONS), 2):
            asked[function] = self._random.choice(self._names(possible_fields(self._allowed, function)))
        if self._random.random() < 0.3 and asked["count"] == "*":
            asked["having"] = "count__gt=1"
        return "/aggregate", asked

    def _export(self) -> tuple[str, dict[str, str]]:
        return "/export", self._filters() | self._shown() | {"format": self._random.choice(("csv", "ndjson"))}

    def _shown(self) -> dict[str, str]:
        asked: dict[str, str] = {}
        if self._random.random() < 0.7:
            asked["include"] = ",".join(self._some(sorted(self._allowed.includes), 3))
        if self._random.random() < 0.3:
            own = sorted(name for name in self._allowed.fields if "." not in name)
            asked["fields"] = ",".join(self._some(own, 4))
        return asked

    def _filters(self) -> dict[str, str]:
        chosen = dict(self._filter() for _ in range(self._random.randint(0, 2)))
        if self._random.random() < 0.4:
            members = ",".join(f'{name}="{value}"' for name, value in (self._filter(grouped=True) for _ in range(2)))
            chosen[self._random.choice(("or", "and", "not"))] = f"({members})"
        return chosen

    def _filter(self, *, grouped: bool = False) -> tuple[str, str]:
        rule = self._random.choice(sorted(self._allowed.filters.values(), key=lambda rule: rule.name))
        values = self._values[rule.kind]
        if rule.kind is Kind.JSON:
            return f"{rule.name}.{self._random.choice(('gift', 'channel'))}", self._random.choice(values)
        operators = [operator for operator in rule.operators if not (grouped and operator in LISTS)]
        operator = self._random.choice(operators)
        if operator == "is_null":
            return f"{rule.name}__is_null", self._random.choice(("true", "false"))
        given = self._random.choices(values, k=2) if operator in LISTS else [self._random.choice(values)]
        return f"{rule.name}__{operator}", ",".join(given)

    def _names(self, names: list[str]) -> list[str]:
        return [name.replace("<key>", "gift") for name in names]

    def _some(self, names: list[str], most: int) -> list[str]:
        return self._random.sample(names, self._random.randint(1, min(most, len(names))))


def asked(client: FlaskClient, caller: Caller, resource: str, request: tuple[str, dict[str, str]]) -> tuple[int, bytes]:
    path, parameters = request
    answer = as_caller(client, caller).get(f"/api/v1/{resource}{path}", query_string=parameters)
    return answer.status_code, answer.data


@pytest.mark.parametrize("resource", ["orders", "users"])
def test_every_read_is_the_same_as_without_the_rows_of_others(client, database, resource):
    world = World()
    requests = [*Requests(database.extensions[ALLOW_LISTS][resource], world.values(), resource).some(REQUESTS)]
    before = [asked(client, ADMIN, resource, request) for request in requests]
    world.fill()
    after = [asked(client, world.caller, resource, request) for request in requests]
    differing = [
        (request, alone, among_others)
        for request, alone, among_others in zip(requests, before, after, strict=True)
        if alone != among_others
    ]
    assert differing == []
    wrong = [(request, answer) for request, answer in zip(requests, before, strict=True) if answer[0] != 200]
    assert wrong == []
    # They tell rows apart at all: an admin is answered something else.
    assert (
        sum(asked(client, ADMIN, resource, request) != answer for request, answer in zip(requests, after, strict=True))
        > REQUESTS // 3
    )


def test_histories_are_the_same_as_without_the_rows_of_others(client):
    world = World()
    paths = [f"/{order.id}/history" for order in world.mine]
    before = [asked(client, ADMIN, "orders", (path, {"count": "exact"})) for path in paths]
    world.fill()
    assert [asked(client, world.caller, "orders", (path, {"count": "exact"})) for path in paths] == before


def test_a_write_by_filter_meets_no_more_rows_than_without_those_of_others(client, database):
    world = World()
    requests = Requests(database.extensions[ALLOW_LISTS]["orders"], world.values(), "writes")
    filters = [chosen for chosen in (requests._filters() for _ in range(40)) if chosen]

    def affected(caller: Caller) -> list[Any]:
        as_caller(client, caller)
        steering = {"dry_run": "true", "max_affected": "4"}
        answers = [
            client.patch("/api/v1/orders", query_string=chosen | steering, json={"metadata": {}}) for chosen in filters
        ]
        return [(answer.status_code, answer.json) for answer in answers]

    before = affected(ADMIN)
    world.fill()
    assert affected(world.caller) == before
    assert {status for status, _ in before} == {200}
