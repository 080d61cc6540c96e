"""`flask outbox`: handle the events that transactions have published, and see what waits."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import click
import orjson
from flask.cli import with_appcontext

from api.core.database.consumer import ATTEMPTS, BATCH, POLL_INTERVAL, Consumer, Event, Handler, states, unpark
from api.core.errors import APIError
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOPICS = click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; repeatable.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group("outbox")
def command() -> None:
    """Events that were published with a transaction."""


def print_event(event: Event) -> None:
    """Print `event` as a line of JSON."""
    # Not by orjson, which refuses integers beyond 64 bits.
    click.echo(json.dumps(event.as_dict(), default=_as_text, ensure_ascii=False, separators=(",", ":")))


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _handler(_context: click.Context, _option: click.Parameter, value: str | None) -> Handler:
    if value is None:
        return print_event
    module, _, name = value.partition(":")
    try:
        handler: Handler = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(f"{error}; name it as package.module:function.") from error
    if not callable(handler):
        raise click.BadParameter(f"{value} is not a function.")
    return handler


@command.command("consume")
@_TOPICS
@click.option(
    "--handler", callback=_handler, metavar="MODULE:FUNCTION", help="Called with each event; prints it by default."
)
@click.option("--once", is_flag=True, help="Handle what there is, and end.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=BATCH, show_default=True, help="At once.")
@click.option("--attempts", type=click.IntRange(min=1), default=ATTEMPTS, show_default=True, help="Per event.")
@click.option("--poll", type=click.FloatRange(min=0.1), default=POLL_INTERVAL, show_default=True, help="In seconds.")
@_JSON
@with_appcontext
def consume(  # noqa: PLR0913 - options, by keyword
    *, topics: Sequence[str], handler: Handler, once: bool, batch: int, attempts: int, poll: float, as_json: bool
) -> None:
    """Handle events as they are published, until SIGTERM or Ctrl-C; several of these share the work.

    An event is removed in the transaction in which it is handled. One whose handler fails is tried again later, and
    parked after the last attempt. See `flask outbox status`.
    """
    consumer = Consumer(db.session(), handler, topics=topics, batch=batch, attempts=attempts)
    _stop_on_signals(consumer)
    with closing(consumer):
        try:
            consumer.run_once() if once else consumer.run(poll=poll)
        except APIError as error:
            raise click.ClickException(error.detail) from error
    tally = consumer.tally
    text = f"Handled {tally.handled:,} events; {tally.failed:,} attempts failed."
    click.echo(json.dumps(asdict(tally)) if as_json else text, err=not as_json)


def _stop_on_signals(consumer: Consumer) -> None:
    def stop(number: int, _frame: object) -> None:
        # Whoever asks again does not want to wait for the event that is being handled.
        signal.signal(number, signal.SIG_DFL)
        consumer.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


@command.command("status")
@_JSON
@with_appcontext
def status(*, as_json: bool) -> None:
    """Tell how many events wait, are tried again, and are parked, by topic."""
    try:
        with db.transaction() as session:
            found = states(session)
    except APIError as error:
        raise click.ClickException(error.detail) from error
    if as_json:
        click.echo(orjson.dumps([asdict(state) for state in found]).decode())
        return
    if not found:
        click.echo("The outbox is empty.")
    for state in found:
        age = datetime.now(UTC) - state.oldest
        click.echo(
            f"{state.topic}: {state.waiting:,} waiting, {state.retrying:,} to be tried again, {state.parked:,} parked; "
            f"the oldest for {age.total_seconds():,.0f} s"
        )


@command.command("retry")
@_TOPICS
@_JSON
@with_appcontext
def retry(*, topics: Sequence[str], as_json: bool) -> None:
    """Give parked events to the consumers again."""
    try:
        number = unpark(db.session(), topics)
    except APIError as error:
        raise click.ClickException(error.detail) from error
    click.echo(json.dumps({"retried": number}) if as_json else f"{number:,} events will be tried again.")
