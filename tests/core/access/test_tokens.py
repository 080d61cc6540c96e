"""Access tokens: what is signed with a key of ours is believed, for as long as it says, and nothing else."""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import replace
from types import SimpleNamespace

import jwt
import pytest

from api.core.access.tokens import AUDIENCE, ISSUER, LEEWAY, TYPE, Grant, TokenCodec, derived_keys, parse_keys
from api.core.errors import UnauthorizedError

OLD, NEW = "old-" + "o" * 40, "new-" + "n" * 40
GRANT = Grant(17, uuid.UUID(int=7), 3, frozenset({"manager", "support"}))


@pytest.fixture
def clock():
    """A clock that goes on when a test says so."""
    return SimpleNamespace(now=time.time())


@pytest.fixture
def codec(clock):
    return codec_with({"new": NEW, "old": OLD}, clock)


def codec_with(keys, clock):
    return TokenCodec(keys, 900, clock=lambda: clock.now)


def claims(**changes):
    now = int(time.time())
    full = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "17",
        "sid": str(GRANT.session_id),
        "epoch": 3,
        "roles": ["manager"],
        "iat": now,
        "exp": now + 900,
    } | changes
    return {name: value for name, value in full.items() if value is not ...}


def token(content=None, *, key=NEW, algorithm="HS256", **headers):
    full = {"kid": "new", "typ": TYPE} | headers
    content = claims() if content is None else content
    return jwt.encode(content, key, algorithm=algorithm, headers={k: v for k, v in full.items() if v is not ...})


def forged(header, content, signature=b""):
    parts = [json.dumps(header).encode(), json.dumps(content).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_token_says_who_its_bearer_is_and_in_which_session(codec):
    assert codec.read(codec.issue(GRANT)) == GRANT


def test_the_sessions_of_one_user_are_told_apart_at_once():
    assert hash(GRANT) == hash(replace(GRANT))
    assert hash(GRANT) != hash(replace(GRANT, session_id=uuid.UUID(int=8)))


def test_a_token_written_by_hand_with_our_key_is_one_of_ours(codec):
    assert codec.read(token()).user_id == 17


def test_the_first_key_signs_and_both_verify(codec, clock):
    before = codec_with({"old": OLD}, clock).issue(GRANT)
    assert codec.read(before) == GRANT
    assert jwt.get_unverified_header(codec.issue(GRANT))["kid"] == "new"


def test_a_key_that_has_been_removed_verifies_nothing_any_more(codec, clock):
    before = codec.issue(GRANT)
    with pytest.raises(UnauthorizedError):
        codec_with({"old": OLD}, clock).read(before)


def test_a_token_has_expired_after_its_lifetime_also_where_it_has_been_verified_before(codec, clock):
    issued = codec.issue(GRANT)
    assert codec.read(issued) == GRANT
    clock.now += 900 + LEEWAY + 1
    for reader in (codec, codec_with({"new": NEW}, clock)):
        with pytest.raises(UnauthorizedError, match="expired"):
            reader.read(issued)


def test_clocks_may_differ_by_a_moment(codec, clock):
    issued = codec.issue(GRANT)
    clock.now += 900 + LEEWAY - 2
    assert codec.read(issued) == GRANT


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": 4_102_444_800},
        {"nbf": 4_102_444_800},
        {"aud": "another"},
        {"aud": ...},
        {"aud": None},
        {"iss": "another"},
        {"iss": ...},
        {"exp": ...},
        {"exp": "soon"},
        {"iat": ...},
        {"sub": ...},
        {"sub": "admin"},
        {"sub": 17},
        {"sid": ...},
        {"sid": "none"},
        {"sid": 7},
        {"epoch": ...},
        {"epoch": None},
        {"roles": ...},
        {"roles": None},
        {"roles": 5},
        {"roles": [["admin"]]},
    ],
    ids=str,
)
def test_a_signed_token_that_does_not_say_all_that_it_must_is_refused(codec, changes):
    with pytest.raises(UnauthorizedError):
        codec.read(token(claims(**changes)))


