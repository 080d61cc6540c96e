"""Many rows in one request: by list, with a verdict for each item, and by filter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from flask import Response, request
from marshmallow import ValidationError

from api.core.access.visibility import current_visibility
from api.core.errors import (
    ForbiddenError,
    InvalidError,
    MalformedRequestError,
    PreconditionRequiredError,
    Violation,
    pointer_to,
)
from api.core.http.body import JSON_TYPE
from api.core.http.body import violations_of as violations_of_messages
from api.core.http.bulk_schema import VersionedItem
from api.core.http.query_string import pairs_of
from api.core.http.views.base import BaseViews
from api.core.query.bulk import (
    ATOMIC,
    DRY_RUN,
    MAX_AFFECTED,
    UPSERT,
    parse_bulk,
    parse_selection,
    selected_keys,
)
from api.core.query.problems import not_there
from api.core.resource.bulk import Bulk, Item, refuse_failures, violations_of
from api.core.resource.unique import unique_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from api.core.http.schema import Variant
    from api.core.query.bulk import BulkOptions
    from api.core.resource.bulk import Verdict
    from api.core.resource.service import Service
    from api.core.resource.unique import ModelKey

_NAMED_ROWS = 10
"""How many failing rows of a write by filter are named."""


class _Rehearsed(Exception):  # noqa: N818 - no error: it undoes the transaction of a dry run
    """What a dry run would have answered."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class BulkViews(BaseViews):
    """Create, upsert, change and delete many rows at once."""

    def bulk_create(self, data: Mapping[str, Any]) -> Response:
        """Create many, or with `upsert` change those that are there."""
        options = parse_bulk(pairs_of(request), self.allow_list, (ATOMIC, DRY_RUN, UPSERT))
        items = self._items(data, "create")
        if not options.upsert:
            return self._listed(options, lambda bulk: bulk.create(items))
        if not self.resource.has_view("patch"):
            reason = f"{self.resource.name.capitalize()} cannot be changed."
            raise MalformedRequestError(violations=[Violation(reason, parameter=UPSERT)])
        self._check_upsert()
        key = self._unique_key(options.upsert)
        if self.resource.require_if_match:
            raise PreconditionRequiredError("An upsert names no versions, which this resource demands.")
        # A row that is there does not change hands by what is left out.
        kept = [*self._given_once(), *self.rules.left_out(data["items"])]
        return self._listed(options, lambda bulk: bulk.upsert(items, key, kept=kept))

    def bulk_update(self, data: Mapping[str, Any]) -> Response:
        """Change many, each by its id and, where given, in its version."""
        options = parse_bulk(pairs_of(request), self.allow_list, (ATOMIC, DRY_RUN))
        items = self._items(data, "patch")
        return self._listed(options, lambda bulk: bulk.update(items, self._guard("update")))

    def bulk_delete(self, data: Mapping[str, Any]) -> Response:
        """Delete many, each by its id and, where given, in its version."""
        options = parse_bulk(pairs_of(request), self.allow_list, (ATOMIC, DRY_RUN))
        items = self._items(data, None)
        return self._listed(options, lambda bulk: bulk.delete(items, self._guard("delete")))

    def update_where(self, data: Mapping[str, Any]) -> Response:
        """Change all that match."""
        self.rules.check_change(data)
        return self._selected(
            "update", lambda bulk, keys: bulk.update([Item(n, data, key=key) for n, key in enumerate(keys)])
        )

    def delete_where(self) -> Response:
        """Delete all that match."""
        return self._selected(
            "delete", lambda bulk, keys: bulk.delete([Item(n, key=key) for n, key in enumerate(keys)])
        )

    # -- from the request -----------------------------------------------------------------------------------------

    def _items(self, data: Mapping[str, Any], variant: Variant | None) -> list[Item]:
        given, most = data["items"], self.allow_list.limits.bulk_items_max
        if len(given) > most:
            detail = f"At most {most} items at a time; these are {len(given)}."
            raise InvalidError(violations=[Violation(detail, pointer="/items")])
        schema = None if variant is None else self.rules.schema(variant)
        if variant == "create":
            return [self._new(self._loaded(number, item, schema, Item(number))) for number, item in enumerate(given)]
        versioned = VersionedItem(self.model)
        return [self._changed(number, item, schema, versioned) for number, item in enumerate(given)]

    def _changed(self, number: int, given: Mapping[str, Any], schema: Any, versioned: VersionedItem) -> Item:
        """An item that names a row; what it holds besides are the changes."""
        own = {name: given[name] for name in versioned.fields if name in given}
        changes = {name: value for name, value in given.items() if name not in own}
        try:
            row = versioned.load(own)
        except ValidationError as error:
            return _refused(Item(number), violations_of_messages(error.messages, versioned))
        item = Item(number, key=row["id"], version=row.get("version"))
        if item.version is None and self.resource.require_if_match:
            unnamed = Violation("Name the version that is meant.", pointer="/version")
            return Item(number, key=item.key, error=PreconditionRequiredError(violations=[unnamed]))
        return self._loaded(number, changes, schema, item)

    def _loaded(self, number: int, given: Mapping[str, Any], schema: Any, item: Item) -> Item:
        if schema is None:
            unknown = [Violation("Unknown field.", pointer=pointer_to([name])) for name in given]
            return _refused(item, unknown) if unknown else item
        try:
            return Item(number, schema.load(given), key=item.key, version=item.version)
        except ValidationError as error:
            return _refused(item, violations_of_messages(error.messages, schema))

    def _new(self, item: Item) -> Item:
        """An item for a new row, which whoever asks may set like that."""
        try:
            return item if item.error else replace(item, data=self.rules.new(item.data))
        except InvalidError as error:
            return replace(item, error=error)

    def _check_upsert(self) -> None:
        """Refuse an upsert to whoever may not change every row: it would tell whose rows have which keys.

        Raises:
            ForbiddenError: when they may not.
        """
        if not (self.grant("update").everything and current_visibility().rows_of(self.model).everything):
            raise ForbiddenError(f"An upsert takes the permission to update all {self.resource.name}.")

    def _guard(self, permission: str) -> Callable[[Item, Any], None]:
        """A check of the row that an item names: that it may be seen, and be written like that."""

        def guard(item: Item, row: Any) -> None:
            self.check_row(row, permission)
            self.rules.check_change(item.data, row)

        return guard

    def _unique_key(self, names: Sequence[str]) -> ModelKey:
        """The unique key that these names of public fields, or the name of an index over such, mean."""
        fields = self.rules.schema("create").load_fields
        public = {field.attribute or name: name for name, field in fields.items()}
        keys = [key for key in unique_keys(self.model) if public.keys() >= {*key.attributes}]
        known = {", ".join(public[name] for name in key.attributes): key for key in keys}
        for shown, key in known.items():
            if {*shown.split(", ")} == {*names} or (key.name,) == tuple(names):
                return key
        detail = not_there("unique key", ", ".join(names), [*known, *(key.name for key in keys)])
        raise MalformedRequestError(violations=[Violation(detail, parameter=UPSERT)])

    def _given_once(self) -> list[str]:
        fields = self.schema(variant="create").load_fields
        once = getattr(self.schema.Meta, "create_only", ())
        return [fields[name].attribute or name for name in once if name in fields]

    # -- to the answer --------------------------------------------------------------------------------------------

    def _listed(self, options: BulkOptions, work: Callable[[Bulk], Sequence[Verdict]]) -> Response:
        def answer(service: Service[Any]) -> dict[str, Any]:
            verdicts = work(Bulk(service, self._one))
            if options.atomic:
                refuse_failures(verdicts, _in_list)
            failed = sum(verdict.error is not None for verdict in verdicts)
            return {
                "atomic": options.atomic,
                "dry_run": options.dry_run,
                "succeeded": len(verdicts) - failed,
                "failed": failed,
                "items": [_shown(verdict) for verdict in verdicts],
            }

        return self._written(answer, dry_run=options.dry_run)

    def _selected(self, permission: str, work: Callable[[Bulk, Sequence[Any]], Sequence[Verdict]]) -> Response:
        if self.resource.require_if_match:
            raise PreconditionRequiredError("A filter names no versions, which this resource demands; send a list.")
        selection = parse_selection(pairs_of(request), self.allow_list)

        def answer(service: Service[Any]) -> dict[str, Any]:
            keys = selected_keys(
                service.session.connection(), self.resource.collection, selection, self.grant(permission)
            )
            if len(keys) > selection.max_affected:
                detail = f"More than {selection.max_affected} {self.resource.name} match; nothing was written."
                raise InvalidError(violations=[Violation(detail, parameter=MAX_AFFECTED)])
            verdicts = work(Bulk(service, self._one), keys)
            refuse_failures(verdicts, self._of_row)
            return {"affected": len(verdicts), "dry_run": selection.dry_run}

        return self._written(answer, dry_run=selection.dry_run)

    def _written(self, answer: Callable[[Service[Any]], dict[str, Any]], *, dry_run: bool) -> Response:
        """What `answer` gives; a dry run is undone as a whole, with all that was to happen after a commit."""
        try:
            with self.writing() as service:
                content = answer(service)
                service.session.flush()
                if dry_run:
                    _undo(content)
        except _Rehearsed as rehearsed:
            content = rehearsed.answer
        return Response(orjson.dumps(content), mimetype=JSON_TYPE)

    @property
    def _one(self) -> str:
        return self.schema.component_name("response").lower()

    def _of_row(self, verdict: Verdict, violation: Violation) -> Violation:
        return Violation(f"{self._one.capitalize()} {verdict.id}: {violation.detail}", pointer=violation.pointer)


def _undo(answer: dict[str, Any]) -> NoReturn:
    raise _Rehearsed(answer)


def _in_list(verdict: Verdict, violation: Violation) -> Violation:
    return Violation(violation.detail, pointer=f"/items/{verdict.index}{violation.pointer or ''}")


def _shown(verdict: Verdict) -> dict[str, Any]:
    shown: dict[str, Any] = {"index": verdict.index, "status": verdict.status}
    if verdict.id is not None:
        shown["id"] = verdict.id
    if verdict.version is not None:
        shown["version"] = verdict.version
    if verdict.error is not None:
        shown["detail"] = verdict.error.detail
        shown["errors"] = [_in_list(verdict, found).as_dict() for found in violations_of(verdict)]
    return shown


def _refused(item: Item, violations: Sequence[Violation]) -> Item:
    return Item(item.index, key=item.key, error=InvalidError(violations=violations))
