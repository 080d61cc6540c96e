"""From the lines of a file to its rows, or to what is wrong with one; a row has the number of its first line.

CSV is RFC 4180. Nothing between two commas is null, and two quotes are an empty text, as PostgreSQL writes them; the
standard library's reader cannot tell these apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from api.core.errors import MalformedRequestError, pointer_to
from api.core.json_text import JSONContentError, JSONSyntaxError, loads
from api.core.resource.transfer.source import LINE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

Cells = list[str | None]

EMPTY_LINES_MAX = 100_000
"""More of them in a file are no oversight: packed, a gigabyte of them is sent in a moment and read for minutes."""

_CELL = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",]*+))(,|\Z)')
_OPEN_CELL = re.compile(rb'"[^"]*+(?:""[^"]*+)*+\Z')
_CLOSED_CELLS = re.compile(rb'(?:(?:"[^"]*+(?:""[^"]*+)*+"|[^",]*+),)*+')
_MISPLACED = "A quote is misplaced: a value with a quote in it goes into quotes, and the quote is doubled."


def csv_rows(lines: Iterator[bytes]) -> Iterator[tuple[int, Cells | str]]:
    """The cells of each row, or a sentence about what is wrong with it. Empty lines are no rows.

    Raises:
        MalformedRequestError: for a quote that is not closed in time, behind which nothing can be told any more, and
            for more than `EMPTY_LINES_MAX` empty lines.
    """
    number = empty = 0
    for line in lines:
        first = number = number + 1
        if line in {b"", b"\r"}:
            empty = _counted(empty)
            continue
        if b'"' not in line:
            yield first, _split(line)
            continue
        record = line
        if line.count(b'"') % 2:
            if not _ends_open(line):
                yield first, _MISPLACED
                continue
            parts = [line, *_continued(lines, len(line), first)]
            number += len(parts) - 1
            record = b"\n".join(parts)
        yield first, _cells(record)


def json_rows(lines: Iterator[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The object on each line, or a sentence about what is wrong with it. Empty lines are no rows.

    Raises:
        MalformedRequestError: for more than `EMPTY_LINES_MAX` empty lines.
    """
    empty = 0
    for number, line in enumerate(lines, start=1):
        if line.isspace() or not line:
            empty = _counted(empty)
        else:
            yield number, _object(line)


def _counted(empty: int) -> int:
    if empty == EMPTY_LINES_MAX:
        raise MalformedRequestError(f"The file has more than {EMPTY_LINES_MAX} empty lines.")
    return empty + 1


def _split(line: bytes) -> Cells | str:
    try:
        return [cell or None for cell in line.decode().removesuffix("\r").split(",")]
    except UnicodeDecodeError as error:
        return _not_utf8(error)


def _cells(record: bytes) -> Cells | str:
    try:
        text = record.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    cells: Cells = []
    position, separator = 0, ","
    while separator:
        found = _CELL.match(text, position)
        if found is None:
            return _MISPLACED
        quoted, bare, separator = found.groups()
        cells.append((bare or None) if quoted is None else quoted.replace('""', '"'))
        position = found.end()
    return cells


def _ends_open(line: bytes) -> bool:
    """Whether the last cell of `line` goes on in the next line."""
    closed = _CLOSED_CELLS.match(line)
    return _OPEN_CELL.match(line, closed.end() if closed else 0) is not None


def _continued(lines: Iterator[bytes], size: int, first: int) -> Iterator[bytes]:
    """The lines up to the one that closes the quote."""
    for line in lines:
        yield line
        size += len(line) + 1
        if line.count(b'"') % 2:
            return
        if size > LINE_MAX:
            break
    raise MalformedRequestError(f"A quote that is opened in line {first} is not closed within {LINE_MAX} bytes.")


def _object(line: bytes) -> dict[str, Any] | str:
    try:
        content = loads(line)
    except JSONSyntaxError as error:
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            return _not_utf8(wrong)
        return f"Not valid JSON: {error} at column {error.column}."
    except JSONContentError as error:
        return f"At {pointer_to(error.path) or 'its beginning'}: {error}"
    return content if isinstance(content, dict) else "Must be a JSON object."


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"Not UTF-8: byte {error.start + 1} of the row is 0x{error.object[error.start]:02x}."
