"""`flask load-retail`: the invoice lines of a shop become users, products and orders."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from api.cli._progress import terminal_bar
from api.cli._retail.lines import COLUMNS, Reason, Rejects, UnusableLineError, parse, physical_lines, split
from api.cli._retail.stage import Stage
from api.cli._retail.store import Saved, Store
from api.core.errors import APIError
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from api.cli._progress import Bar
    from api.cli._retail.stage import Invoice

# Of one transaction. Larger ones are hardly faster, and lose more when they break off.
BATCH_LINES: Final = 2_000
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Report:
    """What a load has come to."""

    lines_read: int = 0
    saved: Saved = field(default_factory=Saved)
    rejected: dict[Reason, int] = field(default_factory=dict)

    @property
    def is_reconciled(self) -> bool:
        """Whether each line is accounted for, and the database holds what the accepted lines say."""
        saved = self.saved
        return (
            self.lines_read == saved.lines_in_orders + sum(self.rejected.values())
            and saved.lines_in_orders == saved.database_lines
            and saved.lines_amount == saved.database_amount
        )

    def as_dict(self) -> dict[str, Any]:
        """The report in JSON's types; amounts are strings, in pounds."""
        saved = self.saved
        return {
            "lines_read": self.lines_read,
            "lines_in_orders": saved.lines_in_orders,
            "lines_rejected": sum(self.rejected.values()),
            "rejected": {reason.value: count for reason, count in self.rejected.items()},
            "orders_created": saved.orders_created,
            "orders_already_there": saved.orders_found,
            "users_created": saved.users_created,
            "products_created": saved.products_created,
            "amount_of_lines": f"{saved.lines_amount:.2f}",
            "amount_in_database": f"{saved.database_amount:.2f}",
            "reconciled": self.is_reconciled,
        }


@click.command("load-retail")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where rejected lines go; by default FILE's name with .rejects.csv, in the current directory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_appcontext
def command(file: Path, rejects: Path | None, *, as_json: bool) -> None:
    """Load invoice lines into users, products and orders.

    FILE is CSV in UTF-8 with the columns InvoiceNo, StockCode, Description, Quantity, InvoiceDate (YYYY-MM-DD HH:MM:SS,
    taken as UTC), UnitPrice, CustomerID and Country: the layout of the data set Online Retail. An invoice becomes a
    delivered order, which takes nothing from the stock. A line that is no sale to a known customer goes to the rejects
    file with its number and the reason. Loading the same file again changes nothing; a load that broke off goes on
    where it ended.
    """
    started = time.monotonic()
    rejects = rejects or Path(f"{file.stem}.rejects.csv")
    report = _load(file, rejects, terminal_bar)
    facts = {**report.as_dict(), "rejects_file": str(rejects), "seconds": round(time.monotonic() - started, 1)}
    click.echo(json.dumps(facts, indent=2) if as_json else _text(facts))
    if not report.is_reconciled:
        raise click.ClickException("The file and the database do not agree; see the figures above.")


def _load(path: Path, rejects_path: Path, bar: Bar) -> Report:
    if rejects_path.exists() and rejects_path.samefile(path):
        raise click.BadParameter("is the file to be loaded, and would be overwritten.", param_hint="--rejects")
    with _opened(path) as file:
        _read_header(file)
        with _rejects_file(rejects_path) as output, Stage() as stage:
            rejects = Rejects(output)
            report = Report(_stage_lines(file, path.stat().st_size, stage, rejects, bar))
            _save_orders(stage, rejects, report, bar)
            report.rejected = dict(rejects.counts.most_common())
    return report


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="FILE") from error


def _rejects_file(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--rejects") from error


def _read_header(file: IO[bytes]) -> None:
    header = next(physical_lines(file), b"").removeprefix(_BYTE_ORDER_MARK)
    try:
        columns = tuple(name.strip() for name in split(header))
    except UnusableLineError:
        columns = ()
    if columns != COLUMNS:
        raise click.BadParameter(f"its first line must be {','.join(COLUMNS)}", param_hint="FILE")


def _stage_lines(file: IO[bytes], size: int, stage: Stage, rejects: Rejects, bar: Bar) -> int:
    """Sort the lines that can be part of an order, reject the others; how many lines there are."""
    count = 0
    with bar("Reading bytes", size) as advance:
        # The header is line 1.
        for number, raw in enumerate(physical_lines(file), start=2):
            count += 1
            advance(len(raw))
            try:
                stage.add(parse(number, raw))
            except UnusableLineError as error:
                rejects.add(number, raw, error.reason)
    return count


def _save_orders(stage: Stage, rejects: Rejects, report: Report, bar: Bar) -> None:
    store = Store(db.session())
    accepted = report.lines_read - rejects.counts.total()
    try:
        with bar("Loading lines", accepted) as advance:
            for batch in _batches(stage.invoices(rejects)):
                saved, changed = store.save(batch)
                report.saved.add(saved)
                for line in (line for invoice in changed for line in invoice.lines):
                    rejects.add(line.number, line.raw, Reason.CHANGED)
                advance(sum(len(invoice.lines) for invoice in batch))
    except (APIError, SQLAlchemyError) as error:
        advice = "What was loaded before stays; run the command again to go on."
        raise click.ClickException(f"{_explained(error)} {advice}") from error


def _batches(invoices: Iterable[Invoice]) -> Iterator[list[Invoice]]:
    """Lists of invoices with about `BATCH_LINES` lines in all."""
    batch: list[Invoice] = []
    size = 0
    for invoice in invoices:
        batch.append(invoice)
        size += len(invoice.lines)
        if size >= BATCH_LINES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _explained(error: APIError | SQLAlchemyError) -> str:
    if isinstance(error, APIError):
        places = [f"{violation.pointer}: {violation.detail}" for violation in error.violations]
        return " ".join([error.detail, *places])
    return f"The database refused: {error}"


def _text(facts: dict[str, Any]) -> str:
    reasons = [(f"    {reason}", f"{count:,}") for reason, count in facts["rejected"].items()]
    rows = [
        ("Lines read", f"{facts['lines_read']:,}"),
        ("  in orders", f"{facts['lines_in_orders']:,}"),
        ("  rejected", f"{facts['lines_rejected']:,}"),
        *reasons,
        ("Orders created", f"{facts['orders_created']:,}"),
        ("  already there", f"{facts['orders_already_there']:,}"),
        ("Users created", f"{facts['users_created']:,}"),
        ("Products created", f"{facts['products_created']:,}"),
        ("Amount of the lines in orders", facts["amount_of_lines"]),
        ("  of these orders in the database", facts["amount_in_database"]),
        ("Seconds", facts["seconds"]),
    ]
    lines = [f"{name:<50} {value:>14}" for name, value in rows]
    return "\n".join([*lines, f"Rejected lines are in {facts['rejects_file']}"])
