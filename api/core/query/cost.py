"""A limit on what a query may cost, by the planner's estimate, so that it is refused before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.core.errors import MalformedRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

    from api.core.query.read import ReadingConnection

_COST_MAX = "query_cost_max"


def limit_cost(engines: Iterable[Engine], most: int) -> None:
    """Let `check_cost` refuse what costs more than `most` on these engines, in the planner's units; 0 for no limit."""
    for engine in engines:
        engine.update_execution_options(**{_COST_MAX: most})


def is_limited(engine: Engine) -> bool:
    """Whether `check_cost` has anything planned on this engine."""
    return bool(_most(engine))


def check_cost(connection: ReadingConnection, text: str, parameters: dict[str, Any]) -> None:
    """Have the statement planned where there is a limit, which is one more round trip.

    The estimate is PostgreSQL's total cost: to read a page of a table in sequence is 1 (its documentation, 19.7.2).

    Raises:
        MalformedRequestError: when it costs more than it may; tells both, and what makes a query cheaper.
    """
    most = _most(connection)
    if not most:
        return
    explained = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters).scalar_one()
    cost = explained[0]["Plan"]["Total Cost"]
    if cost > most:
        raise MalformedRequestError(
            f"The query's estimated cost is {cost:.0f}, and {most} is the most that is allowed. Filter by fields with "
            "an index, sort by one of them, ask for fewer rows or related rows, or leave out count=exact and q."
        )


def _most(limited: ReadingConnection | Engine) -> Any:
    return limited.get_execution_options().get(_COST_MAX)
