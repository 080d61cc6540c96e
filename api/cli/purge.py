"""`flask purge`: remove for good what has been deleted, or is over, for long."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from api.cli._progress import terminal_bar
from api.core.database.purge_deleted import purge_deleted, soft_deleting_tables
from api.core.database.retention import Purged, parse_duration, purgers
from api.core.errors import APIError
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Duration(click.ParamType[timedelta]):
    """`90d`, `12h` or `4w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The time span that `value` means."""
        try:
            return value if isinstance(value, timedelta) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("purge")
@click.option(
    "--older-than",
    type=_Duration(),
    required=True,
    metavar="90d",
    help="For how long: hours, days, weeks (12h, 90d, 4w).",
)
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only this table, such as products; repeatable.")
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_appcontext
def command(*, older_than: timedelta, names: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """Remove for good what was deleted, or has been over, for longer than that.

    Rows that others still refer to are kept, and counted. Each batch is a transaction of its own: what was removed
    before an interruption stays removed, and a second run goes on.
    """
    chosen = _chosen(names)
    totals: dict[str, Purged] = {name: Purged() for name in chosen}
    try:
        with terminal_bar("Rows", 0) as advance:
            for name, purged in _purge(chosen, older_than, dry_run=dry_run):
                totals[name] += purged
                advance(purged.removed)
    except (APIError, SQLAlchemyError) as error:
        raise click.ClickException(f"{error} What was removed before is gone.") from error
    if as_json:
        rows = [{"name": name, "removed": total.removed, "kept": total.kept} for name, total in totals.items()]
        click.echo(json.dumps({"dry_run": dry_run, "purged": rows}, indent=2))
    else:
        _print(totals, dry_run=dry_run)


def _chosen(names: Sequence[str]) -> list[str]:
    known = [*(table.name for table in soft_deleting_tables()), *purgers()]
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"there is no {name!r}; there is {', '.join(sorted(known))}.", param_hint="--model"
            )
    return [name for name in known if name in names or not names]


def _purge(names: Sequence[str], older_than: timedelta, *, dry_run: bool) -> Iterator[tuple[str, Purged]]:
    session = db.session()
    tables = [table for table in soft_deleting_tables() if table.name in names]
    for table, purged in purge_deleted(session, tables, older_than, dry_run=dry_run):
        yield table.name, purged
    for name, purge in purgers().items():
        if name in names:
            for purged in purge(session, older_than, dry_run=dry_run):
                yield name, purged


def _print(totals: dict[str, Purged], *, dry_run: bool) -> None:
    # Here, because it is slow to import and every process of the application imports every command.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("", box=box.SIMPLE)
    table.add_column("would be removed" if dry_run else "removed", justify="right")
    table.add_column("kept, as still referred to by")
    everything = Purged()
    for name, total in totals.items():
        table.add_row(name, f"{total.removed:,}", _reasons(total))
        everything += total
    table.add_section()
    table.add_row("all", f"{everything.removed:,}", "")
    Console().print(table)


def _reasons(total: Purged) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in total.kept.items())
