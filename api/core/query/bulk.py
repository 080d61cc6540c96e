"""Query parameters of bulk writes, and the rows that a write by filter means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from api.core.access.visibility import Visibility, current_visibility
from api.core.errors import MalformedRequestError
from api.core.query.compiled import compiled
from api.core.query.conditions import Conditions
from api.core.query.cost import check_cost
from api.core.query.filters import FilterParser
from api.core.query.grammar import GROUP_NAMES
from api.core.query.parameters import Parameters
from api.core.query.params import LIST_PARAMETERS
from api.core.query.plan import QueryPlan
from api.core.query.problems import Problems, not_there
from api.core.query.relations import granted, live, mapper_of
from api.core.query.values import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from api.core.access.grants import Grant
    from api.core.query.allowlist import AllowList
    from api.core.query.collection import Collection
    from api.core.query.plan import Condition

ATOMIC, DRY_RUN, UPSERT, MAX_AFFECTED = "atomic", "dry_run", "upsert", "max_affected"


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """How a list is written; `upsert` names fields of a unique key, or is the name of an index."""

    atomic: bool
    dry_run: bool
    upsert: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that a write by filter means, at most `max_affected` of them."""

    where: tuple[Condition, ...]
    max_affected: int
    dry_run: bool
    visibility: Visibility = field(default_factory=current_visibility, repr=False)


def parse_bulk(pairs: Sequence[tuple[str, str]], allowed: AllowList, known: Sequence[str]) -> BulkOptions:
    """How to write a list, by the parameters `known`.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    problems = Problems()
    query = _Flags(pairs, replace(allowed, deletable=False), problems, known)
    for name, _ in query.filters:
        problems.add(name, not_there("parameter", name, known))
    options = BulkOptions(
        atomic=query.flag(ATOMIC, default=True),
        dry_run=query.flag(DRY_RUN, default=False),
        upsert=tuple(query.names(UPSERT)),
    )
    problems.raise_any()
    return options


def parse_selection(pairs: Sequence[tuple[str, str]], allowed: AllowList) -> Selection:
    """The rows to write, by their filters.

    Raises:
        MalformedRequestError: listing every parameter that is wrong; also where there is no filter.
    """
    problems = Problems()
    steering = (MAX_AFFECTED, DRY_RUN)
    query = _Flags(pairs, replace(allowed, deletable=False), problems, (*steering, *LIST_PARAMETERS))
    for name in LIST_PARAMETERS:
        if query.text(name) is not None:
            problems.add(name, "This parameter is for lists.")
    limits = allowed.limits
    selection = Selection(
        where=FilterParser(allowed, problems, others=[*steering, *sorted(GROUP_NAMES)]).conditions(query.filters),
        max_affected=query.whole_number(MAX_AFFECTED, limits.affected_default, limits.affected_max),
        dry_run=query.flag(DRY_RUN, default=False),
    )
    problems.raise_any()
    if not selection.where:
        raise MalformedRequestError("Say which rows are meant: give at least one filter, such as id__in=1,2.")
    return selection


def selected_keys(connection: Connection, collection: Collection, selection: Selection, grant: Grant) -> list[Any]:
    """Keys of the live rows that are meant, in their order, and locked; one more than may be, where there are more.

    Only rows that are in sight and that `grant` opens are meant.
    """
    model = collection.model
    key = mapper_of(model).primary_key[0]
    visibility = selection.visibility
    writer = Conditions(model, model, collection.attributes_of, visibility)
    query = (
        select(key)
        .where(
            *live(model, model, visibility),
            *granted(model, grant),
            *(writer.write(condition) for condition in selection.where),
        )
        .order_by(key)
        .limit(bindparam("size"))
        .with_for_update(of=model)
    )
    text = compiled(query)
    values = {**QueryPlan(where=selection.where).binds, "size": selection.max_affected + 1}
    check_cost(connection, text, values)
    return [*connection.exec_driver_sql(text, values).scalars()]


class _Flags(Parameters):
    """Parameters of which some are `true` or `false`."""

    def flag(self, parameter: str, *, default: bool) -> bool:
        """What is given."""
        text = self.text(parameter)
        if text is None:
            return default
        value = self._problems.attempt(parameter, lambda: parse_boolean(text))
        return default if value is None else value
