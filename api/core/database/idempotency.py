"""What was answered to requests that may be sent again: a row for each key, in the request's own transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from api.core.database.mixins import now
from api.core.database.model import Base
from api.core.database.retention import Purged, delete_in_batches, purger
from api.core.database.types import UTCDateTime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from sqlalchemy.orm import Session

KEY_LENGTH_MAX = 255

idempotency_keys = Table(
    "idempotency_keys",
    Base.metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of caller, method, path and key"),
    Column("caller", Text, nullable=False),
    Column("method", String(10), nullable=False),
    Column("path", Text, nullable=False),
    Column("key", String(KEY_LENGTH_MAX), nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, comment="SHA-256 of what was sent"),
    Column("status", Integer, comment="NULL while the request is being answered"),
    Column("headers", JSONB, comment="pairs of name and value"),
    Column("body", LargeBinary),
    Column("created_at", UTCDateTime, nullable=False, server_default=func.now()),
    Column("expires_at", UTCDateTime, nullable=False),
    Index("ix_idempotency_keys_expires_at", "expires_at"),
)

# The lock keeps a second request from waiting for the first one's row. It is tried for in the statement that makes the
# row, and held until the end of the transaction; its number shares PostgreSQL's 64 bits with all other advisory locks.
_RESERVE = text(
    """
    INSERT INTO idempotency_keys (digest, caller, method, path, key, fingerprint, expires_at)
    SELECT :digest, :caller, :method, :path, :key, :fingerprint, now() + make_interval(secs => :seconds)
    WHERE pg_try_advisory_xact_lock(:lock)
    ON CONFLICT (digest) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = NULL, headers = NULL, body = NULL,
        created_at = excluded.created_at, expires_at = excluded.expires_at
    WHERE idempotency_keys.expires_at <= now()
    RETURNING true
    """
)
_FIND = text(
    "SELECT fingerprint, status, headers, body FROM idempotency_keys WHERE digest = :digest AND expires_at > now()"
)
_SAVE = text("UPDATE idempotency_keys SET status = :status, headers = :headers, body = :body WHERE digest = :digest")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that bears a key: who sent it where, and the SHA-256 of what was sent."""

    caller: str
    method: str
    path: str
    key: str
    fingerprint: bytes

    @property
    def digest(self) -> bytes:
        """What the key is stored by: the same key of another caller, or for another path, is another key."""
        return fingerprint_of(part.encode() for part in (self.caller, self.method, self.path, self.key))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; headers in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier request with this key that has been answered: what it sent, and the answer."""

    fingerprint: bytes
    answer: Answer


def fingerprint_of(parts: Iterable[bytes]) -> bytes:
    """The SHA-256 of `parts`, each with its length in front, so that no two lists have the same one."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def reserve(session: Session, attempt: Attempt, *, ttl: int) -> bool:
    """Take the key for this transaction, for `ttl` seconds when it is committed; False when it is taken.

    A key that has expired is free.
    """
    values = {name: getattr(attempt, name) for name in ("caller", "method", "path", "key", "fingerprint")}
    lock = int.from_bytes(attempt.digest[:8], signed=True)
    values |= {"digest": attempt.digest, "seconds": ttl, "lock": lock}
    return session.scalar(_RESERVE, values) is not None


def earlier(session: Session, attempt: Attempt) -> Earlier | None:
    """The request that has the key, or None while that is still being answered."""
    row = session.execute(_FIND, {"digest": attempt.digest}).one_or_none()
    if row is None:
        return None
    headers = [(name, value) for name, value in row.headers]
    return Earlier(bytes(row.fingerprint), Answer(row.status, headers, bytes(row.body)))


def save(session: Session, attempt: Attempt, answer: Answer) -> None:
    """Keep the answer to the request that has reserved the key, in the same transaction."""
    headers = json.dumps(answer.headers)
    values = {"digest": attempt.digest, "status": answer.status, "headers": headers, "body": answer.body}
    session.execute(_SAVE, values)


@purger(idempotency_keys.name)
def purge_expired(session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    """Remove keys that have expired for longer than `older_than`; until then they are free already, but take room."""
    expired = idempotency_keys.c.expires_at < now() - older_than
    return delete_in_batches(session, idempotency_keys, expired, dry_run=dry_run)
