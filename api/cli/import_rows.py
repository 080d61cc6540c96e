"""`flask import`: a file of rows into a resource's table."""

from __future__ import annotations

import csv
import json
import time
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import with_appcontext

from api.cli._progress import terminal_bar
from api.cli._transfer import explained, resource_named
from api.core.errors import APIError
from api.core.http.views import TRANSFER_LIMITS
from api.core.query.problems import ProblemError
from api.core.resource.transfer.formats import Format
from api.core.resource.transfer.importing import import_file
from api.core.resource.transfer.report import ImportOrder, parse_mapping
from api.core.resource.transfer.source import blocks
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.core.resource.transfer.importable import Importable
    from api.core.resource.transfer.report import ImportReport, Reject

_REJECTS_PRINTED = 10


class _Watched:
    """A file that tells how much of it has been read."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._advance(len(data))
        return data


def _mapping(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, str]:
    try:
        return parse_mapping(value) if value else {}
    except ProblemError as error:
        raise click.BadParameter(str(error)) from error


@click.command("import")
@click.argument("resource")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "name", type=click.Choice([item.value for item in Format]), help="By default FILE's ending.")
@click.option("--map", "columns", callback=_mapping, metavar="COLUMN:FIELD,...", help="What columns of FILE are.")
@click.option("--upsert", default="", metavar="FIELD", help="A unique field: rows that are there already are changed.")
@click.option("--atomic/--partial", default=True, help="Write nothing when a row is rejected (default), or the others.")
@click.option("--dry-run", is_flag=True, help="Tell what would become of the rows, and write nothing.")
@click.option("--rejects", type=click.Path(dir_okay=False, path_type=Path), help="Where to write all rejects, as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_appcontext
def command(  # noqa: PLR0913 - options by keyword
    resource: str,
    file: Path,
    name: str | None,
    columns: dict[str, str],
    upsert: str,
    rejects: Path | None,
    *,
    atomic: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read rows of RESOURCE from FILE: CSV or NDJSON in UTF-8, packed where its name ends in .gz.

    The first line of CSV names the fields. Each row is checked as a POST would be, and all are written in one
    transaction. A row may refer to another one by name: category.name instead of category_id. With --upsert the same
    file can be imported again and again, and changes nothing the second time.
    """
    started = time.monotonic()
    found = resource_named(resource)
    if not found.is_importable:
        raise click.BadParameter(f"{resource} cannot be imported.", param_hint="RESOURCE")
    order = ImportOrder(_format(file, name), columns, tuple(filter(None, upsert.split(","))), atomic, dry_run)
    try:
        report = _run(found.importable, file, order, rejects)
    except APIError as error:
        raise click.ClickException(explained(error)) from error
    facts = {**report.as_dict(), "dry_run": dry_run, "seconds": round(time.monotonic() - started, 1)}
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else _text(report, facts, rejects))
    if report.refused:
        raise click.ClickException("Nothing was written, because rows were rejected.")


def _format(file: Path, name: str | None) -> Format:
    endings = [suffix.lstrip(".").lower() for suffix in file.suffixes]
    found = name or next((item for item in Format if item in endings), None)
    if found is None:
        raise click.BadParameter(f"{file.name} ends in neither .csv nor .ndjson; say which.", param_hint="--format")
    return Format(found)


def _run(importable: Importable, path: Path, order: ImportOrder, rejects: Path | None) -> ImportReport:
    limits = current_app.extensions[TRANSFER_LIMITS]
    on_rejects = None if rejects is None else partial(_write_rejects, rejects)
    with path.open("rb") as file, terminal_bar("Reading bytes", path.stat().st_size) as advance:
        content = blocks(_Watched(file, advance), packed=path.suffix.lower() == ".gz", largest=None)
        return import_file(db.transaction, importable, content, order, limits, on_rejects)


def _write_rejects(path: Path, rejects: Iterator[Reject]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("line", "column", "detail"))
            writer.writerows((reject.line, reject.column, reject.detail) for reject in rejects)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--rejects") from error


def _text(report: ImportReport, facts: dict[str, Any], rejects: Path | None) -> str:
    counts = f"{report.inserted:,} inserted, {report.updated:,} updated, {report.unchanged:,} unchanged"
    lines = [f"Read {report.read:,} rows in {facts['seconds']} s: {counts}, {report.rejected:,} rejected."]
    if facts["dry_run"]:
        lines.append("Nothing was written: this was a dry run.")
    if report.ignored:
        lines.append(f"Not looked at: {', '.join(report.ignored)}.")
    lines += [
        f"  line {item.line}, {item.column or 'the whole row'}: {item.detail}"
        for item in report.rejects[:_REJECTS_PRINTED]
    ]
    if rejects is not None:
        lines.append(f"All rejects are in {rejects}.")
    elif len(report.rejects) > _REJECTS_PRINTED:
        lines.append("  … --rejects FILE writes all of them.")
    return "\n".join(lines)
