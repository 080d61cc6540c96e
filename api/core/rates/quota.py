"""A quota such as 600 a minute, and the arithmetic of keeping to it.

The generic cell rate algorithm (ITU-T I.371): a key's whole state is the time at which its quota will be full again.
Each unit that is taken moves that time on by the quota's seconds per unit; what would move it further into the future
than the quota's whole time is refused. So a quota may be used up at once, and comes back unit by unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Protocol

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_TOLERANCE = 1e-6
_FORM = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(_SECONDS)})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quota:
    """`amount` units in `seconds`."""

    amount: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Quota:
        """The quota that `text` writes, such as `600/minute`.

        Raises:
            ValueError: for another text.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            message = f"{text!r} is no quota; one reads 600/minute, with second, minute, hour or day"
            raise ValueError(message)
        return cls(int(found[1]), _SECONDS[found[2]])

    @property
    def interval(self) -> float:
        """Seconds until one unit is back."""
        return self.seconds / self.amount

    def __str__(self) -> str:
        """As `parse` takes it."""
        return f"{self.amount}/{next(name for name, seconds in _SECONDS.items() if seconds == self.seconds)}"


class Verdict(NamedTuple):
    """Whether units could be taken, how many are left, and in how many seconds they could be; 0 where they were."""

    allowed: bool
    remaining: int
    retry_after: float = 0.0

    @property
    def wait(self) -> int:
        """Whole seconds to wait, at least one."""
        return max(1, ceil(self.retry_after))


class Rates(Protocol):
    """Keeps what was taken by which key."""

    def take(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        """Take `cost` units of the quota that `key` has, if there are so many."""


def judge(full_at: float, now: float, quota: Quota, cost: int) -> tuple[float, Verdict]:
    """When the quota will be full after `cost` units were taken, and the verdict; a refusal takes nothing.

    `full_at` and `now` are seconds of one clock. A cost above the whole quota counts as the whole.
    """
    amount, seconds = quota.amount, quota.seconds
    interval = seconds / amount
    before = full_at if full_at > now else now  # noqa: FURB136 - max() takes three times as long, in every request
    after = before + min(cost, amount) * interval
    left = now + seconds - after
    # Times are rounded to a fraction of a unit: the last unit must not be lost to that.
    if left < -interval * _TOLERANCE:
        kept = max(0, int((now + seconds - before) / interval + _TOLERANCE))
        return before, Verdict(allowed=False, remaining=kept, retry_after=-left)
    return after, Verdict(allowed=True, remaining=int(left / interval + _TOLERANCE))
