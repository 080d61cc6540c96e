"""Waits for PostgreSQL's notifications (`LISTEN`), and for the wish to stop."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.sql import SQL, Identifier
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy import Engine

_logger = logging.getLogger(__name__)

RECONNECT_INTERVAL = 1.0
"""Seconds between two attempts to connect."""


class Listener:
    """A connection of its own that listens on one channel, and is made again when it is lost.

    A notification only ends a wait early. Where none can come, as behind PgBouncer in transaction mode, the wait just
    ends when its time is over. There nobody listens: it would be on a server connection that others use, who would be
    sent what they never take.
    """

    def __init__(self, engine: Engine, channel: str) -> None:
        self._engine = engine
        self._channel = channel
        self._connection: Any = None
        self._wake_reader, self._wake_writer = os.pipe()

    def wake(self) -> None:
        """End a wait; may be called by a signal handler."""
        os.write(self._wake_writer, b"x")

    def open(self) -> bool:
        """Listen, unless it does already; False when the database is out of reach."""
        if self._connection is not None and not self._connection.closed:
            return True
        self._forget()
        try:
            pooled = self._engine.raw_connection()
        except (SQLAlchemyError, psycopg2.Error):
            return False
        # Out of the pool, which it would take a place in for good.
        self._connection = pooled.driver_connection
        pooled.detach()
        try:
            self._connection.autocommit = True
            if not self._connection.is_direct:
                return True
            with self._connection.cursor() as cursor:
                cursor.execute(SQL("LISTEN {}").format(Identifier(self._channel)))
        except psycopg2.Error:
            self._forget()
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Return on a notification, on `wake()`, when the connection was lost or made again, or after that time."""
        if self._connection is None:
            seconds = min(seconds, RECONNECT_INTERVAL)
        readers = [self._wake_reader, *([self._connection] if self._connection is not None else [])]
        ready, _, _ = select.select(readers, [], [], seconds)
        if self._connection is not None and self._connection in ready:
            self._receive()

    def close(self) -> None:
        """Listen no more."""
        self._forget()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _receive(self) -> None:
        try:
            self._connection.poll()
            self._connection.notifies.clear()
        except psycopg2.Error:
            _logger.warning("The connection that listens for events was lost")
            self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None
