"""The generic views of a resource. Subclass `ResourceViews` to change one."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, request, url_for

from api.core.database.session import STRICT_LOADING
from api.core.errors import MalformedRequestError, NotFoundError, Violation
from api.core.http import conditional
from api.core.http.query_string import pairs_of
from api.core.http.replacement import completed
from api.core.http.responses import no_content, not_modified, page_response, row_response
from api.core.http.schema import references_of
from api.core.query.params import parse_list, parse_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

    from api.core.http.blueprint import ResourceBlueprint
    from api.core.query.allowlist import AllowList
    from api.core.query.plan import QueryPlan
    from api.core.resource.service import Service

CURSORS = "cursor_codec"
ALLOW_LISTS = "allow_lists"


class ResourceViews:
    """List, get, create, replace, patch, delete and restore over one model and schema.

    A read is one statement on a read connection; a write is one transaction that commits before the response leaves.
    """

    def __init__(self, resource: ResourceBlueprint) -> None:
        self.resource = resource
        self.db = resource.db
        self.model = resource.model
        self.schema = resource.schema

    # -- the views ------------------------------------------------------------------------------------------------

    def list(self) -> Response:
        """List, filter, sort and page."""
        pairs = pairs_of(request)
        allowed, cursors = self.allow_list, current_app.extensions[CURSORS]
        plan = parse_list(pairs, allowed, cursors)
        with self.db.read_connection() as connection:
            rows = self.resource.reader.page(connection, plan)
        return page_response(rows, plan, pairs, cursors, allowed.limits)

    def get(self, key: Any) -> Response:
        """Fetch one."""
        plan = self.view_plan()
        with self.db.read_connection() as connection:
            row = self.resource.reader.row(connection, plan, key)
        if row is None:
            raise NotFoundError(self._absent(key))
        # The ETag speaks of the row alone; an embedded row may have changed without it.
        if row.version is not None and not plan.include and conditional.is_unchanged(request, row.version):
            return not_modified(row.version)
        return row_response(row)

    def create(self, data: Mapping[str, Any]) -> Response:
        """Create one."""
        plan = self.written_plan()
        with self.writing() as service:
            row = service.create(data)
            response = self.written(service.session, plan, row.id, 201)
            # Below the collection's own address: the view of a row may be left out.
            response.headers["Location"] = f"{url_for(f'{self.resource.name}.create')}/{row.id}"
            return response

    def replace(self, data: Mapping[str, Any], key: Any) -> Response:
        """Replace one: what is not given gets its default."""
        return self._change(key, completed(data, self.schema(variant="replace"), self.model))

    def patch(self, data: Mapping[str, Any], key: Any) -> Response:
        """Change the given fields of one."""
        return self._change(key, data)

    def delete(self, key: Any) -> Response:
        """Delete one; where the resource can be restored, softly."""
        self._refuse_parameters()
        with self.writing() as service:
            service.delete(self._locked(service, key))
        return no_content()

    def restore(self, key: Any) -> Response:
        """Bring a deleted one back."""
        plan = self.written_plan()
        with self.writing() as service:
            service.restore(self._locked(service, key, include_deleted=True))
            return self.written(service.session, plan, key, 200)

    # -- what views are made of -----------------------------------------------------------------------------------

    @property
    def allow_list(self) -> AllowList:
        """What a query string may ask of this resource in the current application."""
        allowed: AllowList = current_app.extensions[ALLOW_LISTS][self.resource.name]
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
            raise NotFoundError(self._absent(key))
        return row_response(row, status)

    def _change(self, key: Any, data: Mapping[str, Any]) -> Response:
        plan = self.written_plan()
        with self.writing() as service:
            service.update(self._locked(service, key), data)
            return self.written(service.session, plan, key, 200)

    def _locked(self, service: Service[Any], key: Any, *, include_deleted: bool = False) -> Any:
        try:
            return service.locked(key, versions=conditional.expected_versions(request), include_deleted=include_deleted)
        except NotFoundError as error:
            raise NotFoundError(self._absent(key)) from error

    def _absent(self, key: Any) -> str:
        return f"There is no {self.schema.component_name('response').lower()} {key}."

    def _refuse_parameters(self) -> None:
        """A view without parameters says so, as the others do of those that they do not know."""
        for name, _ in pairs_of(request):
            raise MalformedRequestError(violations=[Violation("This request takes no parameters.", parameter=name)])
