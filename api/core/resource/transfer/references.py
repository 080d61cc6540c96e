"""Natural keys of a file (`category.name`) to the keys of the rows that they name, looked up by the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Text, bindparam, func, select

from api.core.query.relations import in_sight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from api.core.resource.transfer.importable import NaturalKey

KEPT = 20_000
"""How many keys are remembered."""


class References:
    """Looks up the rows that one natural key names, and remembers them."""

    def __init__(self, natural: NaturalKey) -> None:
        self.natural = natural
        self._found: dict[str, Any] = {}
        self._statement = _lookup(natural)

    def look_up(self, session: Session, values: Iterable[Any]) -> None:
        """Find what these values name."""
        texts = {value for value in values if isinstance(value, str) and "\x00" not in value}
        unknown = [text for text in texts if text not in self._found]
        if len(self._found) + len(unknown) > KEPT:
            self._found.clear()
            unknown = [*texts]
        if unknown:
            found = {text: key for text, key in session.execute(self._statement, {"texts": unknown})}  # noqa: C416
            self._found |= {text: found.get(text) for text in unknown}

    def key(self, value: Any) -> Any:
        """The key of the row that `value` names; None where there is none."""
        return self._found.get(value) if isinstance(value, str) else None

    def problem(self, value: Any) -> str:
        """That there is no such row."""
        relation, _, field = self.natural.name.partition(".")
        if not isinstance(value, str):
            return "Must be a text."
        shown = value if len(value) <= 100 else f"{value[:100]}…"  # noqa: PLR2004 - as much as helps
        return f"There is no {relation} whose {field} is {shown!r}."


def _lookup(natural: NaturalKey) -> Select[Any]:
    """Each of `texts` that names a live row in sight, and that row's key."""
    (column,) = natural.unique.columns
    given = func.unnest(bindparam("texts", type_=ARRAY(Text))).table_valued(column.name).alias("given")
    (wanted,), (compared,) = natural.unique.values_in(given), natural.unique.expressions
    return (
        select(given.c[column.name], natural.key)
        .join(column.table, compared == wanted)
        .where(*natural.live, *in_sight(natural.model))
    )
