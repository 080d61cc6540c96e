"""All rows that a plan asks for, written by PostgreSQL as a file."""

from __future__ import annotations

import zlib
from contextlib import closing
from typing import TYPE_CHECKING

from api.core.database.copying import CopyOut
from api.core.database.session import translated_failures
from api.core.query.file_rows import DATE_STYLE
from api.core.query.read import quoted
from api.core.query.statement import export_statement
from api.core.resource.transfer.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from api.core.query.collection import Collection
    from api.core.query.plan import QueryPlan
    from api.core.query.statement import ExportForm
    from api.core.resource.transfer.formats import TransferLimits

# JSON text has no control characters in it, so with these nothing is ever quoted: a row is a line as it is.
_AS_LINES = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', ENCODING 'UTF8'"
_AS_CSV = "FORMAT csv, HEADER true, ENCODING 'UTF8'"
_BEGIN = (
    "SELECT set_config('statement_timeout', %(timeout)s, true), set_config('transaction_read_only', 'on', true), "
    f"set_config('DateStyle', '{DATE_STYLE}', true)"
)
_GZIP = zlib.MAX_WBITS | 16
GZIP_LEVEL = 6


def exported(
    engine: Engine,
    collection: Collection,
    plan: QueryPlan,
    file_format: Format,
    limits: TransferLimits,
    *,
    escape_formulas: bool = False,
) -> CopyOut:
    """The file in chunks, the first of which is there already; close it when done, or to break it off.

    `escape_formulas` puts an apostrophe in front of texts in a CSV file that a spreadsheet would take for formulas.

    Raises:
        APIError: for what the database refused.
    """
    texts: ExportForm = "escaped texts" if escape_formulas else "texts"
    statement = export_statement(collection, plan, texts if file_format is Format.CSV else "json")
    options = _AS_CSV if file_format is Format.CSV else _AS_LINES
    with translated_failures():
        connection = engine.connect()
        try:
            connection.exec_driver_sql(_BEGIN, {"timeout": str(limits.timeout_ms)})
            query = quoted(connection, statement.text, plan.binds)
            return CopyOut(connection, f"COPY ({query}) TO STDOUT WITH ({options})", silence=limits.silence)
        except BaseException:
            connection.close()
            raise


def zipped(chunks: CopyOut) -> Iterator[bytes]:
    """`chunks` as gzip; closing this closes them."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=_GZIP)
    with closing(chunks):
        for chunk in chunks:
            if packed := packer.compress(chunk):
                yield packed
        yield packer.flush()
