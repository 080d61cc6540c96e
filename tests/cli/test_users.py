"""`flask users`: the first admin needs no other one."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, bearing, log_in, somebody, stranger, try_login
from tests.factories import APIKeyFactory, RoleFactory

ADMIN = ("create-admin", "--username", "grace", "--email", "grace@example.com", "--password-stdin")


@pytest.fixture
def users(database):
    """`users("create-admin", …)` runs the command."""

    def run(*arguments, **options):
        return database.test_cli_runner().invoke(args=["users", *arguments], **options)

    return run


def count(model):
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(model))


def test_an_admin_made_here_logs_in_and_may_make_users(database, users):
    result = users(*ADMIN, input=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    client = stranger(database)
    answer = client.post(f"{AUTH}/login", json={"username": "grace", "password": PASSWORD})
    headers = bearing(answer.json["access_token"])
    assert client.get(f"{AUTH}/me", headers=headers).json["roles"] == ["admin"]
    body = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
    assert client.post("/api/v1/users", json=body, headers=headers).status_code == 201


def test_a_role_that_is_there_is_used(database, users):
    RoleFactory(name="Admin")
    assert users(*ADMIN, input=f"{PASSWORD}\n").exit_code == 0
    client = stranger(database)
    token = client.post(f"{AUTH}/login", json={"username": "grace", "password": PASSWORD}).json["access_token"]
    assert client.get("/api/v1/roles", headers=bearing(token)).status_code == 200


def test_the_password_is_asked_for_twice_and_not_shown(users):
    result = users(*ADMIN[:-1], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert count(User) == 1


@pytest.mark.parametrize("typed", [f"{PASSWORD}\nanother horse battery\n", ""])
def test_a_password_that_was_mistyped_or_not_given_makes_nothing(users, typed):
    assert users(*ADMIN[:-1], input=typed).exit_code == 1
    assert count(User) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--email": "nowhere"}, "email: Not a valid email address."),
        ({"--username": "x"}, "username: Shorter than minimum length 3."),
    ],
)
def test_what_is_wrong_is_told_by_the_option_s_name(users, change, told):
    arguments = [change.get(before, argument) for before, argument in zip(("", *ADMIN), ADMIN, strict=False)]
    result = users(*arguments, input=f"{PASSWORD}\n")
    assert result.exit_code == 1
    assert told in result.output
    assert count(User) == 0


def test_an_easy_password_is_refused_and_not_repeated(users):
    result = users(*ADMIN, input="password1234\n")
    assert result.exit_code == 1
    assert "password: Must not be one of the commonest" in result.output
    assert "password1234" not in result.output


def test_a_taken_name_is_refused(users):
    somebody(username="Grace")
    result = users(*ADMIN, input=f"{PASSWORD}\n")
    assert result.exit_code == 1
    assert "username: This value is already taken." in result.output


def test_roles_are_given_and_taken_and_the_tokens_before_do_not_hold(database, users):
    RoleFactory(name="manager")
    user, client = somebody(username="ada"), stranger(database)
    tokens = log_in(client, user)
    assert users("set-roles", "ADA", "Manager").exit_code == 0
    assert client.get(f"{AUTH}/me", headers=bearing(tokens["access_token"])).status_code == 401
    token = log_in(client, user)["access_token"]
    assert client.get(f"{AUTH}/me", headers=bearing(token)).json["roles"] == ["manager"]
    assert "no role" in users("set-roles", user.email).output
    assert client.get(f"{AUTH}/me", headers=bearing(token)).status_code == 401


def test_a_role_or_a_user_that_there_is_not_is_told(users):
    RoleFactory(name="manager")
    somebody(username="ada")
    assert "There is no role 'boss'; there is manager." in users("set-roles", "ada", "boss").output
    assert "There is no user 'bob'." in users("set-roles", "bob", "manager").output


def test_all_sessions_and_keys_of_a_user_are_ended(database, users):
    user, other, client = somebody(username="ada"), somebody(), stranger(database)
    token, others = log_in(client, user)["access_token"], log_in(client, other)["access_token"]
    APIKeyFactory(user_id=user.id)
    assert "1 sessions and 1 API keys of ada have ended." in users("revoke", "ada").output
    assert client.get(f"{AUTH}/me", headers=bearing(token)).status_code == 401
    assert client.get(f"{AUTH}/me", headers=bearing(others)).status_code == 200
    assert (count(AuthSession), count(APIKey)) == (2, 1)
    assert try_login(client, user).status_code == 200
