"""Which rows a permission opens to a caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Grant:
    """All rows, or else those of which one of the attributes `owners` holds the caller's user id; none without any."""

    everything: bool = False
    owners: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether it opens anything at all."""
        return self.everything or bool(self.owners)

    def __or__(self, other: Grant) -> Grant:
        """What one of the two opens."""
        if self.everything or other.everything:
            return ALL
        return Grant(owners=self.owners | other.owners)

    def __and__(self, other: Grant) -> Grant:
        """What both open; of two that name owners, where the same one is named."""
        if self.everything or other.everything:
            return other if self.everything else self
        return Grant(owners=self.owners & other.owners)

    def covers(self, row: Any, user_id: int | None) -> bool:
        """Whether `row` is among what is opened to the user."""
        if self.everything:
            return True
        return user_id is not None and any(getattr(row, owner) == user_id for owner in self.owners)


ALL = Grant(everything=True)
NONE = Grant()
