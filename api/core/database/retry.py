"""Runs what lost against another transaction again, after a moment.

PostgreSQL undoes one of two transactions that wait for each other (deadlock, 40P01) or that cannot both have seen what
they saw (serialization failure, 40001), and expects it to be tried again as a whole: documentation, 13.5.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from api.core.errors import TransactionConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

ATTEMPTS = 5
"""How often a transaction is tried where nothing else is set."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5


def retried(function: Callable[[], R], *, attempts: int = ATTEMPTS, on_retry: Callable[[], object] | None = None) -> R:
    """The result of `function`, which is called again when it loses a conflict; `on_retry` is called before each time.

    Each call must be a transaction of its own, with all that it depends on read anew.

    Raises:
        TransactionConflictError: when the last attempt has lost, too.
    """
    for attempt in range(1, attempts):
        try:
            return function()
        except TransactionConflictError:
            if on_retry is not None:
                on_retry()
            time.sleep(pause(attempt))
    return function()


def pause(attempt: int) -> float:
    """Seconds to wait after the failed `attempt`, the first being 1.

    Drawn from zero to a bound that doubles, so that those who met do not meet again ("full jitter": Brooker,
    Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
    """
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)))  # noqa: S311 - no secret