@pytest.mark.parametrize(
    "wrong",
    [
        token(key="x" * 44),
        token(key=OLD),
        token(kid="old"),
        token(kid="gone"),
        token(kid=""),
        token(kid=...),
        token(kid="../../dev/null"),
        token(kid="new' OR '1'='1"),
        token(typ="JWT"),
        token(typ=...),
        token(algorithm="HS512", key=NEW * 2),
        token(algorithm="HS384", key=NEW * 2),
        token(algorithm="none", key=""),
        forged({"alg": "none", "kid": "new", "typ": TYPE}, claims()),
        forged({"alg": "None", "kid": "new", "typ": TYPE}, claims()),
        forged({"alg": "nOnE", "kid": "new", "typ": TYPE}, claims()),
        forged({"alg": "RS256", "kid": "new", "typ": TYPE}, claims(), b"signature"),
        forged({"alg": "HS256", "kid": "new", "typ": TYPE}, claims()),
        forged({"alg": "HS256", "kid": "new", "typ": TYPE}, claims(), b"\0" * 32),
        forged({"alg": "HS256", "kid": ["new"], "typ": TYPE}, claims()),
        forged({"alg": "HS256", "kid": {"new": 1}, "typ": TYPE}, claims()),
        forged({"alg": "HS256", "kid": None, "typ": TYPE}, claims()),
        forged({"alg": "HS256", "kid": "new", "typ": TYPE, "crit": ["x"]}, claims()),
        forged({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}, "kid": "new", "typ": TYPE}, claims()),
        forged([], {}),
        forged({}, []),
        forged(None, None),
        base64.urlsafe_b64encode(b"[" * 6000).decode() + ".e30.e30",
        base64.urlsafe_b64encode(b'{"a":' * 1200).decode() + ".e30.e30",
        "..",
        "a.b.c",
        "a.b",
        ".",
        "a.b.c.d",
        "é.ü.ß",
        "\ud800.a.b",
        "\x00.\x00.\x00",
        "x" * 10_000 + ".y.z",
        "",
    ],
)
def test_what_no_key_of_ours_has_signed_in_our_way_is_refused(codec, wrong):
    with pytest.raises(UnauthorizedError):
        codec.read(wrong)


def test_a_token_that_was_changed_in_any_place_is_refused(codec):
    issued = codec.issue(GRANT)
    for place in range(0, len(issued) - 1, 7):
        other = "A" if issued[place] != "A" else "B"
        with pytest.raises(UnauthorizedError):
            codec.read(issued[:place] + other + issued[place + 1 :])


def test_a_signature_of_another_token_does_not_fit(codec):
    mine, admin = codec.issue(GRANT), codec.issue(Grant(1, GRANT.session_id, 1, frozenset({"admin"})))
    with pytest.raises(UnauthorizedError):
        codec.read(admin.rpartition(".")[0] + "." + mine.rpartition(".")[2])


def test_refusals_tell_nothing_of_the_token_and_nothing_of_the_key(codec):
    for wrong in (token(key="x" * 44), token(claims(aud="another")), "a.b.c"):
        with pytest.raises(UnauthorizedError) as caught:
            codec.read(wrong)
        assert wrong not in str(caught.value)
        assert NEW not in str(caught.value)


def test_only_so_many_tokens_are_remembered(codec, monkeypatch):
    monkeypatch.setattr("api.core.access.tokens.CACHE_SIZE", 3)
    for number in range(10):
        codec.read(codec.issue(Grant(number, GRANT.session_id, 1, frozenset())))
    assert len(codec._read) <= 3


def test_a_refused_token_is_not_remembered(codec):
    with pytest.raises(UnauthorizedError):
        codec.read(token(key="x" * 44))
    assert not codec._read


# -- keys


def test_keys_are_written_as_a_list_of_ids_and_secrets():
    assert parse_keys(f" 2026-11:{NEW} , old:{OLD},") == {"2026-11": NEW, "old": OLD}
    assert [*parse_keys(f"b:{NEW},a:{OLD}")] == ["b", "a"]


def test_no_keys_are_none():
    assert parse_keys("") == {}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (NEW, "id:secret"),
        (f":{NEW}", "id:secret"),
        (f"a b:{NEW}", "id:secret"),
        (f"a:{NEW},a:{OLD}", "two keys 'a'"),
        ("a:short", "at least 32"),
        (f"a:{NEW},b:", "'b'"),
    ],
)
def test_a_key_that_is_none_is_refused_without_its_secret_being_told(value, told):
    with pytest.raises(ValueError, match=told) as caught:
        parse_keys(value)
    assert NEW not in str(caught.value)
    assert "short" not in str(caught.value)


def test_the_key_made_of_the_application_s_secret_is_another_secret():
    (key,) = derived_keys("the secret").values()
    assert len(key) >= 32
    assert "the secret" not in key
    assert derived_keys("the secret") == derived_keys("the secret") != derived_keys("another")


def test_there_is_no_codec_without_a_key():
    with pytest.raises(ValueError, match="key"):
        TokenCodec({}, 900)
