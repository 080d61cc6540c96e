"""Rates in Redis: the same verdicts as in memory, for all processes together, and no outage of Redis is ours."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from api.core.rates import shared
from api.core.rates.memory import MemoryRates
from api.core.rates.quota import Quota
from api.core.rates.shared import SharedRates

HOUR = Quota(5, 3600)


def test_processes_share_a_quota(redis_server):
    one, other = SharedRates(redis_server.url), SharedRates(redis_server.url)
    verdicts = [rates.take("a", HOUR) for rates in (one, other) * 3]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0]
    assert verdicts[-1].retry_after == pytest.approx(720, abs=5)


def test_verdicts_are_those_of_the_memory(redis_server):
    redis, memory = SharedRates(redis_server.url), MemoryRates()
    for number, cost in enumerate([1, 2, 1, 5, 1, 1, 1, 9]):
        there, here = redis.take("a", HOUR, cost), memory.take("a", HOUR, cost)
        assert there[:2] == here[:2], number
        assert there.retry_after == pytest.approx(here.retry_after, abs=2)


def test_what_is_full_again_leaves_nothing_behind(redis_server):
    rates = SharedRates(redis_server.url)
    rates.take("a", Quota(20, 1))
    client = rates._redis
    assert client.dbsize() == 1
    time.sleep(0.1)
    assert client.dbsize() == 0


def test_many_threads_together_get_exactly_the_quota(redis_server):
    rates, quota = SharedRates(redis_server.url), Quota(100, 86_400)
    with ThreadPoolExecutor(8) as threads:
        verdicts = [*threads.map(lambda _: rates.take("one", quota), range(400))]
    assert sum(verdict.allowed for verdict in verdicts) == 100


def test_without_redis_each_process_counts_for_itself_and_says_so_once():
    rates = SharedRates("redis://127.0.0.1:1/0")
    with capture_logs() as logs:
        verdicts = [rates.take("a", HOUR) for _ in range(6)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert len(logs) == 1
    assert "Redis does not answer" in logs[0]["event"]


def test_a_password_is_in_no_log():
    with capture_logs() as logs:
        SharedRates("redis://:s3cret@127.0.0.1:1/0").take("a", HOUR)
    assert "s3cret" not in str(logs)


def test_a_frozen_redis_costs_one_request_a_moment_and_the_others_nothing(redis_server):
    rates = SharedRates(redis_server.url)
    rates.take("a", HOUR)
    redis_server.freeze()
    started = time.monotonic()
    rates.take("a", HOUR)
    first = time.monotonic() - started
    for _ in range(100):
        rates.take("a", HOUR)
    others = time.monotonic() - started - first
    redis_server.thaw()
    assert first < 4 * shared.TIMEOUT
    assert others < shared.TIMEOUT


def test_a_redis_that_is_back_counts_again(redis_server, monkeypatch):
    monkeypatch.setattr(shared, "PAUSE", 0.05)
    rates = SharedRates(redis_server.url)
    rates.take("a", HOUR)
    redis_server.stop()
    assert rates.take("a", HOUR).remaining == 4
    redis_server.start()
    for attempt in range(50):
        time.sleep(0.1)
        assert rates.take(f"b{attempt}", HOUR).allowed
        seen_by_another = SharedRates(redis_server.url).take(f"b{attempt}", HOUR)
        if seen_by_another.remaining == 3:
            return
    pytest.fail("Redis is not asked again")
