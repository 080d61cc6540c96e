"""Forged cursors, tokens and keys: refused, all in the same words, and never an error of ours."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from sqlalchemy import update

from api.core.access.tokens import ALGORITHM, TYPE
from api.core.query.cursor import CursorCodec
from api.core.query.plan import Position
from api.extensions import db
from api.resources.users.models import User
from tests.accounts import AUTH, bearing, log_in, somebody, stranger
from tests.factories import TagFactory
from tests.security.payloads import PAYLOADS
from tests.security.tokens import claims_of, forged_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# -- cursors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cursor(client) -> str:
    """That of the second page of tags."""
    TagFactory.create_batch(3)
    following = client.get("/api/v1/tags?limit=1&sort=name").json["next"]
    return parse_qs(urlsplit(following).query)["cursor"][0]


def altered(cursor: str) -> Iterator[str]:
    """Other spellings, other bits, other lengths."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        for bit in (0, 3, 7):
            changed = bytes(byte ^ (1 << bit) if at == place else byte for at, byte in enumerate(raw))
            yield base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
    yield from (cursor[:end] for end in range(0, len(cursor), 3))
    yield from (cursor + more for more in ("A", "=", "==", "AAAA", "\n", " ", "\x00", ".", cursor))
    yield from (" " + cursor, cursor.replace("-", "+").swapcase(), cursor.upper(), cursor[::-1])
    for payload in (b"[0]", b"[]", b"{}", b"null", b"[0,1,2,3]", b'[0,"\\u0000"]', b"[1e999]", b"[" * 5000):
        yield base64.urlsafe_b64encode(raw[:12] + payload).rstrip(b"=").decode()
        yield base64.urlsafe_b64encode(payload).decode()


def test_no_forged_cursor_leads_anywhere(client, cursor, record_property):
    assert client.get("/api/v1/tags", query_string={"sort": "name", "cursor": cursor}).status_code == 200
    tried = 0
    words = set()
    for forged in {*altered(cursor), *PAYLOADS} - {cursor}:
        answer = client.get("/api/v1/tags", query_string={"sort": "name", "cursor": forged})
        tried += 1
        assert answer.status_code == 400, (forged, answer.text)
        words.add(answer.json["errors"][0]["detail"])
    record_property("attack inputs", f"cursors: {tried}, all refused")
    assert tried > 150
    # The other ones are about characters that no parameter may have.
    assert "Must be a cursor of this list, with the same filters and sort." in words
    assert len(words) <= 3, words


@pytest.mark.parametrize(
    "query", ["sort=-name", "sort=id", "sort=name&name=x", "sort=name&deleted=include", "", "sort=name&q=tag"]
)
def test_a_cursor_is_for_its_own_query_only(client, cursor, query):
    answer = client.get(f"/api/v1/tags?{query}", query_string=None)
    assert answer.status_code == 200, answer.text
    answer = client.get(f"/api/v1/tags?{query}&cursor={cursor}")
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (400, "cursor")


def test_a_cursor_signed_with_a_guessed_key_is_refused(client, cursor):
    for guess in ("", "secret", "changeme", "dev", "SECRET_KEY"):
        forged = CursorCodec(guess).encode(Position(("a", "1")), b"0" * 16)
        assert client.get(f"/api/v1/tags?sort=name&cursor={forged}").status_code == 400, cursor


# -- access tokens -----------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody(database):
    return stranger(database)


@pytest.fixture
def user(session):
    del session
    return somebody(username="mallory", email="mallory@example.com")


@pytest.fixture
def genuine(nobody, user) -> str:
    """An access token of `user`."""
    return log_in(nobody, user)["access_token"]


def clean(token: str) -> str:
    """As a header can be sent."""
    return token.translate({10: " ", 13: " ", 0: " "}).strip()


