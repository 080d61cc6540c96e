"""A row's history, and the way back to what it was."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, request
from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from api.core.access.visibility import UNRESTRICTED, current_visibility
from api.core.database.history import OPERATIONS, History
from api.core.errors import NotFoundError
from api.core.http.fields import Integer
from api.core.http.keys import LARGEST_KEY
from api.core.http.query_string import pairs_of
from api.core.http.responses import kept_parameters, page_response
from api.core.http.schema import BaseSchema, auto_field
from api.core.http.views.base import CURSORS, BaseViews
from api.core.query.params import parse_list
from api.core.query.projection import sql_form
from api.core.query.read import Reader
from api.core.resource.history import (
    HistoryCollection,
    changes_json,
    recorded_values,
    scope,
    visible,
    visible_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

    from api.core.query.allowlist import AllowList, Limits

_LARGEST_VERSION = 2**31 - 1


class Changes(fields.Field[Any]):
    """What differs between the row before and after a change, under the names of the resource's schema."""

    def __init__(self, schema: type[BaseSchema], model: type, hidden: frozenset[str], **kwargs: Any) -> None:
        super().__init__(attribute="states", dump_only=True, **kwargs)
        self.hidden = hidden
        self.resource_schema = schema
        self.model = model


@sql_form.register(Changes)
def _changes_sql(field: Changes, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return changes_json(column, field.resource_schema(), field.model, field.hidden)


class HistorySchema(BaseSchema):
    """One change of a row."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = History

    id = auto_field(dump_only=True)
    at = auto_field(dump_only=True, metadata={"description": "When the transaction of the change began."})
    operation = auto_field(dump_only=True, validate=validate.OneOf(OPERATIONS))
    version = auto_field(dump_only=True, metadata={"description": "The row's version after the change."})
    actor = auto_field(dump_only=True, metadata={"description": "Who made it, where that is known."})
    request_id = auto_field(dump_only=True, metadata={"description": "The `X-Request-ID` of the request that made it."})


@cache
def history_schema(schema: type[BaseSchema], model: type, hidden: frozenset[str] = frozenset()) -> type[BaseSchema]:
    """The schema of an entry in the history of `model`'s rows, which `schema` shows but for the fields in `hidden`."""
    changes = Changes(
        schema, model, hidden, metadata={"description": "The public fields that differ, with their old and new values."}
    )
    name = f"{schema.component_name('response')}HistorySchema"
    return type(name, (HistorySchema,), {"changes": changes, "__doc__": HistorySchema.__doc__})


class RevertSchema(Schema):
    """The state to go back to: that of a version, or that behind an entry of the history. Give one of the two."""

    class Meta:
        """Of all bodies."""

        unknown = RAISE

    version = Integer(validate=validate.Range(min=1, max=_LARGEST_VERSION), metadata={"example": 1})
    entry = Integer(validate=validate.Range(min=1, max=LARGEST_KEY))

    @validates_schema
    def _one_of_both(self, data: Mapping[str, Any], **_: Any) -> None:
        if len(data) != 1:
            message = "Give either version or entry."
            raise ValidationError(message)


@cache
def _reader(schema: type[BaseSchema], model: type, hidden: frozenset[str]) -> Reader:
    return Reader(HistoryCollection("history", History, history_schema(schema, model, hidden), default_sort="-id"))


@cache
def _allowed(limits: Limits) -> AllowList:
    return HistoryCollection("history", History, HistorySchema, default_sort="-id").allow_list(limits)


def history_allow_list(allowed: AllowList) -> AllowList:
    """What may be asked of the history in a resource of which `allowed` may be asked."""
    entries = _allowed(allowed.limits)
    return dataclasses.replace(entries, fields=entries.fields | {"changes"}, deletable=allowed.deletable)


class HistoryViews(BaseViews):
    """What became of a row, and a way back."""

    def history(self, key: Any) -> Response:
        """List the changes of one, the newest first."""
        pairs, cursors = pairs_of(request), current_app.extensions[CURSORS]
        allowed = history_allow_list(self.allow_list)
        # A cursor belongs to the history of one row.
        allowed = dataclasses.replace(allowed, resource=f"{self.resource.name}/{key}/history")
        plan = parse_list(pairs, allowed, cursors)
        # Whether the entries may be seen is told by their row, not by the table that they are all in.
        scoped = dataclasses.replace(
            plan, where=(*scope(self.model, key), *plan.where), deleted="exclude", visibility=UNRESTRICTED
        )
        entries = _reader(self.schema, self.model, current_visibility().hidden_of(self.model))  # type: ignore[arg-type]  # a class is hashable
        seen = plan.visibility.rows_of(self.model) & self.grant("history")
        condition = visible(self.model, plan.deleted, seen)  # type: ignore[arg-type]  # as above
        with self.db.read_connection() as connection:
            rows = entries.page_if(connection, scoped, condition, visible_values(self.model, key))
        if rows is None:
            raise NotFoundError(self.absent(key))
        return page_response(rows, plan, kept_parameters(pairs), cursors, allowed.limits)

    def revert(self, data: Mapping[str, Any], key: Any) -> Response:
        """Set the writable fields of one back to what they were."""
        plan = self.written_plan()
        with self.writing() as service:
            row = self.locked(service, key, "update")
            recorded = recorded_values(service.session, self.model, self.schema(), key, **data)
            service.update(row, self._writable(recorded))
            return self.written(service.session, plan, key, 200)

    def _writable(self, recorded: Mapping[str, Any]) -> Any:
        """`recorded` as a PATCH would have it; what whoever asks may not set stays as it is, and so does the owner.

        Raises:
            InvalidError: where a rule has become stricter than what was.
        """
        fields = self.rules.schema("patch").load_fields
        names = {field.data_key or name for name, field in fields.items()} - self.rules.protected
        loaded = self.rules.load("patch", {name: value for name, value in recorded.items() if name in names})
        return self.rules.settable(loaded, given={})
