"""Access tokens: JSON Web Tokens (RFC 7519, 8725, 9068) that live for minutes, signed with one of several keys.

A token says who its bearer is, and in which session. That the session still holds, the database says in each request.
"""

from __future__ import annotations

import hmac
import re
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jwt

from api.core.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALGORITHM = "HS256"
TYPE = "at+jwt"
"""Of a token's header: another kind of token signed with the same key is not taken for one of these."""
ISSUER = AUDIENCE = "api"
SECRET_LENGTH_MIN = 32
"""Characters of a key: no fewer bytes than the hash has (RFC 7518, section 3.2)."""
LEEWAY = 5
"""Seconds by which the clocks of two machines may differ."""
LENGTH_MAX = 8192
"""Characters of a token; gunicorn takes no longer header either."""
CACHE_SIZE = 4096

_INTEGER_MAX, _BIGINT_MAX = 2**31 - 1, 2**63 - 1
_REQUIRED = ["iss", "aud", "sub", "sid", "epoch", "roles", "iat", "exp"]
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
_DERIVED = b"access tokens, version 1"
_EXPIRED = "The access token has expired; refresh it."
_WRONG = "The access token is not valid; log in again."


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token says: a user, the session and its epoch, and the roles held when it was issued."""

    user_id: int
    session_id: uuid.UUID
    epoch: int
    roles: frozenset[str]

    def __hash__(self) -> int:
        # The hash of a UUID is a function of Python's; that of its number is none.
        return hash((self.user_id, self.session_id.int))


def parse_keys(value: str) -> dict[str, str]:
    """`id:secret,id2:secret2` as keys by id, in this order.

    Raises:
        ValueError: telling what is wrong with which, without a secret in it.
    """
    keys: dict[str, str] = {}
    for number, entry in enumerate(filter(None, (part.strip() for part in value.split(","))), 1):
        name, separator, secret = entry.partition(":")
        if not separator or not _KEY_ID.fullmatch(name):
            raise ValueError(f"key {number} must read id:secret, its id being up to 32 letters, digits, '.', '_', '-'")
        if len(secret) < SECRET_LENGTH_MIN:
            raise ValueError(f"the secret of key {name!r} must have at least {SECRET_LENGTH_MIN} characters")
        if name in keys:
            raise ValueError(f"there are two keys {name!r}")
        keys[name] = secret
    return keys


def derived_keys(secret: str) -> dict[str, str]:
    """The one key that is made of the application's secret, and tells nothing of it."""
    return {"derived": hmac.digest(secret.encode(), _DERIVED, sha256).hex()}


class TokenCodec:
    """Issues and reads access tokens. The first of `keys` signs; each of them verifies."""

    def __init__(self, keys: Mapping[str, str], lifetime: int, *, clock: Callable[[], float] = time.time) -> None:
        """`lifetime` is in seconds.

        Raises:
            ValueError: without a key.
        """
        if not keys:
            raise ValueError("access tokens need a key")
        self.lifetime = lifetime
        self._keys = dict(keys)
        self._signing = next(iter(self._keys))
        self._clock = clock
        self._read: dict[str, tuple[float, Grant]] = {}

    def issue(self, grant: Grant) -> str:
        """A token for `grant`, from now on for `lifetime` seconds."""
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(grant.user_id),
            "sid": str(grant.session_id),
            "epoch": grant.epoch,
            "roles": sorted(grant.roles),
            "iat": now,
            "exp": now + self.lifetime,
        }
        headers = {"kid": self._signing, "typ": TYPE}
        return jwt.encode(claims, self._keys[self._signing], algorithm=ALGORITHM, headers=headers)

    def read(self, token: str) -> Grant:
        """What a valid token says. Tokens that have been verified are remembered, for as long as they live.

        Raises:
            UnauthorizedError: for any other.
        """
        known = self._read.get(token)
        if known is None:
            known = self._verified(token)
            if len(self._read) >= CACHE_SIZE:
                self._read.clear()
            self._read[token] = known
        expires, grant = known
        if self._clock() >= expires + LEEWAY:
            self._read.pop(token, None)
            raise UnauthorizedError(_EXPIRED)
        return grant

    def _verified(self, token: str) -> tuple[float, Grant]:
        if len(token) > LENGTH_MAX:
            raise UnauthorizedError(_WRONG)
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or not _is_spelt_as_issued(token):
                raise UnauthorizedError(_WRONG)
            claims = jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY,
                options={"require": _REQUIRED, "verify_exp": False},
            )
            return _granted(claims)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UnauthorizedError(_WRONG) from error


def _is_spelt_as_issued(token: str) -> bool:
    """Decoders overlook bits of the last character, and characters that are none: a token has one spelling."""
    signature = token.rpartition(".")[2]
    return urlsafe_b64encode(urlsafe_b64decode(f"{signature}==")).rstrip(b"=") == signature.encode()


def _granted(claims: Mapping[str, Any]) -> tuple[float, Grant]:
    """Signed by us, and still not believed to be of the right types and in the database's range."""
    user_id, epoch = int(claims["sub"]), int(claims["epoch"])
    if not (0 <= user_id <= _BIGINT_MAX and 0 <= epoch <= _INTEGER_MAX):
        raise ValueError("sub or epoch is out of range")
    return float(claims["exp"]), Grant(user_id, uuid.UUID(str(claims["sid"])), epoch, frozenset(claims["roles"]))