def test_no_token_made_without_the_key_is_anybody(nobody, genuine, record_property):
    assert nobody.get(f"{AUTH}/me", headers=bearing(genuine)).status_code == 200
    answers: dict[tuple[int, str, str], str] = {}
    tried = 0
    for forged in {clean(token) for token in forged_tokens(genuine)} - {genuine}:
        answer = nobody.get(f"{AUTH}/me", headers=bearing(forged))
        tried += 1
        assert answer.status_code == 401, (forged, answer.text)
        answers[answer.status_code, answer.json["detail"], answer.headers["WWW-Authenticate"]] = forged
    record_property("attack inputs", f"access tokens: {tried}, all refused")
    assert tried > 250
    assert len(answers) == 1, answers


def test_a_forged_token_opens_not_even_what_is_open_to_anyone(nobody, genuine):
    for forged in [*forged_tokens(genuine)][:40]:
        answer = nobody.get("/api/v1/products", headers=bearing(clean(forged)))
        assert answer.status_code == 401, forged
        made = nobody.post(f"{AUTH}/register", json={"username": "x"}, headers=bearing(clean(forged)))
        assert made.status_code == 401, forged


@pytest.fixture
def sign(app, genuine) -> Callable[..., str]:
    """Tokens signed with the key of the application, as by somebody who has stolen it."""
    kid = jwt.get_unverified_header(genuine)["kid"]
    key = app.extensions["access_tokens"]._keys[kid]
    claims = claims_of(genuine)

    def make(**changes: Any) -> str:
        content = {name: value for name, value in (claims | changes).items() if value is not ...}
        return jwt.encode(content, key, algorithm=ALGORITHM, headers={"kid": kid, "typ": TYPE})

    return make


def test_not_even_the_key_lets_somebody_take_another_s_session_or_an_older_epoch(nobody, sign, user):
    other = somebody()
    assert nobody.get(f"{AUTH}/me", headers=bearing(sign())).status_code == 200
    for changes in (
        {"sid": "01890000-0000-7000-8000-000000000000"},
        {"epoch": 0},
        {"epoch": 2},
        {"epoch": 2**40},
        {"sub": str(2**70)},
    ):
        answer = nobody.get(f"{AUTH}/me", headers=bearing(sign(**changes)))
        assert answer.status_code in {401, 503}, (changes, answer.text)
    assert other.id != user.id


@pytest.mark.parametrize("status", ["inactive", "deleted"])
def test_who_has_been_shut_out_is_nobody_from_that_moment_on(nobody, genuine, user, status):
    values = {"is_active": False} if status == "inactive" else {"deleted_at": db.func.now()}
    with db.engine.begin() as connection:
        connection.execute(update(User).where(User.id == user.id).values(values))
    for method, path in (("GET", "/me"), ("GET", "/sessions"), ("POST", "/api-keys"), ("POST", "/logout")):
        body = {"json": {"name": "k", "scopes": ["orders:read"]}} if path == "/api-keys" else {}
        assert nobody.open(f"{AUTH}{path}", method=method, headers=bearing(genuine), **body).status_code == 401, path


def test_each_credential_is_good_for_its_own_door_only(nobody, user):
    tokens = log_in(nobody, user)
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    made = nobody.post(f"{AUTH}/api-keys", json={"name": "k", "scopes": ["orders:read"]}, headers=bearing(access)).json
    assert nobody.get(f"{AUTH}/me", headers=bearing(refresh)).status_code == 401
    assert nobody.get(f"{AUTH}/me", headers=bearing(made["prefix"])).status_code == 401
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": access[:200]}).status_code == 401
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": made["key"]}).status_code == 401
    for key in (made["key"][:-1], made["key"] + "x", made["key"].upper(), "bk_", "bk__", f"bk_{refresh}"):
        assert nobody.get(f"{AUTH}/me", headers=bearing(key)).status_code == 401, key
    for scheme in ("Basic", "Token", "Digest", "bearerx", "Bearer:"):
        answer = nobody.get(f"{AUTH}/me", headers={"Authorization": f"{scheme} {access}"})
        assert answer.status_code == 401, scheme
    for place in ({"query_string": {"access_token": access}}, {"headers": {"Cookie": f"access_token={access}"}}):
        assert nobody.get(f"{AUTH}/me", **place).status_code in {400, 401}, place
    # None of this has cost the session.
    assert nobody.get(f"{AUTH}/me", headers=bearing(access)).status_code == 200
