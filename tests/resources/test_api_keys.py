"""API keys: shown once, stored as a hash, limited to their scopes, and gone when they are deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select, text, update

from api.app import create_app
from api.core.database.mixins import now
from api.extensions import db
from api.resources.api_keys.service import REMEMBERED_FOR, KeyRing, MadeKey
from api.resources.auth.models import APIKey
from api.resources.users.models import User, user_roles
from tests.accounts import AUTH, bearing, log_in, somebody, stranger
from tests.factories import OrderFactory, RoleFactory

KEYS = f"{AUTH}/api-keys"
NEW = {"name": "nightly export", "scopes": ["products:read", "orders:read"]}


@pytest.fixture
def nobody(database):
    return stranger(database)


@pytest.fixture
def user(session):
    user = somebody(username="ada")
    user.roles.append(RoleFactory(name="manager"))
    session.commit()
    return user


@pytest.fixture
def headers(nobody, user):
    return bearing(log_in(nobody, user)["access_token"])


@pytest.fixture
def make(nobody, headers):
    """`make(scopes=[…])`: a new key, as it is answered."""

    def create(**values):
        answer = nobody.post(KEYS, json=NEW | values, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json

    return create


def status(client, key, path=f"{AUTH}/me"):
    return client.get(path, headers=bearing(key["key"])).status_code


def write(statement):
    with db.engine.begin() as connection:
        connection.execute(statement)


def stored(column):
    with db.engine.connect() as connection:
        return connection.scalar(select(column))


# -- make, list, delete


def test_a_key_is_shown_when_it_is_made_and_never_again(nobody, headers, make):
    key = make()
    assert key["key"].startswith(key["prefix"] + "_")
    assert (key["name"], key["scopes"]) == ("nightly export", ["orders:read", "products:read"])
    assert (key["expires_at"], key["last_used_at"]) == (None, None)
    listed = nobody.get(KEYS, headers=headers)
    assert listed.json["items"] == [{name: value for name, value in key.items() if name != "key"}]
    assert key["key"] not in listed.text


def test_a_key_is_stored_as_a_hash_only(make):
    key = make()["key"]
    with db.engine.connect() as connection:
        content = connection.scalar(text("SELECT string_agg(k::text, '') FROM api_keys k"))
        history = connection.scalar(text("SELECT count(*) FROM history WHERE table_name = 'api_keys'"))
    assert key not in content
    assert key.rpartition("_")[2] not in content
    assert history == 0
    assert len(stored(APIKey.hash)) == 32


def test_making_a_key_is_not_answered_from_a_store(nobody, headers):
    once = {**headers, "Idempotency-Key": "1"}
    answers = [nobody.post(KEYS, json=NEW, headers=once) for _ in range(2)]
    assert answers[0].json["key"] != answers[1].json["key"]
    assert answers[0].headers["Cache-Control"] == "no-store"
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM idempotency_keys")) == 0


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"scopes": ["orders:read", "orders:erase"]}, "/scopes/1"),
        ({"scopes": ["gadgets:read"]}, "/scopes/0"),
        ({"scopes": ["*"]}, "/scopes/0"),
        ({"scopes": ["auth:write"]}, "/scopes/0"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": "orders:read"}, "/scopes"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 81}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"user_id": 1}, "/user_id"),
        ({"prefix": "bk_x"}, "/prefix"),
    ],
)
def test_a_key_with_a_mistake_is_not_made(nobody, headers, values, pointer):
    answer = nobody.post(KEYS, json=NEW | values, headers=headers)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert stored(func.count(APIKey.id)) == 0


def test_a_wrong_scope_is_told_with_those_that_there_are(nobody, headers):
    answer = nobody.post(KEYS, json=NEW | {"scopes": ["order:read"]}, headers=headers)
    assert "orders:read, orders:write" in answer.json["errors"][0]["detail"]


def test_one_has_so_many_keys_and_no_more(settings, user, database):
    del database
    client = create_app(replace(settings, api_keys_max=2)).test_client()
    headers = bearing(log_in(client, user)["access_token"])
    assert [client.post(KEYS, json=NEW, headers=headers).status_code for _ in range(3)] == [201, 201, 409]


def test_a_key_is_deleted_by_its_user_and_nobody_else(nobody, headers, make):
    key = make()
    assert status(nobody, key) == 200
    path = f"{KEYS}/{key['id']}"
    hers = bearing(log_in(nobody, somebody())["access_token"])
    assert nobody.get(KEYS, headers=hers).json == {"items": []}
    assert nobody.delete(path, headers=hers).status_code == 404
    assert nobody.delete(path, headers=headers).status_code == 204
    assert status(nobody, key) == 401
    assert nobody.delete(path, headers=headers).status_code == 404


# -- what it may do


def test_a_key_may_do_what_its_scopes_name_and_nothing_else(nobody, user, make):
    OrderFactory(user=user)
    key = make(scopes=["orders:read"])
    assert nobody.get("/api/v1/orders", headers=bearing(key["key"])).json["items"]
    assert status(nobody, key, "/api/v1/users") == 403
    body = {"name": "Mugs"}
    assert nobody.post("/api/v1/categories", json=body, headers=bearing(key["key"])).status_code == 403


def test_a_key_tells_who_it_acts_for_and_with_which_scopes(nobody, user, make):
    me = nobody.get(f"{AUTH}/me", headers=bearing(make()["key"])).json
    assert (me["id"], me["roles"], me["scopes"]) == (user.id, ["manager"], ["orders:read", "products:read"])


@pytest.mark.parametrize("change", ["", "x", "_", " x", "\u00e9"])
def test_what_is_no_key_is_refused(nobody, make, change):
    key = make()["key"]
    wrong = {"key": key[:-1] + change if change else key[:-1]}
    assert status(nobody, wrong) == 401


def test_a_prefix_is_no_key(nobody, make):
    assert status(nobody, {"key": make()["prefix"]}) == 401


# -- how long it holds


def test_a_key_holds_until_it_expires(nobody, make):
    key = make(expires_at=(now() + timedelta(hours=1)).isoformat())
    assert status(nobody, key) == 200
    write(update(APIKey).values(expires_at=func.now()))
    assert status(nobody, key) == 401
    assert status(nobody, key, "/api/v1/products") == 401


def test_it_is_refused_at_once_in_every_process_that_knows_it(nobody, headers, make, settings):
    key = make(scopes=["products:read"])
    other = create_app(settings).test_client()
    assert status(nobody, key) == status(other, key) == 200
    nobody.delete(f"{KEYS}/{key['id']}", headers=headers)
    assert status(other, key, "/api/v1/products") == 401
    assert status(nobody, key) == 401


@pytest.mark.parametrize(
    "values",
    [{"is_active": False}, {"password_hash": "$argon2id$another"}, {"deleted_at": func.now()}],
    ids=["inactive", "another password", "deleted"],
)
def test_it_ends_with_what_its_user_stands_for(nobody, make, values):
    key = make()
    assert status(nobody, key) == 200
    write(update(User).values(**values))
    assert status(nobody, key) == 401
    assert stored(APIKey.revoked_at) is not None


def test_it_has_the_roles_that_its_user_has_now(nobody, make):
    key = make(scopes=["users:read"])
    listed = nobody.get("/api/v1/users", headers=bearing(key["key"]))
    assert listed.status_code == 200
    somebody()
    write(delete(user_roles))
    # What this process knew of it is outdated: nothing is done with it, and the next request knows better.
    again = nobody.get("/api/v1/users", headers=bearing(key["key"]))
    assert again.status_code == 503
    assert again.headers["Retry-After"]
    assert nobody.get(f"{AUTH}/me", headers=bearing(key["key"])).json["roles"] == []
    assert len(nobody.get("/api/v1/users", headers=bearing(key["key"])).json["items"]) == 1


def test_its_last_use_is_known_to_the_minute(nobody, headers, make, session):
    key = make()
    assert stored(APIKey.last_used_at) is None
    for _ in range(3):
        status(nobody, key)
    first = stored(APIKey.last_used_at)
    assert now() - first < timedelta(minutes=1)
    assert nobody.get(KEYS, headers=headers).json["items"][0]["last_used_at"] is not None
    del session


def test_a_key_is_looked_up_once_a_minute_and_then_checked_in_the_same_round_trip(nobody, make, statements):
    key = make(scopes=["products:read"])
    status(nobody, key)
    with statements() as counted:
        assert status(nobody, key, "/api/v1/products") == 200
    assert counted.count == 1


def test_what_is_remembered_of_a_key_is_forgotten_after_a_minute(make):
    key, time_now = make()["key"], [0.0]
    ring = KeyRing(clock=lambda: time_now[0])
    looked_up = []

    def run(function):
        looked_up.append(time_now[0])
        return db.retrying(function)

    for moment in (0.0, REMEMBERED_FOR - 1, REMEMBERED_FOR + 1):
        time_now[0] = moment
        assert ring.find(key, run).scopes == {"orders:read", "products:read"}
    assert looked_up == [0.0, REMEMBERED_FOR + 1]


def test_no_more_than_so_many_keys_are_remembered(make, monkeypatch):
    monkeypatch.setattr("api.resources.api_keys.service.CACHE_SIZE", 2)
    ring = KeyRing()
    for _ in range(5):
        ring.find(make()["key"], db.retrying)
    assert len(ring._known) <= 2


def test_a_key_is_in_no_repr(make):
    made = MadeKey(APIKey(hash=b"secret"), make()["key"])
    assert made.key not in repr(made)
    assert "secret" not in repr(made)
