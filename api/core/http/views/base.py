"""What the views of a resource are made of."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, request

from api.core.database.session import STRICT_LOADING
from api.core.errors import MalformedRequestError, NotFoundError, PreconditionRequiredError, Violation
from api.core.http import conditional
from api.core.http.query_string import pairs_of
from api.core.http.responses import row_response
from api.core.http.schema import references_of
from api.core.query.params import parse_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from api.core.http.blueprint import ResourceBlueprint
    from api.core.query.allowlist import AllowList
    from api.core.query.plan import QueryPlan
    from api.core.resource.service import Service

CURSORS = "cursor_codec"
ALLOW_LISTS = "allow_lists"


class BaseViews:
    """A resource, its database, and the steps that its views have in common."""

    def __init__(self, resource: ResourceBlueprint) -> None:
        self.resource = resource
        self.db = resource.db
        self.model = resource.model
        self.schema = resource.schema

    @property
    def allow_list(self) -> AllowList:
        """What the query string of this request may ask of this resource."""
        allowed: AllowList = current_app.extensions[ALLOW_LISTS][self.resource.name]
        if allowed.deletable and not self.resource.deleted_visible():
            return dataclasses.replace(allowed, deletable=False)
        return allowed

    def view_plan(self) -> QueryPlan:
        """What the query string asks to see of one row."""
        return parse_view(pairs_of(request), self.allow_list)

    def written_plan(self) -> QueryPlan:
        """What the query string asks to see of a row that is written; being live, it has no `deleted` to ask for."""
        return parse_view(pairs_of(request), dataclasses.replace(self.allow_list, deletable=False))

    @contextmanager
    def writing(self) -> Iterator[Service[Any]]:
        """`with self.writing() as service:` a service in a transaction, in which nothing is loaded lazily."""
        with self.db.transaction() as session:
            session.info[STRICT_LOADING] = True
            yield self.resource.service_class(self.model, session, references_of(self.schema))

    def written(self, session: Session, plan: QueryPlan, key: Any, status: int) -> Response:
        """The row as a read would show it, seen from within the transaction that wrote it."""
        session.flush()
        row = self.resource.reader.row(session.connection(), plan, key)
        if row is None:
            raise NotFoundError(self.absent(key))
        return row_response(row, key, status)

    def locked(self, service: Service[Any], key: Any, *, include_deleted: bool = False) -> Any:
        """The row with this key, locked; it has a version that `If-Match` names, where there is that header."""
        if self.resource.require_if_match and "If-Match" not in request.headers:
            raise PreconditionRequiredError
        versions = conditional.expected_versions(request, key)
        try:
            return service.locked(key, versions=versions, include_deleted=include_deleted)
        except NotFoundError as error:
            raise NotFoundError(self.absent(key)) from error

    def absent(self, key: Any) -> str:
        """What to say where there is no row with this key."""
        return f"There is no {self.schema.component_name('response').lower()} {key}."

    def refuse_parameters(self) -> None:
        """A view without parameters says so, as the others do of those that they do not know."""
        for name, _ in pairs_of(request):
            raise MalformedRequestError(violations=[Violation("This request takes no parameters.", parameter=name)])
