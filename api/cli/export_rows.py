"""`flask export`: the rows of a resource as a file."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from flask import current_app
from flask.cli import with_appcontext

from api.cli._progress import terminal_bar
from api.cli._transfer import explained, resource_named
from api.core.errors import APIError
from api.core.http.views import ALLOW_LISTS, TRANSFER_LIMITS
from api.core.query.params import parse_export
from api.core.resource.transfer.export import exported, zipped
from api.core.resource.transfer.formats import Format
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("export")
@click.argument("resource")
@click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option(
    "--format",
    "name",
    type=click.Choice([item.value for item in Format]),
    help="By default what FILE ends in, else csv.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; else standard output.")
@click.option("--gzip", is_flag=True, help="Pack it; by itself where FILE ends in .gz.")
@click.option("--sort", help="As in the API: -price,name")
@click.option("--fields", help="Only these, as in the API: sku,price")
@click.option("--include", help="Related rows, as in the API: category")
@click.option("--escape-formulas", is_flag=True, help="For spreadsheets: put ' before what they would calculate.")
@with_appcontext
def command(
    resource: str,
    filters: tuple[str, ...],
    name: str | None,
    output: Path | None,
    *,
    gzip: bool,
    escape_formulas: bool,
    **steering: str | None,
) -> None:
    """Write all rows of RESOURCE that match, as CSV or NDJSON.

    Filters are those of the API: flask export products price__gte=10 category.name=Books -o books.csv.gz
    """
    found = resource_named(resource)
    pairs = [_pair(text) for text in filters] + [(key, text) for key, text in steering.items() if text is not None]
    suffixes = [suffix.lstrip(".") for suffix in output.suffixes] if output else []
    file_format = Format(name or next((item for item in Format if item in suffixes), Format.CSV))
    try:
        plan = parse_export(pairs, current_app.extensions[ALLOW_LISTS][found.name])
        limits = current_app.extensions[TRANSFER_LIMITS]
        with (
            exported(db.engine, found.collection, plan, file_format, limits, escape_formulas=escape_formulas) as chunks,
            _opened(output) as file,
            terminal_bar("Writing bytes", 0) as advance,
        ):
            for chunk in zipped(chunks) if gzip or "gz" in suffixes else chunks:
                file.write(chunk)
                advance(len(chunk))
    except APIError as error:
        raise click.ClickException(explained(error)) from error
    except OSError as error:
        raise click.ClickException(f"{output or 'Standard output'}: {error.strerror}") from error


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise click.BadParameter(f"{text!r} is no filter; write field=value.", param_hint="FIELD=VALUE")
    return name, value


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[bytes]]:
    """The file to write, which bears its name only when it is complete."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
