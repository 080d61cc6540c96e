"""Rates in Redis, which all processes and machines share."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from api.core.rates.memory import MemoryRates
from api.core.rates.quota import Quota, Verdict

if TYPE_CHECKING:
    from redis import Redis

logger = structlog.get_logger(__name__)

TIMEOUT = 0.25
"""Seconds for an answer of Redis, and for a connection to it."""
PAUSE = 5.0
"""Seconds in which Redis is not asked again after it has failed."""

_PREFIX = "rate:"
# `judge` in Redis: by its clock, and without a second round trip between reading and writing.
_SCRIPT = """
local quota, seconds, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local interval = seconds / quota
local before = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local after = before + math.min(cost, quota) * interval
local excess = after - now - seconds
if excess > interval / 1000000 then
    return {0, tostring(seconds - (before - now)), tostring(excess)}
end
redis.call('SET', KEYS[1], string.format('%.6f', after), 'PX', math.max(1, math.ceil((after - now) * 1000)))
return {1, tostring(-excess), '0'}
"""


class SharedRates:
    """Rates in Redis; while it does not answer, each process counts for itself."""

    def __init__(self, url: str) -> None:
        """`url` as in `redis://:password@host:6379/0`, or `rediss://` with TLS; nothing is asked of it yet.

        Raises:
            ValueError: for a URL of another kind.
        """
        self._redis = _client(url)
        self._script = self._redis.register_script(_SCRIPT)
        self._alone = MemoryRates()
        self._lock = Lock()
        self._paused_until = 0.0
        self._failing = False

    def take(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        """As `Rates.take`; an outage of Redis costs a request at most twice `TIMEOUT`, and most requests nothing."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - half a second, for those who use it

        if not self._may_ask():
            return self._alone.take(key, quota, cost)
        try:
            allowed, left, excess = self._script(keys=[_PREFIX + key], args=[quota.amount, quota.seconds, cost])
        except RedisError as error:
            self._failed(error)
            return self._alone.take(key, quota, cost)
        self._answered()
        remaining = max(0, int(float(left) / quota.interval + 1e-6))
        return Verdict(bool(allowed), remaining, float(excess))

    def _may_ask(self) -> bool:
        """Whether to ask Redis: always while it answers, and else one request at a time after each pause."""
        if not self._failing:
            return True
        with self._lock:
            now = monotonic()
            if now < self._paused_until:
                return False
            self._paused_until = now + PAUSE
            return True

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._paused_until = monotonic() + PAUSE
            first, self._failing = not self._failing, True
        if first:
            # Not its text, which may name the server as the URL does.
            logger.warning("rate limits are counted by each process: Redis does not answer", error=type(error).__name__)

    def _answered(self) -> None:
        if not self._failing:
            return
        with self._lock:
            back, self._failing = self._failing, False
        if back:
            logger.info("rate limits are counted in Redis again")


def _client(url: str) -> Redis:
    """A client that gives up soon: redis-py's own would try again for seconds."""
    from redis import Redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        # Once, for a connection that has died in the pool.
        retry=Retry(NoBackoff(), 1),
        client_name="backend-framework",
    )
