"""`flask history`: the partitions that the history of changes is kept in."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from api.core.database.history import MONTHS_AHEAD
from api.core.database.history_partitions import make_partitions, prune
from api.core.errors import APIError
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGE = re.compile(r"([1-9][0-9]{0,2})(mo|y)", re.ASCII)
_MONTHS = {"mo": 1, "y": 12}


class _Age(click.ParamType[int]):
    """`12mo` or `2y`, in months."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """How many months `value` means."""
        if isinstance(value, int):
            return value
        match = _AGE.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no age; write months or years, such as 12mo or 2y.", param, ctx)
        return int(match[1]) * _MONTHS[match[2]]


@click.group("history")
def command() -> None:
    """Look after the history of changes, which is kept in one partition a month."""


@command.command("partitions")
@click.option(
    "--ahead",
    type=click.IntRange(0, 120),
    default=MONTHS_AHEAD,
    show_default=True,
    help="For how many months to come.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_appcontext
def partitions(*, ahead: int, as_json: bool) -> None:
    """Make the partitions of this month and the next ones.

    What is there already stays as it is. Entries of a month that had no partition are in the default one, and are moved
    to the one that is made for them.
    """
    with _failing_in_one_line(), db.owner_transaction() as session:
        made = make_partitions(session, ahead)
    if as_json:
        click.echo(json.dumps({"made": made}, indent=2))
    else:
        click.echo(f"Made {', '.join(made)}." if made else "All partitions are there.")


@command.command("prune")
@click.option(
    "--older-than",
    "months",
    type=_Age(),
    required=True,
    metavar="12mo",
    help="For how long entries are kept: months or years (12mo, 2y).",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_appcontext
def prune_command(*, months: int, dry_run: bool, as_json: bool) -> None:
    """Remove old entries for good.

    Whole months are dropped: all that is from before the month which began that long ago. So an entry may be kept for
    up to a month longer, and never for less.
    """
    with _failing_in_one_line(), db.owner_transaction() as session:
        pruned = prune(session, months, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **asdict(pruned)}, indent=2))
        return
    verb = "Would remove" if dry_run else "Removed"
    click.echo(
        f"{verb} what is from before {pruned.before}: "
        f"{len(pruned.partitions)} partitions ({pruned.freed / 2**20:.1f} MiB) "
        f"and {pruned.rows} rows of the default partition."
    )


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except (APIError, SQLAlchemyError) as error:
        raise click.ClickException(str(error)) from error
