"""Rates in memory: exact among threads, and bounded whoever sends what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from api.core.rates.memory import MemoryRates
from api.core.rates.quota import Quota

QUOTA = Quota(5, 60)


def test_each_key_has_a_quota_of_its_own():
    rates = MemoryRates()
    assert [rates.take("a", QUOTA).allowed for _ in range(6)] == [True] * 5 + [False]
    assert rates.take("b", QUOTA).remaining == 4


def test_many_threads_together_get_exactly_the_quota():
    rates, quota = MemoryRates(), Quota(500, 3600)
    with ThreadPoolExecutor(8) as threads:
        verdicts = [*threads.map(lambda _: rates.take("one", quota), range(2000))]
    assert sum(verdict.allowed for verdict in verdicts) == 500


def test_however_many_keys_there_are_memory_is_bounded():
    rates = MemoryRates(keys_max=100)
    for number in range(10_000):
        rates.take(f"address:{number}", QUOTA)
    assert len(rates) <= 100


def test_who_goes_on_asking_is_not_forgotten_for_the_sake_of_others():
    rates = MemoryRates(keys_max=100, clock=lambda: 0.0)
    for _ in range(5):
        rates.take("greedy", QUOTA)
    for number in range(10_000):
        rates.take(f"address:{number}", QUOTA)
        if number % 40 == 0:
            assert not rates.take("greedy", QUOTA).allowed
