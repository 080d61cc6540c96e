"""Who sends a request."""

from __future__ import annotations

ANONYMOUS = "anonymous"


def current_caller() -> str:
    """A name for whoever sends the current request, the same for each of its requests; accounts will replace it."""
    return ANONYMOUS
