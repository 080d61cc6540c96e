"""`flask seed`: made-up users, products and orders, as many as one likes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from api.cli._progress import terminal_bar
from api.cli._seed.fill import DEMO_PASSWORD, NothingToOrderError, Options, Seeded, seed_demo
from api.core.errors import APIError
from api.extensions import db

if TYPE_CHECKING:
    from api.config import Settings

__all__ = ["DEMO_PASSWORD", "Options", "Seeded", "command", "seed_demo"]

# The keys of orders hold their time, and cannot hold one before 1970.
_FIRST_YEAR: Final = 1980
_COUNT: Final = click.IntRange(min=0)


def _end(_context: click.Context, _option: click.Parameter, value: datetime | None) -> datetime | None:
    if value is not None and value.year < _FIRST_YEAR:
        raise click.BadParameter(f"must be in {_FIRST_YEAR} or later.")
    return value.replace(tzinfo=UTC) if value else None


@click.command("seed")
@click.option("--users", type=_COUNT, default=50, show_default=True, help="How many users to add.")
@click.option("--products", type=_COUNT, default=200, show_default=True, help="How many products to add.")
@click.option("--orders", type=_COUNT, default=300, show_default=True, help="How many orders to add.")
@click.option("--seed", type=click.IntRange(min=0), help="Make the same data again; drawn by default.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_end,
    metavar="YYYY-MM-DD",
    help="The day that the orders end on; now by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_appcontext
def command(*, as_json: bool, seed: int | None, until: datetime | None, **counts: int) -> None:
    """Add made-up data to what is there.

    Orders are of the two years before --until and refer to new and existing users and products; their open ones take
    from the stock. The same --seed and --until make the same data on top of the same database.
    """
    started = time.monotonic()
    settings: Settings = current_app.extensions["settings"]
    # A password that everybody knows has no place where strangers come by.
    password = None if settings.is_production else DEMO_PASSWORD
    options = Options(seed, until, password)
    try:
        seeded = seed_demo(db.session, **counts, options=options, bar=terminal_bar)
    except NothingToOrderError as error:
        raise click.UsageError(str(error)) from error
    except (APIError, SQLAlchemyError) as error:
        raise click.ClickException(f"{error} What was added before stays.") from error
    facts = {**asdict(seeded), "password": password, "seconds": round(time.monotonic() - started, 1)}
    click.echo(json.dumps(facts, indent=2) if as_json else _text(facts))


def _text(facts: dict[str, Any]) -> str:
    password = f"Their password is {facts['password']}" if facts["password"] else "In production they have no password"
    return (
        f"Added {facts['users']:,} users, {facts['products']:,} products and {facts['orders']:,} orders "
        f"with {facts['order_items']:,} items in {facts['seconds']} s.\n"
        + (f"{password}.\n" if facts["users"] else "")
        + (f"Log in with POST /api/v1/auth/login, as {', '.join(facts['logins'])}.\n" if facts["logins"] else "")
        + f"Made from seed {facts['seed']}."
    )
