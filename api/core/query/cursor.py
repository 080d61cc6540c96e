"""Signed cursors: a place between two rows of one query, told to the client as an opaque token."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from api.core.query.plan import Position
from api.core.query.problems import ProblemError

_SIGNATURE_BYTES = 12


class CursorError(ProblemError):
    """The token is not one of ours, or belongs to another query."""

    def __init__(self) -> None:
        super().__init__("Must be a cursor of this list, with the same filters and sort.")


class CursorCodec:
    """Makes and reads cursors.

    A token is bound to the query that it came from, so that it cannot be used to probe another.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"cursor:" + secret.encode()).digest()

    def encode(self, position: Position, binding: bytes) -> str:
        """A token for `position` in the query that `binding` identifies; `binding` always has the same length."""
        content = [int(position.backward), *position.keys]
        payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return _as_text(self._sign(payload, binding) + payload)

    def decode(self, token: str, binding: bytes) -> Position:
        """The position that `token` stands for.

        Raises:
            CursorError: for a token that was altered, or that belongs to another query.
        """
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError as error:
            raise CursorError from error
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        # The decoder overlooks what is not of its alphabet; a token has one spelling only.
        genuine = hmac.compare_digest(signature, self._sign(payload, binding)) and _as_text(raw) == token
        if not genuine:
            raise CursorError
        backward, *keys = json.loads(payload)
        return Position(tuple(keys), backward=bool(backward))

    def _sign(self, payload: bytes, binding: bytes) -> bytes:
        return hmac.digest(self._key, binding + payload, "sha256")[:_SIGNATURE_BYTES]


def _as_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
