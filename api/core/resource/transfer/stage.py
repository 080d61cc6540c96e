"""Rows on their way into a table: a temporary one, to which checked rows are copied, and that of the rejects."""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, Column, MetaData, Table, Text, distinct, func, select

from api.core.database.copying import copy_in
from api.core.errors import MalformedRequestError
from api.core.resource.transfer.report import Reject
from api.core.resource.transfer.texts import NULL, escaped, text_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from api.core.resource.transfer.importable import Importable, ImportField

# Names that no column can have that a mapped attribute has.
LINE = "#line"
MISSING = "#missing"
_ROWS = "import_rows"
_REJECTS = "import_rejects"
_FETCHED = 1000
REJECTS_MAX = 1_000_000
"""More mistakes tell nobody more, and fill the disk."""


class Stage:
    """The two temporary tables of one import; they go with its transaction.

    A row has the number of its first line and, where it lacks fields that others have, the names of their columns.
    """

    def __init__(self, session: Session, importable: Importable, fields: Sequence[ImportField]) -> None:
        """Make the tables, with a column for each of `fields` and for what only Python gives a default."""
        self.session = session
        self.target = importable.table
        self.fields = fields
        self.seen: set[str] = set()
        """Names of fields that a row has had."""
        self._rejected = 0
        self.has_gaps = False
        """Whether a row lacks fields."""
        staged = {item.column for item in fields}
        self.defaulted = [
            column
            for column in self.target.columns
            if column not in staged and column.default is not None and column.server_default is None
        ]
        columns = [*(item.column for item in fields), *self.defaulted]
        self.rows = _temporary(
            _ROWS,
            Column(LINE, BigInteger),
            Column(MISSING, ARRAY(Text)),
            *(Column(column.name, column.type) for column in columns),
        )
        self.rejects = _temporary(_REJECTS, Column("line", BigInteger), Column("field", Text), Column("detail", Text))
        connection = session.connection()
        for table in (self.rows, self.rejects):
            table.create(connection)
        self._gaps = [(item.column.name, _default_text(item.column, item.write)) for item in fields]
        self._always = [(column, text_writer(column.type)) for column in self.defaulted]
        self._row_lines: list[str] = []
        self._reject_lines: list[str] = []

    # -- rows in --------------------------------------------------------------------------------------------------

    def add(self, line: int, values: Mapping[str, Any]) -> None:
        """Stage a row of attributes."""
        cells = [str(line), NULL]
        missing = []
        for item, (column, default) in zip(self.fields, self._gaps, strict=True):
            if item.attribute in values:
                value = values[item.attribute]
                cells.append(NULL if value is None else item.write(value))
            else:
                missing.append(column)
                cells.append(default())
        if missing:
            self.has_gaps = True
            cells[1] = escaped("{" + ",".join(f'"{column}"' for column in missing) + "}")
        cells += [write(_default(column)) for column, write in self._always]
        self._row_lines.append("\t".join(cells))

    def reject(self, line: int, field: str | None, detail: str) -> None:
        """Note a mistake in a row.

        Raises:
            MalformedRequestError: where there are more than `REJECTS_MAX` of them.
        """
        self._rejected += 1
        if self._rejected > REJECTS_MAX:
            raise MalformedRequestError(f"The file has more than {REJECTS_MAX} mistakes; it is given up.")
        cells = (str(line), NULL if field is None else escaped(field), escaped(detail))
        self._reject_lines.append("\t".join(cells).replace("\x00", "\ufffd"))

    def flush(self) -> None:
        """Send what was added."""
        for table, lines in ((_ROWS, self._row_lines), (_REJECTS, self._reject_lines)):
            if lines:
                lines.append("")
                source = BytesIO("\n".join(lines).encode(errors="replace"))
                copy_in(self.session.connection(), f"COPY {table} FROM STDIN WITH (ENCODING 'UTF8')", source)
                lines.clear()

    # -- rejects out ----------------------------------------------------------------------------------------------

    def rejected_rows(self) -> int:
        """How many rows have been rejected."""
        return self.session.scalar(select(func.count(distinct(self.rejects.c.line)))) or 0

    def all_rejects(self, named: Callable[[str | None], str | None]) -> Iterator[Reject]:
        """Every reject by line; `named` tells what the file calls a field."""
        columns = self.rejects.c
        query = select(columns.line, columns.field, columns.detail).order_by(columns.line, columns.field)
        result = self.session.execute(query, execution_options={"yield_per": _FETCHED})
        with result:
            for line, field, detail in result:
                yield Reject(line, named(field), detail)

    def first_rejects(self, named: Callable[[str | None], str | None], size: int) -> list[Reject]:
        """The first `size` rejects."""
        return [*islice(self.all_rejects(named), size)]


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    return default.arg(None) if default.is_callable else default.arg


def _default_text(column: Column[Any], write: Callable[[Any], str]) -> Callable[[], str]:
    if column.default is None:
        return lambda: NULL
    return lambda: write(_default(column))
