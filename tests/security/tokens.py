"""What can be made of a genuine access token without its key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt

from api.core.access.tokens import TYPE
from tests.security.payloads import PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAR = int(time.time()) + 10**9
_KEY_IDS = ("../../../../dev/null", "/dev/null", "' UNION SELECT 'x' --", "", None, 0, [], {}, "unknown", "%00", "\x00")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def forged_tokens(genuine: str) -> Iterator[str]:
    """Other algorithms, other keys, other claims, other spellings."""
    yield from _other_algorithms(genuine)
    yield from _other_keys(genuine)
    yield from _other_claims(genuine)
    yield from _other_spellings(genuine)


def _other_algorithms(genuine: str) -> Iterator[str]:
    header, admin = jwt.get_unverified_header(genuine), _as_admin(genuine)
    signature = genuine.split(".")[2]
    for none in ("none", "None", "NONE", "nOnE", "", None, "HS256 ", "hs256", ["HS256"], {"a": 1}, 7):
        for mine in ("", signature, encoded(b"x")):
            yield f"{encoded(header | {'alg': none})}.{encoded(admin)}.{mine}"
    for algorithm in ("RS256", "ES256", "PS256", "EdDSA", "HS384", "HS512"):
        yield f"{encoded(header | {'alg': algorithm})}.{encoded(admin)}.{signature}"


def _other_keys(genuine: str) -> Iterator[str]:
    header, admin = jwt.get_unverified_header(genuine), _as_admin(genuine)
    head, _, signature = genuine.split(".")
    for guess in ("", "secret", "password", "HS256", header["kid"], head, "-----BEGIN PUBLIC KEY-----", "\x00" * 32):
        for algorithm in ("HS256", "HS384", "HS512"):
            yield signed(admin, guess, algorithm, {"kid": header["kid"], "typ": TYPE})
    for kid in _KEY_IDS:
        yield signed(admin, "", "HS256", {"kid": kid, "typ": TYPE})
        yield f"{encoded(header | {'kid': kid})}.{encoded(admin)}.{signature}"
    own = {"kty": "oct", "k": encoded(b"x" * 32)}
    for extra in ({"jwk": own}, {"jku": "http://127.0.0.1/keys"}, {"x5u": "http://127.0.0.1/x"}, {"x5c": ["x"]}):
        yield signed(admin, "x" * 32, "HS256", {**header, **extra})


def _other_claims(genuine: str) -> Iterator[str]:
    head, body, signature = genuine.split(".")
    header, claims = jwt.get_unverified_header(genuine), claims_of(genuine)
    for kind in ("JWT", "", None, "at+JWT; x", "refresh"):
        yield f"{encoded(header | {'typ': kind})}.{body}.{signature}"
    yield f"{encoded(header | {'crit': ['exp'], 'b64': False})}.{body}.{signature}"
    # A name twice: one reader takes the first, another one the last.
    twice = json.dumps(claims)[:-1] + ', "roles": ["admin"], "sub": "1"}'
    yield f"{head}.{encoded(twice.encode())}.{signature}"
    none_at_last = json.dumps(header)[:-1] + ', "alg": "none"}'
    yield f"{encoded(none_at_last.encode())}.{body}."
    for change in ({"roles": ["admin"]}, {"sub": "1"}, {"epoch": 0}, {"exp": _FAR}, {"sid": "x"}, {"aud": "x"}):
        yield f"{head}.{encoded(claims | change)}.{signature}"


def _other_spellings(genuine: str) -> Iterator[str]:
    head, body, signature = genuine.split(".")
    yield from (f"{head}.{body}", f"{head}.{body}.", f"{genuine}.", f".{genuine}", f"{genuine}.{signature}", "..", ".")
    yield from (f"{head}..{signature}", f".{body}.{signature}", f"{genuine}=", f"{genuine}==", genuine.swapcase())
    yield from (f"{head} .{body}.{signature}", genuine + "A", genuine[:-1], genuine[1:], f"{head}.{body}.!{signature}")
    yield from (f"{payload}.{payload}.{payload}".encode("ascii", "replace").decode() for payload in PAYLOADS)
    for at in range(0, len(genuine), 5):
        yield genuine[:at] + ("A" if genuine[at] != "A" else "B") + genuine[at + 1 :]
    # The last character has bits that mean nothing: a token has one spelling only.
    yield from (genuine[:-1] + other for other in _ALPHABET)


def claims_of(token: str) -> dict[str, Any]:
    """What it says, whoever has signed it."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _as_admin(genuine: str) -> dict[str, Any]:
    return claims_of(genuine) | {"roles": ["admin"], "sub": "1"}


def encoded(value: Any) -> str:
    """A part of a token."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(claims: Any, key: str, algorithm: str, headers: dict[str, Any]) -> str:
    """By hand: the library refuses to make some of these."""
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    content = f"{encoded({**headers, 'alg': algorithm})}.{encoded(claims)}"
    return f"{content}.{encoded(hmac.digest(key.encode(), content.encode(), digest))}"
