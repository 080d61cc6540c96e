"""A file of rows into a resource's table, in the caller's transaction and at constant memory.

Rows are read, checked by the schema and copied to a temporary table by the thousand; at the end one INSERT takes them
over. What the schema cannot know, such as a taken name, is looked for there, for all rows at once.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from marshmallow import ValidationError
from sqlalchemy import text

from api.core.database.engine import GRACE
from api.core.database.watchdog import waiting
from api.core.errors import MalformedRequestError, Violation
from api.core.query.problems import not_there
from api.core.resource.transfer.checking import RowChecker
from api.core.resource.transfer.columns import Columns
from api.core.resource.transfer.formats import Format
from api.core.resource.transfer.references import References
from api.core.resource.transfer.report import REJECTS_SHOWN, ImportReport
from api.core.resource.transfer.rows import csv_rows, json_rows
from api.core.resource.transfer.settle import Settlement
from api.core.resource.transfer.source import lines
from api.core.resource.transfer.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

    from api.core.database.indexes import UniqueKey
    from api.core.resource.transfer.checking import Problem
    from api.core.resource.transfer.columns import Row
    from api.core.resource.transfer.formats import TransferLimits
    from api.core.resource.transfer.importable import Importable, ImportField
    from api.core.resource.transfer.report import ImportOrder, Reject

BATCH = 2_000
"""Rows that are held at a time."""

_TIMEOUTS = text(
    "SELECT set_config('statement_timeout', :statement, true), "
    "set_config('idle_in_transaction_session_timeout', :idle, true)"
)


class _UndoneError(Exception):
    """Undoes the transaction of an import that is not to be."""

    def __init__(self, report: ImportReport) -> None:
        super().__init__(report)
        self.report = report


def import_file(
    transaction: Callable[[], AbstractContextManager[Session]],
    importable: Importable,
    blocks: Iterable[bytes],
    order: ImportOrder,
    limits: TransferLimits,
    on_rejects: Callable[[Iterator[Reject]], None] | None = None,
) -> ImportReport:
    """Import the file whose content is `blocks`, in a `transaction()`; `on_rejects` is given all rejects, by line.

    Where the report says `refused`, nothing was written, because rows were rejected and the order is atomic.

    Raises:
        MalformedRequestError: for a file that cannot be read, or an order that does not fit.
        APIError: for what the database refused.
    """
    key = _upsert_key(importable, order)
    columns = Columns(importable, order.columns)
    try:
        with transaction() as session, waiting(limits.timeout_ms / 1000 + GRACE if limits.timeout_ms else None):
            session.execute(_TIMEOUTS, {"statement": str(limits.timeout_ms), "idle": str(limits.silence * 1000)})
            rows = _rows(columns, blocks, order.file_format)
            stage = Stage(session, importable, _staged(importable, columns))
            count = _Intake(stage, importable).take(rows)
            report = _settled(stage, Settlement(stage, importable, key), columns, count, order, on_rejects)
            _undo_unless(report, wanted=not (report.refused or order.dry_run))
    except _UndoneError as undone:
        return undone.report
    return report


def _undo_unless(report: ImportReport, *, wanted: bool) -> None:
    if not wanted:
        raise _UndoneError(report)


def _settled(
    stage: Stage,
    settlement: Settlement,
    columns: Columns,
    count: int,
    order: ImportOrder,
    on_rejects: Callable[[Iterator[Reject]], None] | None,
) -> ImportReport:
    """Reject what clashes, and write the rest unless that is not wanted."""
    settlement.reject_clashes()
    rejected = stage.rejected_rows()
    report = ImportReport(
        read=count,
        rejected=rejected,
        refused=order.atomic and rejected > 0,
        ignored=tuple(sorted(columns.ignored)),
        rejects=stage.first_rejects(columns.called, REJECTS_SHOWN) if rejected else [],
    )
    if on_rejects is not None:
        on_rejects(stage.all_rejects(columns.called))
    if not report.refused:
        written = settlement.write()
        report.inserted, report.updated = written.inserted, written.updated
        report.unchanged = report.read - report.rejected - written.inserted - written.updated
    return report


def _upsert_key(importable: Importable, order: ImportOrder) -> UniqueKey | None:
    """The unique key that the order names.

    Raises:
        MalformedRequestError: for fields that are no unique key.
    """
    if not order.upsert:
        return None
    for names, key in importable.keys.items():
        if set(names) == set(order.upsert):
            return key
    possible = [",".join(names) for names in importable.keys]
    detail = not_there("unique key", ",".join(order.upsert), possible)
    raise MalformedRequestError(violations=[Violation(detail, parameter="upsert")])


def _rows(columns: Columns, blocks: Iterable[bytes], file_format: Format) -> Iterator[tuple[int, Row | str]]:
    if file_format is Format.NDJSON:
        return columns.object_rows(json_rows(lines(blocks)))
    records = csv_rows(lines(blocks))
    _, header = next(records, (0, None))
    if header is None:
        raise MalformedRequestError("The file is empty; its first line has the names of the columns.")
    if isinstance(header, str):
        raise MalformedRequestError(f"In the header: {header}")
    return columns.table_rows(header, records)


def _staged(importable: Importable, columns: Columns) -> list[ImportField]:
    """The fields that the file may fill: those that the header names, if it has one."""
    if columns.given is None:
        return [*importable.fields.values()]
    keys = importable.natural_keys
    names = {keys[name].refers.name if name in keys else name for name in columns.given}
    return [item for name, item in importable.fields.items() if name in names]


class _Intake:
    """Checks rows and stages them."""

    def __init__(self, stage: Stage, importable: Importable) -> None:
        self._stage = stage
        self._checker = RowChecker(importable.schema)
        self._references = [References(key) for key in importable.natural_keys.values()]

    def take(self, rows: Iterator[tuple[int, Row | str]]) -> int:
        """Check and stage all rows; how many there are."""
        count = 0
        while batch := [*islice(rows, BATCH)]:
            count += len(batch)
            self._look_up(batch)
            for line, row in batch:
                if isinstance(row, str):
                    self._stage.reject(line, None, row)
                else:
                    self._check(line, row)
            self._stage.flush()
        return count

    def _look_up(self, batch: list[tuple[int, Row | str]]) -> None:
        for references in self._references:
            name = references.natural.name
            values = [row[name] for _, row in batch if not isinstance(row, str) and name in row]
            if values:
                references.look_up(self._stage.session, values)

    def _check(self, line: int, row: Row) -> None:
        """Stage the row, or reject it; a field that the file fills by a natural key is called by that."""
        called: dict[str | None, str] = {}
        unresolved: list[Problem] = []
        for references in self._references:
            name, refers = references.natural.name, references.natural.refers.name
            if name in row:
                value = row.pop(name)
                row[refers] = references.key(value)
                called[refers] = name
                if value is not None and row[refers] is None:
                    unresolved.append((name, references.problem(value)))
                    # Not even a number: the schema refuses the row, and tells what else is wrong with it.
                    row[refers] = False
        try:
            values = self._checker.checked(row)
        except ValidationError as error:
            explained = {name for name, _ in unresolved}
            for field, detail in self._checker.problems(error):
                if called.get(field, field) not in explained:
                    self._stage.reject(line, called.get(field, field), detail)
            for field, detail in unresolved:
                self._stage.reject(line, field, detail)
        else:
            self._stage.seen.update(row)
            self._stage.add(line, values)
