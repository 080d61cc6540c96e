"""What an import was asked for, and what it has come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api.core.query.grammar import split_list
from api.core.query.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.core.resource.transfer.formats import Format

REJECTS_SHOWN = 1000
"""How many rejects an answer lists."""


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """How to import a file.

    `columns` maps columns of the file to fields, or to the empty text for columns to leave out. `upsert` names the
    fields of a unique key: a row whose key is there already changes the stored one. With `atomic`, one reject keeps
    everything from being written; a `dry_run` writes nothing in any case.
    """

    file_format: Format
    columns: Mapping[str, str] = field(default_factory=dict)
    upsert: tuple[str, ...] = ()
    atomic: bool = True
    dry_run: bool = False


def parse_mapping(text: str) -> dict[str, str]:
    """`Name:name,Price:price`: what columns of the file are; `Notes:` is nothing. What has a comma goes into quotes.

    Raises:
        ProblemError: for another form.
    """
    columns: dict[str, str] = {}
    for item in split_list(text):
        column, separator, field = item.rpartition(":")
        if not separator or not column or column in columns:
            raise ProblemError("Must be column:field, each column once, with commas between them.")
        columns[column] = field.strip()
    return columns


@dataclass(frozen=True, slots=True)
class Reject:
    """A mistake in a row: the row's first line, the column as the file names it (None for the whole row), and why."""

    line: int
    column: str | None
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """The reject in JSON's types."""
        return {"line": self.line, "column": self.column, "detail": self.detail}


@dataclass(slots=True)
class ImportReport:
    """How many rows were read, and what became of them. A row with several mistakes has several rejects."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    refused: bool = False
    ignored: tuple[str, ...] = ()
    rejects: list[Reject] = field(default_factory=list)
    """The first `REJECTS_SHOWN` of them."""

    def as_dict(self) -> dict[str, Any]:
        """The report in JSON's types."""
        return {
            "read": self.read,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "rejected": self.rejected,
            "ignored_columns": list(self.ignored),
            "rejects": [reject.as_dict() for reject in self.rejects],
        }
