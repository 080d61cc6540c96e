"""Lines sorted by invoice, on disk: an invoice's lines may stand anywhere in a file of any size."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from api.cli._retail.lines import AMOUNT_MAX, Reason, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from api.cli._retail.lines import Line, Rejects

# Of one invoice: it is the least that is held in memory at a time.
LINES_MAX: Final = 5_000


@dataclass(slots=True)
class Invoice:
    """What becomes an order. Customer, country and date are those of its first line."""

    number: str
    customer: str
    country: str
    date: datetime
    lines: list[Line] = field(default_factory=list)
    total: Decimal = Decimal(0)

    def objection(self, line: Line) -> Reason | None:
        """Why `line` cannot be part of this invoice, or None."""
        if (line.customer, line.country) != (self.customer, self.country):
            return Reason.CONTRADICTION
        if len(self.lines) == LINES_MAX or self.total + line.amount > AMOUNT_MAX:
            return Reason.LARGE
        return None

    def add(self, line: Line) -> None:
        """Append a line to which there was no objection."""
        self.lines.append(line)
        self.total += line.amount


class Stage:
    """Holds lines in a temporary database file, which is gone when the stage is closed."""

    def __init__(self) -> None:
        """Open the file where the system keeps temporary ones."""
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE lines (invoice TEXT, number INTEGER, raw BLOB, PRIMARY KEY (invoice, number)) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, line: Line) -> None:
        """Keep a line until its invoice's turn."""
        self._database.execute("INSERT INTO lines VALUES (?, ?, ?)", (line.invoice, line.number, line.raw))

    def invoices(self, rejects: Rejects) -> Iterator[Invoice]:
        """The invoices by number, their lines in the order of the file; lines that do not fit go to `rejects`."""
        rows = self._database.execute("SELECT invoice, number, raw FROM lines ORDER BY invoice, number")
        for _invoice, group in groupby(rows, itemgetter(0)):
            invoice = _collect((parse(number, raw) for _, number, raw in group), rejects)
            if invoice.lines:
                yield invoice


def _collect(lines: Iterator[Line], rejects: Rejects) -> Invoice:
    first = next(lines)
    invoice = Invoice(first.invoice, first.customer, first.country, first.date)
    for line in chain([first], lines):
        reason = invoice.objection(line)
        if reason is None:
            invoice.add(line)
        else:
            rejects.add(line.number, line.raw, reason)
    return invoice
