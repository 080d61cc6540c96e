"""What the columns of a file mean: which field each one fills, and how its cells are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from marshmallow import fields

from api.core.errors import MalformedRequestError, Violation
from api.core.json_text import loads
from api.core.query.problems import not_there

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.core.resource.transfer.importable import Importable
    from api.core.resource.transfer.rows import Cells

Row = dict[str, Any]
"""What a row gives, by field or natural key."""


class Columns:
    """The columns of one file."""

    def __init__(self, importable: Importable, mapping: Mapping[str, str]) -> None:
        """`mapping` tells for columns of the file what they are: a field, or nothing.

        Raises:
            MalformedRequestError: when it leads to no field.
        """
        self._importable = importable
        self._mapping = mapping
        self.possible = (*importable.fields, *importable.natural_keys)
        self.ignored: set[str] = set()
        self.given: tuple[str, ...] | None = None
        """What the header of a table names; None where there is no header."""
        self._called: dict[str, str] = {}
        self._relations = {key.relation: key.refers.name for key in importable.natural_keys.values()}
        violations = [
            Violation(not_there("field", name, self.possible), parameter="map")
            for name in mapping.values()
            if name and name not in self.possible
        ]
        if violations:
            raise MalformedRequestError(violations=violations)

    def called(self, field: str | None) -> str | None:
        """What the file calls `field`."""
        return None if field is None else self._called.get(field, field)

    def target(self, column: str) -> str | None:
        """The field or natural key that a column of the file fills; None for one that is not looked at."""
        name = self._mapping.get(column, column)
        if name in self._importable.ignored or (column in self._mapping and not name):
            self.ignored.add(column)
            return None
        self._called[name] = column
        return name

    # -- CSV ------------------------------------------------------------------------------------------------------

    def table_rows(self, header: Cells, records: Iterator[tuple[int, Cells | str]]) -> Iterator[tuple[int, Row | str]]:
        """The rows of a table with this header.

        Raises:
            MalformedRequestError: for a header with a column that is not known, that is there twice or that is missing.
        """
        targets = [self.target(name or "") for name in header]
        self._check(header, targets)
        self.given = tuple(name for name in targets if name is not None)
        return self._table_rows(targets, records)

    def _table_rows(
        self, targets: list[str | None], records: Iterator[tuple[int, Cells | str]]
    ) -> Iterator[tuple[int, Row | str]]:
        steps = [(name, _reader(self._importable, name)) for name in targets]
        width = len(steps)
        for line, cells in records:
            if isinstance(cells, str):
                yield line, cells
            elif len(cells) != width:
                yield line, f"Has {len(cells)} cells, and the header {width}."
            else:
                yield (
                    line,
                    {
                        name: cell if cell is None or read is None else read(cell)
                        for (name, read), cell in zip(steps, cells, strict=True)
                        if name is not None
                    },
                )

    def _check(self, header: Cells, targets: list[str | None]) -> None:
        given = [name for name in targets if name]
        details = [f"There is no name for column {number}." for number, name in enumerate(header, 1) if not name]
        details += [not_there("field", name, self.possible) for name in given if name not in self.possible]
        details += [f"{name!r} is there twice." for name in sorted({name for name in given if given.count(name) > 1})]
        details += [f"There is no column {name!r} to map." for name in self._mapping if name not in header]
        refers = {key.refers.name: name for name, key in self._importable.natural_keys.items() if name in given}
        details += [
            f"{name!r} and {refers[name]!r} say the same; map one of them to nothing."
            for name in refers
            if name in given
        ]
        missing = [name for name in self._importable.required if name not in given and name not in refers]
        details += [f"There is no column for {name!r}, which every row must have." for name in missing]
        if details:
            raise MalformedRequestError(violations=[Violation(f"In the header: {detail}") for detail in details])

    # -- NDJSON ---------------------------------------------------------------------------------------------------

    def object_rows(self, records: Iterator[tuple[int, dict[str, Any] | str]]) -> Iterator[tuple[int, Row | str]]:
        """The rows of JSON objects."""
        for line, content in records:
            yield line, content if isinstance(content, str) else self._object_row(content)

    def _object_row(self, content: dict[str, Any]) -> Row | str:
        row: Row = {}
        for column, value in content.items():
            for path, inner in self._parts(content, column, value):
                name = self.target(path)
                if name is None:
                    continue
                if name in row:
                    return f"{name!r} is there twice."
                row[name] = inner
        for name, key in self._importable.natural_keys.items():
            if name in row and key.refers.name in row:
                return f"{name!r} and {key.refers.name!r} say the same; leave one out."
        return row

    def _parts(self, content: dict[str, Any], column: str, value: Any) -> Iterator[tuple[str, Any]]:
        """The column, or those of a related row in it, which counts where its key is not there itself."""
        if column not in self._relations or column in self._mapping:
            yield column, value
        elif isinstance(value, dict) and self._relations[column] not in content:
            yield from ((f"{column}.{name}", inner) for name, inner in value.items())


# -- cells to what the fields expect in JSON --------------------------------------------------------------------------


def _reader(importable: Importable, name: str | None) -> Callable[[str], Any] | None:
    """What turns the text of a cell into JSON's type; what cannot be turned stays, for the field to refuse."""
    item = importable.fields.get(name or "")
    if item is None:
        return None
    return next((_READERS[base] for base in type(item.field).__mro__ if base in _READERS), None)


def _integer(text: str) -> Any:
    try:
        return int(text) if text.isascii() and len(text) <= 20 else text  # noqa: PLR2004 - more than a bigint has
    except ValueError:
        return text


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _json(text: str) -> Any:
    try:
        return loads(text.encode())
    except ValueError:
        return text


_READERS: dict[type, Callable[[str], Any] | None] = {
    fields.Integer: _integer,
    fields.Float: _number,
    fields.Boolean: _boolean,
    fields.Raw: _json,
    fields.List: _json,
    fields.Dict: _json,
    fields.Decimal: None,
}
