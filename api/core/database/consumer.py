"""Takes events out of the outbox and has a function handle them: each at least once, by as many consumers as one likes.

An event is locked, handled and removed in one transaction. When a consumer dies, its events are free for another one.
Events are taken in the order of their publication, but nothing more is promised of it: transactions commit in another
order, consumers work side by side, and what has failed is tried again later, while others overtake it.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import PendingRollbackError

from api.core.database.listener import Listener
from api.core.database.mixins import now
from api.core.database.outbox import CHANNEL, OutboxEvent
from api.core.database.session import transaction
from api.core.errors import UnavailableError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session

_logger = logging.getLogger(__name__)

BATCH = 100
ATTEMPTS = 10
POLL_INTERVAL = 5.0
"""Seconds after which a consumer looks for events that it was not told of."""

FIRST_DELAY = 1.0
LONGEST_DELAY = 600.0
_ERROR_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler gets. `id` is the same at every delivery; `attempts` counts those that have failed."""

    id: uuid.UUID
    topic: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int

    def as_dict(self) -> dict[str, Any]:
        """The event as plain data."""
        return asdict(self)


Handler = Callable[[Event], object]


@dataclass(slots=True)
class Tally:
    """How many events were handled, and how many attempts have failed."""

    handled: int = 0
    failed: int = 0


class Consumer:
    """Handles events of some topics, or of all. `handler` runs in the transaction that removes the event.

    So what it writes through the same session is done exactly once, and what it does elsewhere at least once. An event
    whose handler raises is tried again after a delay that doubles, and parked after the last of `attempts`.
    """

    def __init__(
        self,
        session: Session,
        handler: Handler,
        *,
        topics: Sequence[str] = (),
        batch: int = BATCH,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.tally = Tally()
        self._session = session
        self._handler = handler
        self._topics = tuple(topics)
        self._batch = batch
        self._attempts = attempts
        self._stopping = False
        engine: Engine = session.get_bind()  # type: ignore[assignment]
        self._listener = Listener(engine, CHANNEL)

    def run(self, *, poll: float = POLL_INTERVAL) -> None:
        """Handle events until `stop()`; a database that goes away is waited for."""
        while not self._stopping:
            # Before the look, so that no event comes between the look and the wait.
            listening = self._listener.open()
            if not (listening and self._looked()):
                self._listener.wait(poll)

    def run_once(self) -> None:
        """Handle what there is, and return."""
        while not self._stopping and self.work():
            pass

    def stop(self) -> None:
        """Return from `run()` behind the event that is being handled; may be called by a signal handler."""
        self._stopping = True
        self._listener.wake()

    def close(self) -> None:
        """Give the connection that listens back."""
        self._listener.close()

    def work(self) -> int:
        """Handle one batch of events in one transaction, and return how many there were.

        Raises:
            UnavailableError: when the database is out of reach.
        """
        with transaction(self._session) as session:
            # A handler may take its time; this transaction waits for it and for nobody else.
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            events = session.scalars(self._waiting()).all()
            done = []
            failed = 0
            for event in events:
                if self._stopping:
                    break
                if self._handled(event):
                    done.append(event.sequence)
                else:
                    failed += 1
            session.execute(delete(OutboxEvent).where(OutboxEvent.sequence.in_(done)))
        session.expunge_all()
        self.tally.handled += len(done)
        self.tally.failed += failed
        return len(events)

    def _looked(self) -> bool:
        """Whether there was anything to do, and it was done."""
        try:
            return self.work() > 0
        except (UnavailableError, PendingRollbackError) as error:
            _logger.warning("The database is out of reach: %s", error)
            return False

    def _waiting(self) -> Any:
        conditions: list[ColumnElement[bool]] = [
            OutboxEvent.parked_at.is_(None),
            OutboxEvent.available_at <= func.now(),
        ]
        if self._topics:
            conditions.append(OutboxEvent.topic.in_(self._topics))
        return (
            select(OutboxEvent)
            .where(*conditions)
            .order_by(OutboxEvent.sequence)
            .limit(self._batch)
            .with_for_update(skip_locked=True)
        )

    def _handled(self, row: OutboxEvent) -> bool:
        event = Event(row.id, row.topic, row.payload, row.created_at, row.attempts)
        try:
            with transaction(self._session):
                self._handler(event)
        except Exception as error:
            _logger.exception("The handler has failed on the event %s (%s)", event.id, event.topic)
            self._postpone(row.sequence, event.attempts + 1, error)
            return False
        return True

    def _postpone(self, sequence: int, attempts: int, error: Exception) -> None:
        values: dict[str, Any] = {
            "attempts": attempts,
            "last_error": f"{type(error).__name__}: {error}"[:_ERROR_LENGTH_MAX].replace("\x00", ""),
            "available_at": now() + timedelta(seconds=delay(attempts)),
        }
        if attempts >= self._attempts:
            values["parked_at"] = now()
        self._session.execute(
            update(OutboxEvent).where(OutboxEvent.sequence == sequence).values(values),
            execution_options={"synchronize_session": False},
        )


def delay(attempts: int) -> float:
    """Seconds until the next attempt after that many have failed: doubling, the last half of it random."""
    bound = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (attempts - 1))
    return random.uniform(bound / 2, bound)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class TopicState:
    """The events of one topic: waiting for a consumer, waiting for another attempt, parked; the oldest of all."""

    topic: str
    waiting: int
    retrying: int
    parked: int
    oldest: datetime


def states(session: Session) -> list[TopicState]:
    """What is in the outbox, by topic."""
    parked, tried = OutboxEvent.parked_at.is_not(None), OutboxEvent.attempts > 0
    statement = (
        select(
            OutboxEvent.topic,
            func.count().filter(~parked & ~tried),
            func.count().filter(~parked & tried),
            func.count().filter(parked),
            func.min(OutboxEvent.created_at),
        )
        .group_by(OutboxEvent.topic)
        .order_by(OutboxEvent.topic)
    )
    return [TopicState(*row) for row in session.execute(statement)]


def unpark(session: Session, topics: Sequence[str] = ()) -> int:
    """Give parked events, of some topics or of all, to the consumers again; return how many there were."""
    conditions = [OutboxEvent.parked_at.is_not(None), *([OutboxEvent.topic.in_(topics)] if topics else [])]
    statement = update(OutboxEvent).where(*conditions).values(parked_at=None, attempts=0, available_at=func.now())
    with transaction(session):
        result = session.execute(statement.returning(OutboxEvent.sequence))
        number = len(result.all())
        session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
    return number
