"""Users: a password goes in and never comes out; a profile and roles are written along with their user."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from api.core.access.passwords import Passwords
from api.core.database.engine import engine_options
from api.core.database.session import transaction
from api.core.errors import InvalidError
from api.extensions import db
from api.resources.roles.models import Role
from api.resources.users.models import Profile, User, user_roles
from api.resources.users.service import UserService
from tests.factories import OrderFactory, ProfileFactory, RoleFactory, UserFactory

USERS = "/api/v1/users"
PASSWORD = "correct horse battery"


# Tests run with a cheaper one.
IN_PRODUCTION = Passwords()


@pytest.fixture
def body():
    return {"username": "ada", "email": "ada@example.com", "password": PASSWORD}


def url(user):
    return f"{USERS}/{user.id}"


def stored_hash():
    with db.engine.connect() as connection:
        return connection.scalar(select(User.__table__.c.password_hash))


def pointers(response, status=422):
    assert response.status_code == status, response.text
    return [error.get("pointer") or error.get("parameter") for error in response.json["errors"]]


# -- passwords


def test_a_password_is_kept_as_an_argon2id_hash_only(client, body):
    assert client.post(USERS, json=body).status_code == 201
    assert stored_hash().startswith("$argon2id$")
    assert PASSWORD not in stored_hash()
    assert PasswordHasher().verify(stored_hash(), PASSWORD)


def test_a_hash_is_as_dear_as_rfc_9106_recommends():
    assert IN_PRODUCTION.hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_the_same_password_has_another_hash_each_time(client, body):
    client.post(USERS, json=body)
    first = stored_hash()
    user = client.get(USERS).json["items"][0]
    client.patch(f"{USERS}/{user['id']}", json={"password": PASSWORD})
    assert stored_hash() != first


def test_a_change_of_another_field_leaves_the_password_alone(client, body):
    location = client.post(USERS, json=body).headers["Location"]
    before = stored_hash()
    client.patch(location, json={"username": "lovelace"})
    assert stored_hash() == before


def test_no_answer_shows_a_password_or_its_hash(client, body):
    created = client.post(USERS, json=body)
    location = created.headers["Location"]
    answers = [
        created,
        client.get(location),
        client.get(f"{location}?include=profile,roles"),
        client.get(USERS),
        client.get(f"{USERS}?deleted=include&count=exact"),
        client.put(location, json=body),
        client.patch(location, json={"password": PASSWORD + "!"}),
        client.post(USERS, json=body),
        client.post(USERS, json=body | {"password": "short"}),
    ]
    for answer in answers:
        assert "password" not in answer.text.replace("/password", "")
        assert PASSWORD not in answer.text
        assert "argon2" not in answer.text


@pytest.mark.parametrize("name", ["password", "password_hash"])
@pytest.mark.parametrize(
    "query",
    [
        "{0}=x",
        "{0}__startswith=%24argon2",
        "{0}__is_null=true",
        "{0}__like=%25",
        "sort={0}",
        "sort=-{0}",
        "fields={0}",
        "fields=id,{0}",
        "include={0}",
        "or=({0}__startswith=a,id=1)",
        "not=({0}=x)",
        "roles.users.{0}__like=a%25",
    ],
)
def test_a_password_cannot_be_filtered_sorted_or_selected_by(client, name, query):
    UserFactory(password_hash="$argon2id$secret")
    assert client.get(f"{USERS}?{query.format(name)}").status_code == 400


@pytest.mark.parametrize(
    "query", ["user.password_hash__startswith=a", "sort=user.password_hash", "include=user&fields=user.password_hash"]
)
def test_a_password_cannot_be_reached_through_an_order_either(client, query):
    OrderFactory()
    assert client.get(f"/api/v1/orders?{query}").status_code == 400


def test_a_hash_cannot_be_written(client, body):
    assert pointers(client.post(USERS, json=body | {"password_hash": "x"})) == ["/password_hash"]
    assert pointers(client.patch(url(UserFactory()), json={"password_hash": "x"})) == ["/password_hash"]


def test_no_repr_shows_a_hash():
    assert "secret" not in repr(User(id=1, password_hash="secret"))
    assert "secret" not in f"{User(password_hash='secret')} {[User(password_hash='secret')]}"


def test_no_error_of_the_database_shows_a_hash(settings, session):
    UserFactory(username="ada")
    engine = create_engine(settings.database_url, **engine_options(settings))
    statement = insert(User.__table__).values(username="ada", email="b@example.com", password_hash="$argon2id$secret")
    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.execute(statement)
    engine.dispose()
    session.remove()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["short", "tenletters!", "brown fox " * 13, None, 123456789012, ["x" * 12], ""])
def test_a_password_has_12_to_128_characters(client, body, password):
    assert pointers(client.post(USERS, json=body | {"password": password})) == ["/password"]


def test_a_password_may_be_of_any_characters(client, body):
    password = "пароль 🔑 \\'\""
    client.post(USERS, json=body | {"password": password})
    assert PasswordHasher().verify(stored_hash(), password)


# -- names and addresses


@pytest.mark.parametrize(
    "email", ["nobody", "a@", "@b.example", "a b@example.com", "a@b", "", "x" * 110 + "@example.com"]
)
def test_what_is_no_address_is_refused(client, body, email):
    assert set(pointers(client.post(USERS, json=body | {"email": email}))) == {"/email"}


@pytest.mark.parametrize("email", ["a@b.example", "ada+shop@sub.example.com", "ö@example.com"])
def test_an_address_is_kept_as_it_is_written(client, body, email):
    assert client.post(USERS, json=body | {"email": email}).json["email"] == email


@pytest.mark.parametrize("field", ["username", "email"])
def test_two_users_never_share_a_name_or_an_address_in_whatever_case(client, body, field):
    client.post(USERS, json=body)
    other = {"username": "grace", "email": "grace@example.com", "password": PASSWORD}
    assert pointers(client.post(USERS, json=other | {field: body[field].upper()}), 409) == [f"/{field}"]


def test_a_conflict_does_not_repeat_what_others_have(client, body):
    client.post(USERS, json=body)
    assert "ada@example.com" not in client.post(USERS, json=body | {"username": "other"}).text


# -- profiles


def test_a_user_is_made_with_a_profile(client, body):
    profile = {"full_name": "Ada Lovelace", "country": "France"}
    location = client.post(USERS, json=body | {"profile": profile}).headers["Location"]
    shown = client.get(f"{location}?include=profile").json["profile"]
    assert shown == {"full_name": "Ada Lovelace", "phone": None, "country": "France", "bio": None}


@pytest.mark.parametrize("profile", [{}, {"profile": None}])
def test_a_user_needs_no_profile(client, body, profile):
    location = client.post(USERS, json=body | profile).headers["Location"]
    assert client.get(f"{location}?include=profile").json["profile"] is None


def test_a_patch_merges_into_a_profile(client):
    user = ProfileFactory(full_name="Ada", country="France").user
    shown = client.patch(f"{url(user)}?include=profile", json={"profile": {"country": None, "phone": "1"}}).json
    assert shown["profile"] == {"full_name": "Ada", "phone": "1", "country": None, "bio": None}


def test_a_patch_makes_the_profile_of_a_user_without_one(client):
    user = UserFactory()
    shown = client.patch(f"{url(user)}?include=profile", json={"profile": {"country": "Spain"}}).json
    assert shown["profile"]["country"] == "Spain"


def test_a_patch_without_a_profile_leaves_it_alone(client):
    user = ProfileFactory(country="France").user
    shown = client.patch(f"{url(user)}?include=profile", json={"username": "renamed"}).json
    assert shown["profile"]["country"] == "France"


def test_null_removes_a_profile_and_a_new_one_can_be_made(client, session):
    user = ProfileFactory().user
    assert client.patch(f"{url(user)}?include=profile", json={"profile": None}).json["profile"] is None
    assert session.scalar(text("SELECT count(*) FROM profiles")) == 0
    assert client.patch(url(user), json={"profile": None}).status_code == 200
    shown = client.patch(f"{url(user)}?include=profile", json={"profile": {"country": "Spain"}}).json
    assert shown["profile"]["country"] == "Spain"


def test_a_profile_that_is_wrong_is_pointed_at_and_nothing_is_written(client, body):
    response = client.post(USERS, json=body | {"profile": {"country": "x" * 61, "age": 5}})
    assert sorted(pointers(response)) == ["/profile/age", "/profile/country"]
    assert client.get(USERS).json["items"] == []


def test_a_user_has_one_profile_at_most(session):
    user = ProfileFactory().user
    with pytest.raises(DBAPIError, match="uq_profiles_user_id"):
        session.execute(insert(Profile).values(user_id=user.id))


def test_a_profile_goes_with_a_user_that_is_removed_for_good(session):
    user = ProfileFactory().user
    session.delete(user)
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM profiles")) == 0


def test_a_profile_stays_with_a_user_that_is_deleted_and_restored(client):
    user = ProfileFactory(country="France").user
    client.delete(url(user))
    assert client.post(f"{url(user)}/restore?include=profile").json["profile"]["country"] == "France"


def test_users_are_found_by_their_profile(client):
    user = ProfileFactory(country="France").user
    ProfileFactory(country="Spain")
    UserFactory()
    assert [item["id"] for item in client.get(f"{USERS}?profile.country=France").json["items"]] == [user.id]


# -- roles


def roles_of(client, user):
    return [role["id"] for role in client.get(f"{url(user)}?include=roles").json["roles"]]


def test_role_ids_replace_the_roles(client):
    old, kept, new = RoleFactory.create_batch(3)
    user = UserFactory(roles=[old, kept])
    client.patch(url(user), json={"role_ids": [new.id, kept.id, new.id]})
    assert roles_of(client, user) == [kept.id, new.id]
    client.patch(url(user), json={"role_ids": []})
    assert roles_of(client, user) == []


def test_without_role_ids_the_roles_stay(client):
    role = RoleFactory()
    user = UserFactory(roles=[role])
    client.patch(url(user), json={"username": "renamed"})
    assert roles_of(client, user) == [role.id]


def test_a_role_that_is_not_there_is_pointed_at(client, session):
    live, gone = RoleFactory(), RoleFactory()
    gone.soft_delete()
    session.commit()
    user = UserFactory()
    response = client.patch(url(user), json={"role_ids": [live.id, gone.id, 4711]})
    assert pointers(response) == ["/role_ids/1", "/role_ids/2"]
    assert roles_of(client, user) == []


def test_a_deleted_role_is_out_of_sight_and_comes_back(client):
    role = RoleFactory()
    user = UserFactory(roles=[role])
    client.delete(f"/api/v1/roles/{role.id}")
    assert roles_of(client, user) == []
    client.post(f"/api/v1/roles/{role.id}/restore")
    assert roles_of(client, user) == [role.id]


def test_an_association_knows_when_it_was_made(client, session):
    role, user = RoleFactory(), UserFactory()
    client.patch(url(user), json={"role_ids": [role.id]})
    age = select(text("now() - created_at < interval '1 minute'")).select_from(user_roles)
    assert session.scalars(age).all() == [True]


# -- from a script


def test_a_script_makes_a_user_with_profile_and_roles(session):
    role = RoleFactory()
    users = UserService(User, session(), {"role_ids": "roles"})
    data = {
        "username": "ada",
        "email": "ada@example.com",
        "password": PASSWORD,
        "profile": {"country": "France"},
        "role_ids": [role.id],
    }
    with transaction(session()):
        user = users.create(data)
    session.refresh(user)
    assert (user.profile.country, user.roles) == ("France", [role])
    assert user.password_hash.startswith("$argon2id$")
    with transaction(session()):
        users.update(user, {"profile": {"phone": "1"}, "role_ids": []})
    session.refresh(user)
    assert (user.profile.country, user.profile.phone, user.roles) == ("France", "1", [])


def test_a_script_s_mistake_in_a_profile_leaves_no_user(session):
    users = UserService(User, session())
    data = {"username": "ada", "email": "ada@example.com", "password": PASSWORD, "profile": {"country": "x" * 61}}
    with pytest.raises(InvalidError), transaction(session()):
        users.create(data)
    assert User.query.count() == 0
    assert Role.query.count() == 0
