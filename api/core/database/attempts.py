"""How often something has been tried, counted in the database, so that it holds for all workers: logins, for one.

Windows are fixed: one begins with the first attempt and ends by itself; attempts that are refused do not prolong it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, text

from api.core.database.mixins import now
from api.core.database.model import Base
from api.core.database.retention import Purged, delete_in_batches, purger
from api.core.database.types import UTCDateTime
from api.core.errors import TooManyRequestsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from sqlalchemy.orm import Session

attempts = Table(
    "attempts",
    Base.metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of what was tried, and by or on whom"),
    Column("count", Integer, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Index("ix_attempts_expires_at", "expires_at"),
)

# Ordered, so that two that count the same cannot wait for each other.
_COUNT = text(
    """
    INSERT INTO attempts AS known (digest, count, expires_at)
    SELECT digest, 1, now() + make_interval(secs => seconds)
    FROM unnest(CAST(:digests AS bytea[]), CAST(:windows AS integer[])) AS tried (digest, seconds) ORDER BY digest
    ON CONFLICT (digest) DO UPDATE SET
        count = CASE WHEN known.expires_at <= now() THEN 1 ELSE least(known.count, 1000000000) + 1 END,
        expires_at = CASE WHEN known.expires_at <= now() THEN excluded.expires_at ELSE known.expires_at END
    RETURNING digest, count AS made, CAST(extract(epoch FROM expires_at - now()) AS float) AS seconds
    """
)
_FORGET = text("DELETE FROM attempts WHERE digest = :digest")
_TAKE_BACK = text("UPDATE attempts SET count = count - 1 WHERE digest = :digest AND count > 0")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts of one `kind` by, or on, one `subject` in `window` seconds."""

    kind: str
    subject: str
    most: int
    window: int

    @property
    def digest(self) -> bytes:
        """What it is stored by, so that the table holds no names and no addresses."""
        return sha256(f"{self.kind}\x00{self.subject}".encode("utf-8", "surrogatepass")).digest()


def count(session: Session, limits: Sequence[Limit]) -> TooManyRequestsError | None:
    """Count an attempt against each of `limits`, before it is made; the error to raise where it is one too many.

    It is to be raised when the transaction has been committed: what was not counted was not limited.
    """
    by_digest = {limit.digest: limit for limit in limits}
    values = {"digests": [*by_digest], "windows": [limit.window for limit in by_digest.values()]}
    counted = session.execute(_COUNT, values)
    waits = [row.seconds for row in counted if row.made > by_digest[bytes(row.digest)].most]
    if not waits:
        return None
    return TooManyRequestsError("There were too many attempts; please wait.", retry_after=max(1, ceil(max(waits))))


def forget(session: Session, limit: Limit) -> None:
    """Begin to count from zero."""
    session.execute(_FORGET, {"digest": limit.digest})


def take_back(session: Session, limit: Limit) -> None:
    """Undo the counting of an attempt."""
    session.execute(_TAKE_BACK, {"digest": limit.digest})


@purger(attempts.name)
def purge_expired(session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    """Remove counts whose window has been over for longer than `older_than`."""
    return delete_in_batches(session, attempts, attempts.c.expires_at < now() - older_than, dry_run=dry_run)
