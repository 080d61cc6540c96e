"""Rows one by one: list, get, create, replace, patch, delete and restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, url_for

from api.core.access.caller import current_caller
from api.core.errors import NotFoundError
from api.core.http import conditional
from api.core.http.json_patch import JSONPatch
from api.core.http.replacement import completed
from api.core.http.request import current_application, current_request
from api.core.http.responses import no_content, not_modified, page_response, row_response
from api.core.http.views.base import CURSORS, BaseViews, list_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api.core.resource.service import Service


class RowViews(BaseViews):
    """Read and write single rows, and list them."""

    def list(self) -> Response:
        """List, filter, sort and page."""
        allowed, cursors = self.allow_list, current_application().extensions[CURSORS]
        plan, kept = list_plan(current_request().query_string, allowed, cursors, current_caller().user_id)
        with self.db.reading() as connection:
            rows = self.resource.reader.page(connection, plan)
        return page_response(rows, plan, kept, cursors, allowed.limits)

    def get(self, key: Any) -> Response:
        """Fetch one."""
        plan, unless_known = self.view_plans()
        # The ETag speaks of the row alone; an embedded row may have changed without it.
        known = frozenset() if plan.include else conditional.known_versions(current_request(), key)
        if known:
            plan = unless_known
        with self.db.reading() as connection:
            row = self.resource.reader.row(connection, plan, key, known or ())
        if row is None:
            raise NotFoundError(self.absent(key))
        if row.version is not None and (row.body is None or known is None):
            return not_modified(key, row.version)
        return row_response(row, key)

    def create(self, data: Mapping[str, Any]) -> Response:
        """Create one."""
        plan = self.written_plan()
        with self.writing() as service:
            shown = service.repository.shown = self.shown(plan)
            row = service.create(self.rules.new(data))
            response = self.written(service.session, plan, row.id, 201, shown)
            # Below the collection's own address: the view of a row may be left out.
            response.headers["Location"] = f"{self._address()}/{row.id}"
            return response

    def _address(self) -> str:
        """The collection's own."""
        view, asked = f"{self.resource.name}.create", current_request()
        return f"{asked.root_path}{asked.path}" if asked.endpoint == view else url_for(view)

    def replace(self, data: Mapping[str, Any], key: Any) -> Response:
        """Replace one: what is not given gets its default."""
        complete = self.rules.settable(completed(data, self.schema(variant="replace"), self.model), given=data)
        return self._change(key, complete, lambda service, row: service.update(row, self.permitted(complete, row)))

    def patch(self, data: Mapping[str, Any] | JSONPatch, key: Any) -> Response:
        """Change the given fields of one: JSON is merged (RFC 7396), or edited by a JSON Patch (RFC 6902)."""
        if isinstance(data, JSONPatch):
            schema = self.rules.schema("patch")
            return self._change(
                key, {}, lambda service, row: service.update(row, self.permitted(data.changes(schema, row), row))
            )
        return self._change(key, data, lambda service, row: service.merge(row, self.permitted(data, row)))

    def delete(self, key: Any) -> Response:
        """Delete one; where the resource can be restored, softly."""
        self.refuse_parameters()
        with self.writing() as service:
            service.delete(self.locked(service, key, "delete"))
        return no_content()

    def restore(self, key: Any) -> Response:
        """Bring a deleted one back."""
        plan = self.written_plan()
        with self.writing() as service:
            service.restore(self.locked(service, key, "restore", include_deleted=True))
            return self.written(service.session, plan, key, 200)

    def _change(self, key: Any, data: Mapping[str, Any], change: Callable[[Service[Any], Any], Any]) -> Response:
        plan = self.written_plan()
        with self.writing() as service:
            service.lock_references(data)
            change(service, self.locked(service, key, "update"))
            return self.written(service.session, plan, key, 200)
