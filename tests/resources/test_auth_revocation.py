"""What a token says holds for as long as the database says so: from one commit to the next, in every process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from api.app import create_app
from api.core.access.caller import Caller
from api.core.database.engine import engine_options
from api.core.http.bearer import TOKENS
from api.resources.auth.models import AuthSession
from api.resources.roles.models import Role
from api.resources.users.models import User, user_roles
from tests.accounts import AUTH, PASSWORD, bearing, log_in, somebody, stranger
from tests.callers import accept_callers, as_caller
from tests.factories import AuthSessionFactory, RoleFactory

VERIFY = text("SELECT public.verify_session(:id, :epoch)")


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
def tokens(nobody, user):
    return log_in(nobody, user)


@pytest.fixture
def elsewhere(settings):
    """A connection of another pool, as that of another worker or of psql."""
    engine = create_engine(settings.database_url, **engine_options(settings))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def status(client, tokens, path=f"{AUTH}/me"):
    return client.get(path, headers=bearing(tokens["access_token"])).status_code


def change_all(model, **values):
    return update(model).values(**values)


# -- whatever has written the row


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (change_all(User, password_hash="$argon2id$another"), "password changed"),
        (change_all(User, password_hash=None), "password changed"),
        (change_all(User, is_active=False), "account deactivated"),
        (change_all(User, deleted_at=func.now()), "account deleted"),
    ],
    ids=["password", "no password", "inactive", "deleted"],
)
def test_a_session_ends_with_what_it_was_begun_by(nobody, tokens, elsewhere, statement, reason):
    assert status(nobody, tokens) == 200
    elsewhere.execute(statement)
    assert status(nobody, tokens) == 200
    elsewhere.commit()
    assert status(nobody, tokens) == 401
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 401
    assert elsewhere.scalar(select(AuthSession.revoked_because)) == reason


def test_it_ends_with_its_user_s_row(nobody, tokens, elsewhere):
    elsewhere.execute(delete(User))
    elsewhere.commit()
    assert status(nobody, tokens) == 401
    assert elsewhere.scalar(select(func.count()).select_from(AuthSession)) == 0


def test_it_does_not_come_back_with_the_account(nobody, tokens, elsewhere):
    for active in (False, True):
        elsewhere.execute(change_all(User, is_active=active))
        elsewhere.commit()
    assert status(nobody, tokens) == 401


@pytest.mark.parametrize("change", [{"email": "new@example.com"}, {"username": "lovelace"}])
def test_it_goes_on_when_something_else_changes(nobody, tokens, elsewhere, change):
    elsewhere.execute(change_all(User, **change))
    elsewhere.commit()
    assert status(nobody, tokens) == 200


@pytest.mark.parametrize(
    "statement",
    [
        delete(user_roles),
        delete(Role),
        change_all(Role, name="clerk"),
        change_all(Role, deleted_at=func.now()),
    ],
    ids=["taken away", "role removed", "role renamed", "role deleted"],
)
def test_no_privilege_survives_in_a_token(nobody, tokens, app, elsewhere, statement):
    assert status(nobody, tokens, "/api/v1/users") == 200
    elsewhere.execute(statement)
    elsewhere.commit()
    assert status(nobody, tokens, "/api/v1/users") == 401
    renewed = nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert renewed.status_code == 200
    assert "manager" not in app.extensions[TOKENS].read(renewed.json["access_token"]).roles
    assert status(nobody, renewed.json, f"{AUTH}/me") == 200


def test_a_new_role_is_in_force_with_the_next_refresh(nobody, tokens, app, elsewhere):
    elsewhere.execute(text("INSERT INTO roles (name) VALUES ('admin')"))
    elsewhere.execute(
        text("INSERT INTO user_roles (user_id, role_id) SELECT u.id, r.id FROM users u, roles r WHERE r.name = 'admin'")
    )
    elsewhere.commit()
    assert status(nobody, tokens) == 401
    renewed = nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).json
    assert app.extensions[TOKENS].read(renewed["access_token"]).roles == {"admin", "manager"}


def test_the_roles_of_others_change_nothing(nobody, tokens, session):
    other = somebody()
    other.roles.append(RoleFactory(name="support"))
    session.commit()
    assert status(nobody, tokens) == 200


def test_an_admin_who_sets_a_password_ends_the_sessions_of_that_user(nobody, client, user, tokens):
    answer = client.patch(f"/api/v1/users/{user.id}", json={"password": "another horse battery"})
    assert answer.status_code == 200, answer.text
    assert status(nobody, tokens) == 401


# -- in every process


def test_another_application_refuses_the_token_at_once(nobody, tokens, settings):
    other = create_app(settings).test_client()
    assert status(other, tokens) == 200
    assert nobody.post(f"{AUTH}/logout", headers=bearing(tokens["access_token"])).status_code == 204
    assert status(other, tokens) == 401
    assert status(other, tokens, "/api/v1/products") == 401


def test_a_write_is_refused_as_well_as_a_read(nobody, user, tokens, elsewhere):
    elsewhere.execute(change_all(AuthSession, revoked_at=func.now()))
    elsewhere.commit()
    headers = bearing(tokens["access_token"])
    answer = nobody.patch(f"/api/v1/users/{user.id}", json={"email": "new@example.com"}, headers=headers)
    assert answer.status_code == 401
    assert elsewhere.scalar(select(User.email)) == user.email


def test_the_check_costs_no_round_trip(nobody, tokens, statements):
    with statements() as counted:
        assert status(nobody, tokens, "/api/v1/products") == 200
    assert counted.count == 1


# -- what the database says


@pytest.mark.parametrize(
    "values",
    [{"revoked_at": func.now()}, {"expires_at": func.now()}, {"epoch": 2}],
    ids=["revoked", "expired", "moved"],
)
def test_a_credential_that_does_not_hold_raises(elsewhere, session, values):
    del session
    begun = AuthSessionFactory()
    elsewhere.execute(VERIFY, {"id": begun.id, "epoch": 1})
    elsewhere.execute(change_all(AuthSession, **values))
    with pytest.raises(DBAPIError) as caught:
        elsewhere.execute(VERIFY, {"id": begun.id, "epoch": 1})
    assert caught.value.orig.pgcode == "AC401"


def test_one_that_was_never_there_raises(elsewhere):
    with pytest.raises(DBAPIError) as caught:
        elsewhere.execute(text("SELECT public.verify_session(gen_random_uuid(), 1)"))
    assert caught.value.orig.pgcode == "AC401"


def test_a_login_that_overtakes_the_loss_of_a_role_does_not_keep_it(nobody, user, elsewhere, app):
    """The role is being taken away when the session begins: its trigger cannot see the session yet."""
    elsewhere.execute(delete(user_roles))
    with ThreadPoolExecutor(1) as threads:
        login = threads.submit(log_in, stranger(app), user)
        with pytest.raises(TimeoutError):
            login.result(timeout=0.3)
        elsewhere.commit()
        tokens = login.result(timeout=5)
    assert app.extensions[TOKENS].read(tokens["access_token"]).roles == frozenset()
    assert status(nobody, tokens) == 200


@pytest.mark.usefixtures("user")
def test_a_login_that_overtakes_a_change_of_the_password_is_refused(app, elsewhere):
    elsewhere.execute(change_all(User, password_hash="$argon2id$another"))
    with ThreadPoolExecutor(1) as threads:
        body = {"username": "ada", "password": PASSWORD}
        login = threads.submit(stranger(app).post, f"{AUTH}/login", json=body)
        with pytest.raises(TimeoutError):
            login.result(timeout=0.3)
        elsewhere.commit()
        assert login.result(timeout=5).status_code == 401


# -- views that ask the database nothing ------------------------------------------------------------------------------


def test_a_token_whose_session_has_ended_opens_no_view_that_reads_nothing(settings, database):
    del database
    app = create_app(replace(settings, metrics_token="m" * 32))
    client = stranger(app)
    admin = somebody(roles=[RoleFactory(name="admin")])
    headers = bearing(log_in(client, admin)["access_token"])
    assert client.get("/metrics", headers=headers).status_code == 200
    client.post(f"{AUTH}/logout", headers=headers)
    assert client.get("/metrics", headers=headers).status_code == 401


def test_the_figures_are_for_admins_in_person(settings, database):
    del database
    client = accept_callers(create_app(replace(settings, metrics_token="m" * 32))).test_client()
    admin = somebody()
    for scopes, status in ((None, 200), (frozenset({"tags:read"}), 403)):
        as_caller(client, Caller(f"user:{admin.id}", admin.id, frozenset({"admin"}), scopes))
        assert client.get("/metrics").status_code == status
