"""Sessions, the refresh tokens that they have had, and API keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from marshmallow.validate import Length
from sqlalchemy import ForeignKey, Index, LargeBinary, String, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session

from api.core.database import credentials
from api.core.database.credentials import CredentialMixin, Holders
from api.core.database.mixins import now
from api.core.database.retention import Purged, delete_in_batches, purger
from api.core.database.text_rules import Label
from api.core.database.types import UTCDateTime, column
from api.extensions import db

USER_AGENT_LENGTH = 200
ADDRESS_LENGTH = 45
"""Of an IPv6 address at its longest."""
HOLDERS = Holders(
    "users",
    "roles",
    "user_roles",
    (
        ("OLD.deleted_at IS DISTINCT FROM NEW.deleted_at", "account deleted"),
        ("OLD.is_active IS DISTINCT FROM NEW.is_active", "account deactivated"),
        ("(OLD.password_hash)::text IS DISTINCT FROM (NEW.password_hash)::text", "password changed"),
    ),
)


class AuthSession(CredentialMixin, db.Model):
    """What a login begins: a family of tokens, all of which end with it."""

    __tablename__ = "auth_sessions"
    __owner__ = "user_id"
    __table_args__ = (Index("ix_auth_sessions_expires_at", "expires_at"),)

    user_id: Mapped[int] = column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    last_used_at: Mapped[datetime] = column(UTCDateTime, server_default=func.now())
    user_agent: Mapped[str | None] = column(String(USER_AGENT_LENGTH))
    address: Mapped[str | None] = column(String(ADDRESS_LENGTH))


class RefreshToken(db.Model):
    """A token of a session, which is used once; those that have been used are kept, so that a second use is noticed."""

    __tablename__ = "auth_refresh_tokens"
    __part_of__ = "session_id"
    __table_args__ = (
        Index("uq_auth_refresh_tokens_session_id", "session_id", unique=True, postgresql_where=text("used_at IS NULL")),
    )

    hash: Mapped[bytes] = column(LargeBinary, primary_key=True, comment="SHA-256")
    session_id: Mapped[uuid.UUID] = column(ForeignKey("auth_sessions.id", ondelete="CASCADE"), index=True)
    used_at: Mapped[datetime | None] = column(UTCDateTime)


class APIKey(CredentialMixin, db.Model):
    """A key of a user, which may do what the user may, and of that only what its scopes name."""

    __tablename__ = "api_keys"
    __owner__ = "user_id"

    user_id: Mapped[int] = column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = column(String(80), validators=[Length(min=1), Label()])
    prefix: Mapped[str] = column(String(16))
    hash: Mapped[bytes] = column(LargeBinary, unique=True, comment="SHA-256")
    scopes: Mapped[list[str]] = column(ARRAY(Text))
    last_used_at: Mapped[datetime | None] = column(UTCDateTime)


credentials.declare(AuthSession.__table__, "verify_session", HOLDERS)
credentials.declare(APIKey.__table__, "verify_api_key", HOLDERS, outdated=credentials.OUTDATED)


@purger(AuthSession.__tablename__)
def purge_sessions(session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    """Remove sessions that have been over for longer than `older_than`, with their tokens."""
    return _purge(session, AuthSession.__table__, older_than, dry_run=dry_run)


@purger(APIKey.__tablename__)
def purge_api_keys(session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    """Remove keys that have been over for longer than `older_than`."""
    return _purge(session, APIKey.__table__, older_than, dry_run=dry_run)


def _purge(session: Session, table: Table, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    over = func.least(table.c.expires_at, table.c.revoked_at) < now() - older_than
    return delete_in_batches(session, table, over, dry_run=dry_run)
