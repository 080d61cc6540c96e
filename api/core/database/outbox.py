"""The transactional outbox: events that leave exactly when the transaction that they are published in commits.

An event is a row. It is there for consumers when its transaction is committed, and never was when that is undone. The
database tells listeners of new rows by itself (`NOTIFY`), at the commit and whoever has inserted them.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Identity, Index, Integer, String, Text, Uuid, func, insert, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from api.core.database.mixins import now
from api.core.database.model import Base
from api.core.database.retention import Purged, delete_in_batches, purger
from api.core.database.triggers import TRIGGERS, Function, Trigger
from api.core.database.types import UTCDateTime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from sqlalchemy import Table
    from sqlalchemy.orm import Session

CHANNEL = "outbox_events"
TOPIC_LENGTH_MAX = 100
_TOPIC = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
# A random UUID whose first 48 bits are replaced by the time in milliseconds, and its version by 7 (RFC 9562, 5.7).
_UUID7 = text(
    "encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send("
    "(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid"
)


class PublishedMixin:
    """Every change of the model's rows is published: `orders.created`, `.updated`, `.deleted`, `.restored`.

    The payload holds the row's `id` and `version`. A trigger does it, so that no bulk statement and no SQL forgets it.
    """


class _NotifyingMixin:
    """Tells listeners of new rows."""


_NOTIFY = Function(
    "notify_outbox()",
    "() RETURNS trigger LANGUAGE plpgsql",
    f"BEGIN\n    PERFORM pg_notify('{CHANNEL}', '');\n    RETURN NULL;\nEND",
)
_PUBLISH = Function(
    "publish_change()",
    # Whoever may change the rows need not be allowed to write events by hand.
    "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp'",
    """
DECLARE
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    was_deleted boolean := before ->> 'deleted_at' IS NOT NULL;
    is_deleted boolean := after IS NULL OR after ->> 'deleted_at' IS NOT NULL;
BEGIN
    -- Nothing has changed, what goes for good has been deleted before, or unpublished() says so.
    IF before = after OR (was_deleted AND TG_OP = 'DELETE') OR current_setting('app.unpublished', true) = 'true' THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.outbox_events (topic, payload) VALUES (
        TG_TABLE_NAME || CASE
            WHEN TG_OP = 'INSERT' THEN '.created'
            WHEN is_deleted AND NOT was_deleted THEN '.deleted'
            WHEN was_deleted AND NOT is_deleted THEN '.restored'
            ELSE '.updated'
        END,
        jsonb_build_object('id', coalesce(after, before) -> 'id', 'version', coalesce(after, before) -> 'version')
    );
    RETURN NULL;
END
""",
)


def _no_arguments(_table: Table) -> tuple[str, ...]:
    return ()


TRIGGERS += [
    # Registered in front of the models that they are for.
    Trigger("notify_outbox", _NOTIFY, _NotifyingMixin, "AFTER INSERT", _no_arguments, level="STATEMENT"),
    Trigger("publish_change", _PUBLISH, PublishedMixin, "AFTER INSERT OR DELETE OR UPDATE", _no_arguments),
]


class OutboxEvent(_NotifyingMixin, Base):
    """An event that waits for a consumer, which removes it."""

    __tablename__ = "outbox_events"
    __table_args__ = (
        # What has been given up is not in the way of what waits.
        Index("ix_outbox_events_waiting", "sequence", postgresql_where=text("parked_at IS NULL")),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(Uuid, server_default=_UUID7)
    topic: Mapped[str] = mapped_column(String(TOPIC_LENGTH_MAX))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now())
    available_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now())
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[str | None] = mapped_column(Text)
    parked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


def publish(session: Session, topic: str, payload: Mapping[str, Any]) -> uuid.UUID:
    """Publish an event with the transaction of `session`; what is returned is its id, by which consumers know it again.

    `topic` is words joined by dots, such as `orders.paid`; `payload` is what JSON can hold.

    Raises:
        ValueError: for another topic.
    """
    if len(topic) > TOPIC_LENGTH_MAX or not _TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} is no topic; write lower-case words joined by dots, such as orders.paid")
    statement = insert(OutboxEvent).values(topic=topic, payload=dict(payload)).returning(OutboxEvent.id)
    return session.scalars(statement).one()


def unpublished(session: Session) -> None:
    """Let no model publish its changes for the rest of the transaction: what is loaded from elsewhere is no news."""
    session.execute(text("SET LOCAL app.unpublished = 'true'"))


@purger("outbox_events")
def purge_parked(session: Session, older_than: timedelta, *, dry_run: bool) -> Iterator[Purged]:
    """Remove events that were given up longer ago than `older_than`; what still waits for a consumer stays."""
    table: Table = OutboxEvent.__table__  # type: ignore[assignment]
    return delete_in_batches(session, table, table.c.parked_at < now() - older_than, dry_run=dry_run)
