"""One's own account: who one is, one's sessions, one's password, and an end to all of it."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import func, select

from api.core.access.caller import Caller
from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, bearing, log_in, somebody, stranger, try_login
from tests.callers import as_caller
from tests.factories import APIKeyFactory, RoleFactory

ANOTHER = "another horse battery"
IN_PERSON = [
    ("POST", "logout", None),
    ("POST", "logout-everywhere", None),
    ("PUT", "password", {"current_password": PASSWORD, "new_password": ANOTHER}),
    ("PATCH", "me", {"username": "lovelace", "current_password": PASSWORD}),
    ("POST", "deactivate", {"password": PASSWORD}),
    ("GET", "sessions", None),
    ("DELETE", f"sessions/{uuid.UUID(int=1)}", None),
    ("GET", "api-keys", None),
    ("POST", "api-keys", {"name": "another", "scopes": ["orders:read"]}),
    ("DELETE", f"api-keys/{uuid.UUID(int=2)}", None),
]


@pytest.fixture
def nobody(database):
    return stranger(database)


@pytest.fixture
def user(session):
    del session
    return somebody(username="Ada", email="ada@example.com")


@pytest.fixture
def tokens(nobody, user):
    return log_in(nobody, user)


@pytest.fixture
def headers(tokens):
    return bearing(tokens["access_token"])


def live_sessions():
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).where(AuthSession.revoked_at.is_(None)))


def reasons(model):
    with db.engine.connect() as connection:
        return connection.scalars(select(model.revoked_because).order_by(model.id)).all()


def change(client, headers, current=PASSWORD, new=ANOTHER):
    return client.put(f"{AUTH}/password", json={"current_password": current, "new_password": new}, headers=headers)


# -- who may


@pytest.mark.parametrize(("method", "path", "body"), [*IN_PERSON, ("GET", "me", None)])
def test_who_is_not_logged_in_is_told_to(nobody, method, path, body):
    answer = nobody.open(f"{AUTH}/{path}", method=method, json=body)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "body"), IN_PERSON)
def test_an_api_key_runs_no_account(nobody, user, method, path, body):
    key = Caller("user:17", user.id, frozenset({"admin"}), frozenset({"users:write"}))
    answer = as_caller(nobody, key).open(f"{AUTH}/{path}", method=method, json=body)
    assert answer.status_code == 403
    assert "not for API keys" in answer.json["detail"]


@pytest.mark.parametrize("path", ["me", "sessions", "api-keys"])
def test_a_parameter_is_refused_by_name(nobody, headers, path):
    answer = nobody.get(f"{AUTH}/{path}?user_id=1", headers=headers)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["parameter"] == "user_id"


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Basic YTpi", "Bearer x", "bearer a.b.c", "Bearer a.b.c d", "Token x", "", "Bearer bk_x"],
)
def test_an_authorization_that_is_none_is_refused_everywhere(nobody, value):
    for path in (f"{AUTH}/me", "/api/v1/products", "/livez"):
        answer = nobody.get(path, headers={"Authorization": value})
        assert answer.status_code == 401, (path, answer.text)
        assert value.partition(" ")[2] not in answer.json["detail"] or len(value.partition(" ")[2]) < 2


def test_who_one_is_takes_one_statement(nobody, user, headers, session, statements):
    user.roles.append(RoleFactory(name="Manager"))
    session.commit()
    headers = bearing(log_in(nobody, user)["access_token"])
    with statements() as counted:
        answer = nobody.get(f"{AUTH}/me", headers=headers)
    assert counted.count == 1
    assert (answer.json["id"], answer.json["username"], answer.json["roles"]) == (user.id, "Ada", ["manager"])
    assert answer.headers["Cache-Control"] == "no-store"


# -- log out


def test_logging_out_ends_this_session_and_no_other(nobody, user, tokens, headers):
    other = log_in(nobody, user)
    assert nobody.post(f"{AUTH}/logout", headers=headers).status_code == 204
    assert nobody.get(f"{AUTH}/me", headers=headers).status_code == 401
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 401
    assert nobody.get(f"{AUTH}/me", headers=bearing(other["access_token"])).status_code == 200
    assert sorted(map(str, reasons(AuthSession))) == ["None", "logged out"]


def test_logging_out_everywhere_ends_all_of_one_s_own_sessions(nobody, user, headers):
    mine = [log_in(nobody, user) for _ in range(2)]
    hers = log_in(nobody, somebody())
    assert nobody.post(f"{AUTH}/logout-everywhere", headers=headers).json == {"ended": 3}
    for tokens in mine:
        assert nobody.get(f"{AUTH}/me", headers=bearing(tokens["access_token"])).status_code == 401
    assert nobody.get(f"{AUTH}/me", headers=bearing(hers["access_token"])).status_code == 200


def test_sessions_are_listed_without_anything_that_could_be_used(nobody, headers, tokens):
    other = nobody.post(
        f"{AUTH}/login", json={"username": "ada", "password": PASSWORD}, headers={"User-Agent": "x" * 500}
    )
    assert other.status_code == 200
    log_in(nobody, somebody())
    answer = nobody.get(f"{AUTH}/sessions", headers=headers)
    assert [item["current"] for item in answer.json["items"]] == [False, True]
    assert answer.json["items"][0]["user_agent"] == "x" * 200
    assert answer.json["items"][0]["address"] == "127.0.0.1"
    for secret in (*tokens.values(), *other.json.values()):
        assert str(secret) not in answer.text


def test_one_of_one_s_sessions_can_be_ended_and_nobody_else_s(nobody, user, headers):
    token = log_in(nobody, user)["access_token"]
    (mine, _) = nobody.get(f"{AUTH}/sessions", headers=headers).json["items"]
    stranger_s = bearing(log_in(nobody, somebody())["access_token"])
    path = f"{AUTH}/sessions/{mine['id']}"
    assert nobody.delete(path, headers=stranger_s).status_code == 404
    assert nobody.get(f"{AUTH}/me", headers=bearing(token)).status_code == 200
    assert nobody.delete(path, headers=headers).status_code == 204
    assert nobody.get(f"{AUTH}/me", headers=bearing(token)).status_code == 401
    assert nobody.delete(path, headers=headers).status_code == 404


# -- the password


def test_another_password_ends_all_sessions_but_this_one_and_all_keys(nobody, user, tokens, headers):
    other = log_in(nobody, user)
    APIKeyFactory(user_id=user.id)
    assert change(nobody, headers).status_code == 204
    assert nobody.get(f"{AUTH}/me", headers=headers).status_code == 200
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 200
    assert nobody.get(f"{AUTH}/me", headers=bearing(other["access_token"])).status_code == 401
    assert reasons(APIKey) == ["password changed"]
    assert try_login(nobody, user).status_code == 401
    assert try_login(nobody, user, ANOTHER).status_code == 200


@pytest.mark.parametrize(
    ("current", "new", "pointer"),
    [
        ("wrong horse battery", ANOTHER, "/current_password"),
        (PASSWORD, "short", "/new_password"),
        (PASSWORD, "password1234", "/new_password"),
        (PASSWORD, PASSWORD, "/new_password"),
        (PASSWORD, "ada@example.com", "/new_password"),
    ],
)
def test_a_password_is_changed_by_who_knows_it_for_one_that_is_hard_to_guess(nobody, headers, current, new, pointer):
    answer = change(nobody, headers, current, new)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert new not in answer.text
    assert live_sessions() == 1


def test_a_stolen_token_cannot_be_used_to_guess_the_password(nobody, user, headers):
    refused = [change(nobody, headers, f"wrong horse battery {n}").status_code for n in range(12)]
    assert refused == [422] * 10 + [429] * 2
    assert change(nobody, headers).status_code == 429
    assert try_login(nobody, user).status_code == 200


# -- the end


def test_who_closes_the_account_cannot_log_in_any_more(nobody, user, tokens, headers):
    APIKeyFactory(user_id=user.id)
    wrong = nobody.post(f"{AUTH}/deactivate", json={"password": ANOTHER}, headers=headers)
    assert (wrong.status_code, wrong.json["errors"][0]["pointer"]) == (422, "/password")
    answer = nobody.post(f"{AUTH}/deactivate", json={"password": PASSWORD}, headers=headers)
    assert answer.status_code == 204
    assert nobody.get(f"{AUTH}/me", headers=headers).status_code == 401
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 401
    assert try_login(nobody, user).status_code == 401
    assert reasons(AuthSession) == reasons(APIKey) == ["account deactivated"]


def test_the_history_tells_who_closed_it(nobody, user, headers, client):
    nobody.post(f"{AUTH}/deactivate", json={"password": PASSWORD}, headers=headers)
    last = client.get(f"/api/v1/users/{user.id}/history").json["items"][0]
    assert last["actor"] == f"user:{user.id}"
    assert last["changes"]["is_active"] == {"old": True, "new": False}
    with db.engine.connect() as connection:
        assert connection.scalar(select(User.is_active)) is False


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_are_changed_with_the_password(nobody, headers):
    body = {"username": "Lovelace", "email": "countess@example.com", "current_password": PASSWORD}
    answer = nobody.patch(f"{AUTH}/me", headers=headers, json=body)
    assert (answer.status_code, answer.json["username"], answer.json["email"]) == (
        *(200, "Lovelace"),
        "countess@example.com",
    )
    assert nobody.post(f"{AUTH}/login", json={"username": "lovelace", "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"username": "lovelace", "current_password": "wrong wrong"}, "/current_password"),
        ({"username": "lovelace"}, "/current_password"),
        ({"current_password": PASSWORD}, "/username"),
        ({"email": "nowhere", "current_password": PASSWORD}, "/email"),
        ({"username": "a\u202eb", "current_password": PASSWORD}, "/username"),
    ],
)
def test_names_are_not_changed_without_what_it_takes(nobody, headers, body, pointer):
    answer = nobody.patch(f"{AUTH}/me", headers=headers, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json["errors"][0]["pointer"] == pointer
    assert nobody.get(f"{AUTH}/me", headers=headers).json["username"] == "Ada"


def test_taken_names_are_not_told_apart_and_not_told_often(nobody, headers):
    somebody(username="grace", email="grace@example.com")
    answers = [
        nobody.patch(f"{AUTH}/me", headers=headers, json={**names, "current_password": PASSWORD})
        for names in [{"username": "grace"}, {"email": "grace@example.com"}] * 11
    ]
    assert {answer.json["detail"] for answer in answers[:20]} == {"This username or e-mail address is taken."}
    assert [answer.status_code for answer in answers] == [409] * 20 + [429] * 2
