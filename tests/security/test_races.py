"""Many at once, as attackers send them: nothing is had twice, and nothing is done by who has just been shut out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from api.core.access.caller import Caller
from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession
from api.resources.orders.models import Order
from api.resources.tags.models import Tag
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, bearing, log_in, somebody, stranger
from tests.callers import as_caller
from tests.factories import ProductFactory, RoleFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from werkzeug.test import TestResponse

AT_ONCE = 6


def together(*attempts: Callable[[], TestResponse]) -> list[TestResponse]:
    """What comes of these when they begin at the same moment."""
    barrier = Barrier(len(attempts))

    def run(attempt: Callable[[], TestResponse]) -> TestResponse:
        barrier.wait()
        return attempt()

    with ThreadPoolExecutor(len(attempts)) as pool:
        return [*pool.map(run, attempts)]


def statuses(answers: Sequence[TestResponse]) -> list[int]:
    found = sorted(answer.status_code for answer in answers)
    assert found[-1] < 500 or found[-1] == 503, [answer.text for answer in answers]
    return found


def scalar(statement: Any) -> Any:
    with db.engine.connect() as connection:
        return connection.scalar(statement)


@pytest.fixture
def user(session):
    del session
    return somebody()


def test_an_idempotency_key_with_different_bodies_is_spent_once(app, user):
    product = ProductFactory(stock_quantity=1000)
    caller = Caller(f"user:{user.id}", user.id, frozenset())
    headers = {"Idempotency-Key": "spent-by-several-at-once"}

    def order(quantity: int) -> TestResponse:
        body = {"items": [{"product_id": product_id, "quantity": quantity}]}
        return as_caller(app.test_client(), caller).post("/api/v1/orders", json=body, headers=headers)

    product_id = product.id
    answers = together(*(lambda quantity=quantity: order(quantity) for quantity in range(1, AT_ONCE + 1)))
    assert statuses(answers).count(201) == 1, statuses(answers)
    assert set(statuses(answers)) <= {201, 409, 422}
    assert scalar(select(func.count()).select_from(Order)) == 1


def test_a_refresh_token_that_several_use_at_once_leaves_nobody_with_a_session(app, user):
    token = log_in(stranger(app), user)["refresh_token"]
    answers = together(
        *[lambda: stranger(app).post(f"{AUTH}/refresh", json={"refresh_token": token})] * AT_ONCE,
    )
    assert statuses(answers).count(200) == 1
    won = next(answer for answer in answers if answer.status_code == 200).json
    assert scalar(select(func.count()).where(AuthSession.revoked_at.is_(None))) == 0
    assert stranger(app).get(f"{AUTH}/me", headers=bearing(won["access_token"])).status_code == 401
    again = stranger(app).post(f"{AUTH}/refresh", json={"refresh_token": won["refresh_token"]})
    assert again.status_code == 401


def test_who_is_shut_out_while_writing_writes_nothing_more_from_then_on(app, user):
    token = log_in(stranger(app), user)["access_token"]
    path = f"/api/v1/users/{user.id}"

    def write() -> TestResponse:
        return stranger(app).patch(path, json={"profile": {"full_name": "Mallory"}}, headers=bearing(token))

    def shut_out() -> TestResponse:
        return stranger(app).post(f"{AUTH}/deactivate", json={"password": PASSWORD}, headers=bearing(token))

    answers = together(*[write] * AT_ONCE, shut_out)
    assert set(statuses(answers[:-1])) <= {200, 401, 409, 503}
    assert answers[-1].status_code == 204, answers[-1].text
    assert write().status_code == 401
    assert scalar(select(User.is_active).where(User.id == user.id)) is False


def test_whoever_writes_to_an_account_cannot_keep_it_from_being_closed(app, user):
    headers = bearing(log_in(stranger(app), user)["access_token"])

    def close() -> TestResponse:
        return stranger(app).post(f"{AUTH}/deactivate", json={"password": PASSWORD}, headers=headers)

    with ThreadPoolExecutor(1) as pool, db.engine.connect() as writer:
        writer.execute(text("UPDATE users SET version = version + 1 WHERE id = :id"), {"id": user.id})
        closing = pool.submit(close)
        while not closing.done() and not scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            pass
        writer.commit()
        answer = closing.result()
    assert answer.status_code == 204, answer.text


def test_keys_and_sessions_made_while_an_account_is_closed_do_not_outlive_it(app, user):
    tokens = log_in(stranger(app), user)
    headers = bearing(tokens["access_token"])

    def make_key() -> TestResponse:
        body = {"name": "k", "scopes": ["orders:read"]}
        return stranger(app).post(f"{AUTH}/api-keys", json=body, headers=headers)

    def log_in_again() -> TestResponse:
        return stranger(app).post(f"{AUTH}/login", json={"username": name, "password": PASSWORD})

    def refresh() -> TestResponse:
        return stranger(app).post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]})

    def close() -> TestResponse:
        return stranger(app).post(f"{AUTH}/deactivate", json={"password": PASSWORD}, headers=headers)

    name = user.username
    answers = together(make_key, make_key, log_in_again, log_in_again, refresh, close)
    statuses(answers)
    assert answers[-1].status_code == 204, answers[-1].text
    assert scalar(select(func.count()).select_from(APIKey).where(APIKey.revoked_at.is_(None))) == 0
    assert scalar(select(func.count()).select_from(AuthSession).where(AuthSession.revoked_at.is_(None))) == 0
    assert log_in_again().status_code == 401


def test_a_role_that_is_taken_away_writes_nothing_more_from_then_on(app, user):
    role = RoleFactory(name="manager")
    with db.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO user_roles (user_id, role_id) VALUES (:user, :role)"), {"user": user.id, "role": role.id}
        )
    token = log_in(stranger(app), user)["access_token"]

    def write(number: int) -> TestResponse:
        return stranger(app).post("/api/v1/tags", json={"name": f"race-{number}"}, headers=bearing(token))

    def take_away() -> TestResponse:
        admin = as_caller(app.test_client(), Caller("user:1000001", 1_000_001, frozenset({"admin"})))
        return admin.patch(f"/api/v1/users/{user_id}", json={"role_ids": []})

    user_id = user.id
    assert write(0).status_code == 201
    answers = together(*(lambda number=number: write(number) for number in range(1, AT_ONCE)), take_away)
    assert answers[-1].status_code == 200, answers[-1].text
    assert set(statuses(answers[:-1])) <= {201, 401, 403, 503}
    before = scalar(select(func.count()).select_from(Tag))
    assert before == 1 + sum(answer.status_code == 201 for answer in answers[:-1])
    assert write(99).status_code in {401, 403}
    assert scalar(select(func.count()).select_from(Tag)) == before
