"""Settings to engine options: pool sizes, timeouts, pre-ping and what every session starts with."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from api.core import json_text
from api.core.database.connection import AttributedConnection, UnpreparingConnection
from api.core.database.pool import LendingPool
from api.core.database.preparing import PreparingCursor
from api.core.database.watchdog import Patience

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from api.config import Settings

WORD_SIMILARITY = 0.4
"""How much of a word, as trigrams, a word with a typing error must share with it, to be found by it. From 0 to 1."""
GRACE = 2.0
"""Seconds between the server's own timeout and the end of our patience."""


_for_reads: ContextVar[bool] = ContextVar("for_reads", default=False)
_next_spared: ContextVar[bool] = ContextVar("next_spared", default=False)


def engine_options(settings: Settings) -> dict[str, Any]:
    """Options for `sqlalchemy.create_engine`, as the settings ask for them."""
    return {
        "poolclass": LendingPool,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_recycle": settings.pool_recycle,
        "pool_pre_ping": settings.pool_pre_ping,
        "pool_timeout": settings.pool_timeout,
        "pool_use_lifo": True,
        "echo": settings.sql_echo,
        # Also from the echo: hashes and tokens are values as any other.
        "hide_parameters": True,
        # NaN and Infinity are no JSON; PostgreSQL would refuse them with a message about syntax.
        "json_serializer": json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode,
        "json_deserializer": json_text.stored,
        "connect_args": {
            "connection_factory": AttributedConnection if settings.prepared_statements else UnpreparingConnection,
            "cursor_factory": PreparingCursor,
            "connect_timeout": settings.connect_timeout,
            "application_name": settings.application_name,
            "options": _session_defaults(settings),
            # A peer that vanished without a word is noticed in seconds, not after the kernel's two hours.
            "keepalives": 1,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * max(settings.request_timeout, settings.connect_timeout),
        },
    }


def spare_pings(engine: Engine) -> Engine:
    """Spare reads, and who asks for it, the pre-ping of connections that have answered lately: it is a round trip."""
    dialect: Any = engine.dialect
    ping = dialect.do_ping

    def ask(connection: AttributedConnection) -> Any:
        is_spared = _next_spared.get()
        if is_spared:
            _next_spared.set(False)
        if (is_spared or _for_reads.get()) and connection.has_answered_lately:
            connection.is_unasked = is_spared
            return True
        return ping(connection)

    dialect.do_ping = ask
    return engine


def spare_next_ping(*, spare: bool = True) -> None:
    """Spare it to the next connection that this context takes, by who does all again where that raises a conflict."""
    _next_spared.set(spare)


def connection_for_reads(engine: Engine) -> Any:
    """One of the pool, which may have been dropped a moment ago: for what can be sent again on another one."""
    _for_reads.set(True)
    try:
        return engine.raw_connection()
    finally:
        _for_reads.set(False)


def patience(settings: Settings) -> Patience:
    """How long a request waits for a server that should have given up by itself, or just have said that it is there."""
    timeout = settings.statement_timeout_ms
    return Patience(settings.pool_timeout, timeout / 1000 + GRACE if timeout else None)


def _session_defaults(settings: Settings) -> str:
    """Server settings of each new connection, in libpq's `options` form; timeouts in milliseconds."""
    values = {
        "TimeZone": "UTC",
        "statement_timeout": settings.statement_timeout_ms,
        "lock_timeout": settings.lock_timeout_ms,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
        "pg_trgm.word_similarity_threshold": WORD_SIMILARITY,
    }
    return " ".join(f"-c {name}={value}" for name, value in values.items())
