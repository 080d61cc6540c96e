"""What the views of a resource are made of."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Response, request

from api.core.access.caller import current_caller
from api.core.access.visibility import current_visibility
from api.core.database.session import STRICT_LOADING
from api.core.database.showing import Shown
from api.core.database.within import connection_of
from api.core.errors import (
    ForbiddenError,
    MalformedRequestError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    Violation,
)
from api.core.http import conditional
from api.core.http.query_string import pairs_of, parsed_pairs
from api.core.http.request import current_application, current_request
from api.core.http.responses import kept_parameters, row_response
from api.core.http.schema import references_of
from api.core.query.cost import is_limited
from api.core.query.params import parse_list, parse_view
from api.core.query.read import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

    from api.core.access.grants import Grant
    from api.core.access.visibility import Visibility
    from api.core.http.blueprint import ResourceBlueprint
    from api.core.query.allowlist import AllowList, Limits
    from api.core.query.cursor import CursorCodec
    from api.core.query.plan import QueryPlan
    from api.core.resource.service import Service

CURSORS = "cursor_codec"
ALLOW_LISTS = "allow_lists"
PLANS_KEPT = 1024
"""How many plans of single rows, and of lists, are kept: most requests ask for the same."""
_KEPT_LENGTH_MAX = 512
"""Bytes of a query string whose plan is kept; longer ones are seldom sent again."""
ALLOW_LISTS_KEPT = 64
"""How many kinds of callers an allow-list is kept for."""


class ViewPlans(NamedTuple):
    """The plan of a single row, and the same without versions that the reader is told."""

    whole: QueryPlan
    unless_known: QueryPlan


@lru_cache(PLANS_KEPT)
def _view_plans(query_string: bytes, allowed: AllowList, _user_id: int | None) -> ViewPlans:
    """The plans, which bear who is asking."""
    plan = parse_view(parsed_pairs(query_string), allowed)
    return ViewPlans(plan, replace(plan, known=(0,)))


def list_plan(
    query_string: bytes, allowed: AllowList, cursors: CursorCodec, user_id: int | None
) -> tuple[QueryPlan, str]:
    """The plan of a page for whoever asks, and the `kept_parameters` of its neighbours."""
    make = _list_plan if len(query_string) <= _KEPT_LENGTH_MAX else _list_plan.__wrapped__
    return make(query_string, allowed, cursors, user_id)


@lru_cache(PLANS_KEPT)
def _list_plan(
    query_string: bytes, allowed: AllowList, cursors: CursorCodec, _user_id: int | None
) -> tuple[QueryPlan, str]:
    pairs = parsed_pairs(query_string)
    return parse_list(pairs, allowed, cursors), kept_parameters(pairs)


class BaseViews:
    """A resource, its database, and the steps that its views have in common."""

    def __init__(self, resource: ResourceBlueprint) -> None:
        self.resource = resource
        self.db = resource.db
        self.model = resource.model
        self.schema = resource.schema
        self.rules = resource.rules
        self._allowed = lru_cache(ALLOW_LISTS_KEPT)(self._allow_list)
        self._references = references_of(self.schema)

    @property
    def allow_list(self) -> AllowList:
        """What the query string of this request may ask of this resource."""
        return self._allowed(self._list_limits, current_visibility(), bool(self.grant("see_deleted")))

    @property
    def _list_limits(self) -> Limits:
        allowed: AllowList = current_application().extensions[ALLOW_LISTS][self.resource.name]
        return allowed.limits

    def grant(self, permission: str) -> Grant:
        """The rows that whoever asks has this permission for."""
        return self.resource.policy.grant(permission, current_caller())

    def view_plans(self) -> ViewPlans:
        """What the query string asks to see of one row."""
        return _view_plans(current_request().query_string, self.allow_list, current_caller().user_id)

    def written_plan(self) -> QueryPlan:
        """What the query string asks to see of a row that is written; being live, it has no `deleted` to ask for."""
        allowed = self._allowed(self._list_limits, current_visibility(), False)
        return _view_plans(current_request().query_string, allowed, current_caller().user_id).whole

    @contextmanager
    def writing(self) -> Iterator[Service[Any]]:
        """`with self.writing() as service:` a service in a transaction, in which nothing is loaded lazily."""
        with self.db.transaction() as session:
            session.info[STRICT_LOADING] = True
            service = self.resource.service_class(
                self.model, session, self._references, owners=self.resource.policy.owners
            )
            service.asks_later = True
            yield service

    def shown(self, plan: QueryPlan) -> Shown | None:
        """What reads a row in the message of its INSERT; None where a read has to be planned before it is sent."""
        return None if is_limited(self.db.engine) else Shown(*self.resource.reader.row_ahead(plan))

    def written(self, session: Session, plan: QueryPlan, key: Any, status: int, shown: Shown | None = None) -> Response:
        """The row as a read would show it, seen from within the transaction that wrote it."""
        session.flush()
        connection = connection_of(session)
        found = None if shown is None else shown.found(connection, key)
        row = self.resource.reader.row(connection, plan, key) if found is None else Row(found.body, found.version)
        if row is None or row.body is None:
            raise NotFoundError(self.absent(key))
        return row_response(row, key, status)

    def locked(self, service: Service[Any], key: Any, permission: str, *, include_deleted: bool = False) -> Any:
        """The row with this key, locked; it has a version that `If-Match` names, where there is that header.

        Raises:
            NotFoundError: where there is none in sight of whoever asks.
            ForbiddenError: where they have not the permission for this row.
        """
        if self.resource.require_if_match and "If-Match" not in request.headers:
            raise PreconditionRequiredError
        versions = conditional.expected_versions(request, key)
        try:
            row = service.locked(key, include_deleted=include_deleted)
            self.check_row(row, permission)
        except NotFoundError as error:
            raise NotFoundError(self.absent(key)) from error
        if versions is not None and getattr(row, "version", None) not in versions:
            raise PreconditionFailedError
        return row

    def check_row(self, row: Any, permission: str) -> None:
        """Raise as `locked` does, for a row that is there."""
        user_id = current_caller().user_id
        if not current_visibility().rows_of(self.model).covers(row, user_id):
            raise NotFoundError
        if not self.grant(permission).covers(row, user_id):
            raise ForbiddenError(f"You may not {permission} this {self.schema.component_name('response').lower()}.")

    def permitted(self, data: Mapping[str, Any], row: Any) -> Mapping[str, Any]:
        """`data` to change `row` with, after a check that whoever asks may set what differs."""
        self.rules.check_change(data, row)
        return data

    def absent(self, key: Any) -> str:
        """What to say where there is no row with this key."""
        return f"There is no {self.schema.component_name('response').lower()} {key}."

    def _allow_list(self, limits: Limits, visibility: Visibility, sees_deleted: bool) -> AllowList:  # noqa: FBT001 - a cache's key
        return self.resource.collection.allow_list(limits, visibility, deletable=sees_deleted)

    def refuse_parameters(self) -> None:
        """A view without parameters says so, as the others do of those that they do not know."""
        for name, _ in pairs_of(request):
            raise MalformedRequestError(violations=[Violation("This request takes no parameters.", parameter=name)])
