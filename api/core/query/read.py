"""Runs a plan: one statement on a read connection, and what came back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from api.core.query.aggregate_statement import AggregateCache
from api.core.query.cost import check_cost
from api.core.query.plan import Position
from api.core.query.statement import COUNTED, StatementCache

if TYPE_CHECKING:
    from collections.abc import Collection as Versions
    from collections.abc import Mapping

    from api.core.query.aggregate_plan import AggregatePlan
    from api.core.query.collection import Collection
    from api.core.query.plan import Page, QueryPlan


class ReadingConnection(Protocol):
    """What a read needs of a connection: SQLAlchemy's in a transaction, or one that is for reads only."""

    @property
    def connection(self) -> Any:
        """The pool's connection."""

    def get_execution_options(self) -> Any:
        """What the engine was made with."""

    def exec_driver_sql(self, text: str, parameters: dict[str, Any], /) -> Any:
        """Send a statement in the driver's form."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row's JSON, which is None where the reader has it already, and its version where it has one."""

    body: str | None
    version: int | None


@dataclass(frozen=True, slots=True)
class Rows:
    """A page.

    `items` is a JSON array; `next` and `previous` are where the neighbouring keyset pages start, None where none is;
    `more` tells whether there are rows behind an offset page; `total` is None unless the plan counts.
    """

    items: str
    next: Position | None
    previous: Position | None
    more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups as a JSON array, and whether there are more of them."""

    items: str
    more: bool


class Reader:
    """Reads of one collection."""

    def __init__(self, collection: Collection) -> None:
        """Write the largest statement at once, so that a mistake in a declaration shows at the start."""
        self._statements = StatementCache(collection)
        self._statements.statement(collection.everything())
        self._aggregates = AggregateCache(collection)

    def row(self, connection: ReadingConnection, plan: QueryPlan, key: Any, known: Versions[int] = ()) -> Row | None:
        """The row whose primary key is `key`, or None; without its JSON where its version is one of `known`."""
        values = {"key": key}
        if known:
            plan = plan if plan.known else replace(plan, known=tuple(known))
            values["known"] = [*known]
        found = self._execute(connection, plan, values)
        return None if found is None else Row(found.body, found.version)

    def row_ahead(self, plan: QueryPlan) -> tuple[str, Mapping[str, Any]]:
        """What `row` sends for a key that is not known yet: the statement, and its parameters but for that."""
        return self._statements.statement(plan).text, plan.binds

    def page(self, connection: ReadingConnection, plan: QueryPlan) -> Rows:
        """The page that `plan` asks for.

        Raises:
            ValueError: for the plan of a single row.
        """
        if plan.page is None:
            message = "the plan has no page"
            raise ValueError(message)
        return _rows(plan.page, self._execute(connection, plan, {}))

    def page_if(
        self, connection: ReadingConnection, plan: QueryPlan, condition: str, values: dict[str, Any]
    ) -> Rows | None:
        """The page that `plan` asks for, or None where the SQL `condition` does not hold; still in one statement.

        `values` are the condition's parameters.
        """
        found = self._execute(connection, plan, values, condition)
        return None if found is None or plan.page is None else _rows(plan.page, found)

    def groups(self, connection: ReadingConnection, plan: AggregatePlan) -> Groups:
        """The groups that `plan` asks for."""
        statement = self._aggregates.statement(plan)
        parameters = plan.binds()
        check_cost(connection, statement.text, parameters)
        found = connection.exec_driver_sql(statement.text, parameters).one()
        return Groups(found.groups, found.more)

    def _execute(
        self, connection: ReadingConnection, plan: QueryPlan, values: dict[str, Any], condition: str | None = None
    ) -> Any:
        statement = self._statements.statement(plan)
        parameters = {**plan.binds, **values}
        if statement.counted is not None:
            parameters[COUNTED] = quoted(connection, statement.counted, parameters)
        text = statement.text
        if condition is not None:
            text = f"SELECT page.* FROM ({text}) AS page WHERE {condition}"  # noqa: S608 - written by our own builders
        check_cost(connection, text, parameters)
        return connection.exec_driver_sql(text, parameters).one_or_none()


def _rows(page: Page, found: Any) -> Rows:
    more = found.fetched > page.size
    following, previous = _neighbours(page, found.first, found.last, more=more)
    return Rows(found.items, following, previous, more, found.total)


def quoted(connection: ReadingConnection, text: str, parameters: Mapping[str, Any]) -> str:
    """`text` with the driver's own literals in it, as it would be sent."""
    with closing(connection.connection.cursor()) as cursor:
        literal: bytes = cursor.mogrify(text, parameters)
    return literal.decode()


def _neighbours(
    page: Page, first: list[str | None] | None, last: list[str | None] | None, *, more: bool
) -> tuple[Position | None, Position | None]:
    """Where the pages behind and before this one start; `first` is the row next to where this one started."""
    if page.offset is not None:
        return None, None
    away = Position(tuple(last), page.backward) if more and last else None
    back = None
    if page.position is not None and page.position.keys:
        # Where this page is empty, all that there is lies on the other side.
        back = Position(tuple(first or ()), not page.backward)
    return (back, away) if page.backward else (away, back)
