"""A read of the row that is inserted next, which is sent behind the INSERT, in the same message.

What it has found is what a read afterwards would find, for as long as nothing else is sent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from api.core.database.reading import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

    from api.core.database.within import SessionConnection

_KEPT = 256
_KEY = "%(key)s"


class Shown:
    """The read: `text`, in which the key of the row is `%(key)s`, and its other parameters."""

    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self.key: Any = None
        """Of the row that it has shown."""
        self._text = text
        self._parameters = parameters
        self._found: Any = None
        self._answered: float | None = None

    def read(
        self, connection: SessionConnection, settings: Iterable[str], *, key: Any = None, sql_key: str | None = None
    ) -> tuple[str, ...]:
        """Send it, for the row with this `key`, or with that of the SQL `sql_key`; returns what the settings hold."""
        names = tuple(settings)
        text = _beside(self._text, sql_key, names)
        description, (row,) = connection.send(text, {**self._parameters, "key": key})
        width = len(names)
        self._found = Result(tuple(column.name for column in description[width:]), [row[width:]]).one()
        self._answered = connection.answered
        return row[:width]

    def found(self, connection: SessionConnection | Connection, key: Any) -> Any:
        """The row with this key by the names of the read's columns; None where it has to be read (again)."""
        if self._answered is None or key != self.key or getattr(connection, "answered", None) != self._answered:
            return None
        return self._found


@lru_cache(_KEPT)
def _beside(text: str, sql_key: str | None, settings: tuple[str, ...]) -> str:
    """The read, behind what the settings hold; all is NULL in it where nothing is found."""
    if sql_key is not None:
        text = text.replace(_KEY, sql_key)
    held = "".join(f"current_setting('{name}'), " for name in settings)
    return f"SELECT {held}shown.* FROM (VALUES (1)) AS one LEFT JOIN ({text}) AS shown ON true"  # noqa: S608 - ours
