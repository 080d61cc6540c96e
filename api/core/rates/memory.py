"""Rates in the memory of this process."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from api.core.rates.quota import Quota, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS_MAX = 100_000
"""About 15 MB."""


class MemoryRates:
    """Rates that each process counts for itself; at most `keys_max` keys, whoever sends how many.

    Keys are in two generations: when the young one is full it becomes the old one, and the old one is forgotten. A key
    that is used, refused or not, moves to the young one; so what is forgotten was not used for long.
    """

    def __init__(self, keys_max: int = KEYS_MAX, clock: Callable[[], float] = monotonic) -> None:
        self._generation = keys_max // 2
        self._clock = clock
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._lock = Lock()

    def take(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        """As `Rates.take`."""
        now = self._clock()
        with self._lock:
            full_at = self._young.get(key)
            if full_at is None:
                full_at = self._old.get(key, now)
                if len(self._young) >= self._generation:
                    self._young, self._old = {}, self._young
            self._young[key], verdict = judge(full_at, now, quota, cost)
        return verdict

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._young.keys() | self._old.keys())
