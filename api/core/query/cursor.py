"""Signed cursors: a place between two rows of one query, told to the client as an opaque token."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from api.core.query.plan import Position

_SIGNATURE_BYTES = 12
_MAX_TOKEN_LENGTH = 4096


class CursorError(ValueError):
    """The token is not one of ours, or belongs to another query."""


class CursorCodec:
    """Makes and reads cursors. A token is bound to the query it came from, so that it cannot be used to probe another."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"cursor:" + secret.encode()).digest()

    def encode(self, position: Position, binding: bytes) -> str:
        """A token for `position` in the query that `binding` identifies."""
        payload = json.dumps([int(position.backward), *position.keys], separators=(",", ":")).encode()
        return urlsafe_b64encode(self._sign(payload, binding) + payload).rstrip(b"=").decode()

    def decode(self, token: str, binding: bytes) -> Position:
        """The position that `token` stands for.

        Raises:
            CursorError: for a token that was altered, or that belongs to another query.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            raise CursorError
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (Base64Error, ValueError) as error:
            raise CursorError from error
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(payload, binding)):
            raise CursorError
        backward, *keys = json.loads(payload)
        return Position(tuple(keys), backward=bool(backward))

    def _sign(self, payload: bytes, binding: bytes) -> bytes:
        return hmac.digest(self._key, binding + payload, "sha256")[:_SIGNATURE_BYTES]
