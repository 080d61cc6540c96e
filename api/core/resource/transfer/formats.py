"""The formats of files, and how much of one may be taken in or sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """What a file is."""

    CSV = "csv"
    NDJSON = "ndjson"

    @property
    def media_type(self) -> str:
        """Its Content-Type."""
        return "text/csv" if self is Format.CSV else "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What an export or import may take; each is a setting.

    `timeout_ms` is for a statement of it, 0 for any time; `silence` are the seconds in which either side must have sent
    or taken something; `import_bytes` is the largest file, unpacked.
    """

    timeout_ms: int = 3_600_000
    silence: int = 60
    import_bytes: int = 2**30
