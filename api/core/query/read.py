"""Runs a plan: one statement on a read connection, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.core.query.plan import Position
from api.core.query.statement import StatementCache

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from api.core.query.collection import Collection
    from api.core.query.plan import QueryPlan


@dataclass(frozen=True, slots=True)
class Row:
    """One row's JSON, and its version where it has one."""

    body: str
    version: int | None


@dataclass(frozen=True, slots=True)
class Rows:
    """A page: `items` is a JSON array; `next` and `previous` are where the neighbouring pages start, None where none is."""

    items: str
    next: Position | None
    previous: Position | None
    more: bool
    total: int | None


class Reader:
    """Reads of one collection."""

    def __init__(self, collection: Collection) -> None:
        self._statements = StatementCache(collection)

    def row(self, connection: Connection, plan: QueryPlan, key: Any) -> Row | None:
        """The row whose primary key is `key`, or None."""
        found = self._execute(connection, plan, {"key": key})
        return None if found is None else Row(found.body, found.version)

    def page(self, connection: Connection, plan: QueryPlan) -> Rows:
        """The page that `plan` asks for."""
        found = self._execute(connection, plan, {})
        page = plan.page
        more = found.fetched > page.size  # type: ignore[union-attr]
        position = page.position  # type: ignore[union-attr]
        ahead = Position(tuple(found.last)) if more else None
        behind = Position(tuple(found.first), backward=True) if position and found.first else None
        if position and position.backward:
            ahead, behind = (
                Position(tuple(found.first)) if found.first else None,
                Position(tuple(found.last), backward=True) if more else None,
            )
        return Rows(found.items, ahead, behind, more, found.total)

    def _execute(self, connection: Connection, plan: QueryPlan, values: dict[str, Any]) -> Any:
        statement = self._statements.statement(plan)
        parameters = statement.parameters({**plan.binds(), **values})
        return connection.exec_driver_sql(statement.text, parameters).one_or_none()
