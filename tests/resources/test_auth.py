"""Logging in: the same words, whatever is wrong; and a session whose refresh tokens are used once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select, text, update

from api.core.access.passwords import Cost, Passwords
from api.core.database.retention import purgers
from api.core.http.bearer import TOKENS
from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession, RefreshToken
from api.resources.auth.service import digest_of
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, bearing, log_in, somebody, stranger, try_login
from tests.factories import APIKeyFactory, RoleFactory

NEW = {"username": "lovelace", "email": "ada@example.com", "password": PASSWORD}


@pytest.fixture
def nobody(database):
    return stranger(database)


@pytest.fixture
def user(session):
    del session
    return somebody(username="Ada", email="Ada@example.com")


def refresh(client, token):
    return client.post(f"{AUTH}/refresh", json={"refresh_token": token})


def scalar(statement):
    with db.engine.connect() as connection:
        return connection.scalar(statement)


def all_of(column):
    with db.engine.connect() as connection:
        return connection.scalars(select(column).order_by(column)).all()


def reason():
    return scalar(select(AuthSession.revoked_because))


# -- register


def test_who_registers_can_log_in_and_holds_no_role(nobody):
    answer = nobody.post(f"{AUTH}/register", json=NEW)
    assert answer.status_code == 201, answer.text
    assert set(answer.json) == {"id", "username", "email", "created_at"}
    tokens = nobody.post(f"{AUTH}/login", json={"email": NEW["email"], "password": PASSWORD}).json
    me = nobody.get(f"{AUTH}/me", headers=bearing(tokens["access_token"])).json
    assert me == answer.json | {"roles": [], "scopes": None}


@pytest.mark.parametrize("field", ["roles", "role_ids", "is_active", "id", "password_hash", "version", "deleted_at"])
def test_nobody_registers_with_more_than_a_name_and_a_password(nobody, field):
    answer = nobody.post(f"{AUTH}/register", json=NEW | {field: 1})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [f"/{field}"]
    assert scalar(select(func.count()).select_from(User)) == 0


@pytest.mark.parametrize("password", ["short", "password1234", "my-lovelace-1815", "x" * 129, None])
def test_a_password_that_is_easy_to_guess_is_refused(nobody, password):
    answer = nobody.post(f"{AUTH}/register", json=NEW | {"password": password})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/password"]


@pytest.mark.parametrize("taken", [{"email": "other@example.com"}, {"username": "another"}, {}])
def test_a_taken_name_is_not_told_from_a_taken_address(nobody, taken):
    nobody.post(f"{AUTH}/register", json=NEW)
    answer = nobody.post(f"{AUTH}/register", json=NEW | taken)
    assert answer.status_code == 409
    assert "errors" not in answer.json
    assert answer.json["detail"] == "This username or e-mail address is taken."


def test_names_that_look_the_same_are_the_same(nobody):
    nobody.post(f"{AUTH}/register", json=NEW | {"username": "Rene\u0301e"})
    answer = nobody.post(f"{AUTH}/login", json={"username": "REN\u00c9E", "password": PASSWORD})
    assert answer.status_code == 200, answer.text


# -- log in


def test_a_login_answers_with_two_tokens_that_no_cache_keeps(nobody, user):
    answer = try_login(nobody, user)
    assert answer.status_code == 200
    assert set(answer.json) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 900)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("name", [{"username": "ADA"}, {"email": "ada@EXAMPLE.com"}, {"username": "aDa"}])
def test_one_logs_in_by_name_or_address_in_any_case(nobody, user, name):
    del user
    assert nobody.post(f"{AUTH}/login", json=name | {"password": PASSWORD}).status_code == 200


@pytest.mark.parametrize("name", [{}, {"username": "ada", "email": "ada@example.com"}])
def test_one_logs_in_by_either_of_the_two(nobody, name):
    answer = nobody.post(f"{AUTH}/login", json=name | {"password": PASSWORD})
    assert answer.status_code == 422
    assert answer.json["errors"] == [{"pointer": "/username", "detail": "Send either username or email."}]


def test_whatever_is_wrong_with_a_login_it_is_refused_in_the_same_words(nobody, user):
    inactive = somebody(is_active=False)
    deleted = somebody()
    without = somebody()
    with db.engine.begin() as connection:
        connection.execute(update(User).where(User.id == deleted.id).values(deleted_at=func.now()))
        connection.execute(update(User).where(User.id == without.id).values(password_hash=None))
    gone = User(username="nobody at all")
    refused = [
        try_login(nobody, who, password)
        for who, password in [
            (user, "wrong horse battery"),
            (gone, PASSWORD),
            (inactive, PASSWORD),
            (deleted, PASSWORD),
            (without, PASSWORD),
        ]
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.text for answer in refused}) == 1
    headers = [{name: value for name, value in answer.headers if name != "X-Request-ID"} for answer in refused]
    assert all(one == headers[0] for one in headers)
    assert scalar(select(func.count()).select_from(AuthSession)) == 0


def test_a_better_hash_replaces_an_outdated_one_and_ends_no_session(nobody, user):
    log_in(nobody, user)
    outdated = Passwords(Cost(passes=2, memory_kib=16, threads=1)).hash(PASSWORD)
    with db.engine.begin() as connection:
        connection.execute(text("SET LOCAL app.kept_credential = 'all'"))
        connection.execute(update(User).values(password_hash=outdated))
    log_in(nobody, user)
    renewed = scalar(select(User.password_hash))
    assert renewed != outdated
    assert "m=8,t=1,p=1" in renewed
    assert scalar(select(func.count()).where(AuthSession.revoked_at.is_(None))) == 2
    log_in(nobody, user)
    assert scalar(select(User.password_hash)) == renewed


def test_neither_token_is_stored(nobody, user):
    tokens = log_in(nobody, user)
    stored = scalar(select(RefreshToken.hash))
    assert stored == digest_of(tokens["refresh_token"])
    with db.engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            content = connection.scalar(text(f"SELECT string_agg(t::text, '') FROM {table.name} t")) or ""  # noqa: S608
            assert tokens["refresh_token"] not in content
            assert tokens["access_token"] not in content


# -- refresh


def test_a_refresh_hands_out_the_next_tokens_of_the_same_session(nobody, user, app):
    first = log_in(nobody, user)
    answer = refresh(nobody, first["refresh_token"])
    assert answer.status_code == 200, answer.text
    assert answer.json["refresh_token"] != first["refresh_token"]
    assert answer.headers["Cache-Control"] == "no-store"
    codec = app.extensions[TOKENS]
    assert codec.read(answer.json["access_token"]) == codec.read(first["access_token"])
    assert refresh(nobody, answer.json["refresh_token"]).status_code == 200


def test_a_refresh_token_that_is_used_again_ends_the_whole_family(nobody, user):
    first = log_in(nobody, user)
    other = log_in(nobody, user)
    second = refresh(nobody, first["refresh_token"]).json
    reused = refresh(nobody, first["refresh_token"])
    assert reused.status_code == 401
    assert reused.headers["Cache-Control"] == "no-store"
    assert refresh(nobody, second["refresh_token"]).status_code == 401
    assert scalar(select(AuthSession.revoked_because).where(AuthSession.revoked_at.is_not(None))) == (
        "refresh token reused"
    )
    assert refresh(nobody, other["refresh_token"]).status_code == 200


def test_whoever_runs_the_service_is_told_once_and_without_the_token(nobody, user, caplog):
    token = log_in(nobody, user)["refresh_token"]
    for _ in range(3):
        refresh(nobody, token)
    told = [record.getMessage() for record in caplog.records if "second time" in record.getMessage()]
    assert len(told) == 1
    assert token not in caplog.text


def test_one_used_again_long_after_ends_it_too(nobody, user):
    first = log_in(nobody, user)
    token = first["refresh_token"]
    for _ in range(3):
        token = refresh(nobody, token).json["refresh_token"]
    refresh(nobody, first["refresh_token"])
    assert refresh(nobody, token).status_code == 401


@pytest.mark.parametrize("rubbish", ["x", "A" * 43, "\ud800", "\x01", "' OR 1=1 --"])
def test_a_token_that_never_was_one_ends_nothing(nobody, user, rubbish):
    tokens = log_in(nobody, user)
    assert refresh(nobody, rubbish).status_code in {400, 401}
    assert refresh(nobody, tokens["refresh_token"]).status_code == 200


def test_of_many_that_use_a_token_at_once_exactly_one_wins(app, nobody, user):
    token = log_in(nobody, user)["refresh_token"]
    start = Barrier(6)

    def use(_):
        client = stranger(app)
        start.wait()
        return refresh(client, token).status_code

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(use, range(6))) == [200] + [401] * 5
    assert reason() == "refresh token reused"


def test_a_session_ends_by_itself(nobody, user):
    tokens = log_in(nobody, user)
    with db.engine.begin() as connection:
        connection.execute(update(AuthSession).values(expires_at=func.now()))
    assert refresh(nobody, tokens["refresh_token"]).status_code == 401


def test_new_roles_come_with_the_next_access_token(nobody, user, app, session):
    tokens = log_in(nobody, user)
    user.roles.append(RoleFactory(name="manager"))
    session.commit()
    renewed = app.extensions[TOKENS].read(refresh(nobody, tokens["refresh_token"]).json["access_token"])
    assert renewed.roles == {"manager"}


# -- revocation


def test_an_access_token_is_refused_as_soon_as_its_session_has_ended(nobody, user):
    tokens = log_in(nobody, user)
    headers = bearing(tokens["access_token"])
    assert nobody.get(f"{AUTH}/me", headers=headers).status_code == 200
    refresh(nobody, tokens["refresh_token"])
    refresh(nobody, tokens["refresh_token"])
    for path in (f"{AUTH}/me", "/api/v1/products", "/api/v1/orders"):
        answer = nobody.get(path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


# -- in the end


def test_sessions_and_keys_that_have_been_over_for_long_are_purged(nobody, user):
    for _ in range(3):
        log_in(nobody, user)
    for _ in range(2):
        APIKeyFactory(user_id=user.id)
    first, second, _ = all_of(AuthSession.id)
    with db.engine.begin() as connection:
        long_ago = func.now() - timedelta(days=91)
        connection.execute(update(AuthSession).where(AuthSession.id == first).values(revoked_at=long_ago))
        connection.execute(update(AuthSession).where(AuthSession.id == second).values(revoked_at=func.now()))
        connection.execute(update(APIKey).where(APIKey.id == all_of(APIKey.id)[0]).values(expires_at=long_ago))
    removed = {}
    for name in ("auth_sessions", "api_keys"):
        removed[name] = sum(batch.removed for batch in purgers()[name](db.session(), timedelta(days=90), dry_run=False))
    assert removed == {"auth_sessions": 1, "api_keys": 1}
    assert first not in all_of(AuthSession.id)
    assert len(all_of(RefreshToken.hash)) == 2
