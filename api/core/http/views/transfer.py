"""Rows by the file: export and import."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
from flask import Response, current_app, request

from api.core.errors import ForbiddenError, InvalidError
from api.core.http.body import JSON_TYPE
from api.core.http.error_handlers import problem
from api.core.http.query_string import pairs_of
from api.core.http.server.time_limit import allow_time
from api.core.http.steering import Steering
from api.core.http.upload import Upload, format_of, is_packed
from api.core.http.views.base import BaseViews
from api.core.query.params import parse_export
from api.core.query.problems import not_there
from api.core.resource.transfer.export import exported, zipped
from api.core.resource.transfer.formats import Format
from api.core.resource.transfer.importing import import_file
from api.core.resource.transfer.report import ImportOrder, parse_mapping
from api.core.resource.transfer.source import blocks

if TYPE_CHECKING:
    from api.core.resource.transfer.formats import TransferLimits
    from api.core.resource.transfer.importable import Importable

TRANSFER_LIMITS = "transfer_limits"
FORMULAS = ("keep", "escape")


class TransferViews(BaseViews):
    """Send and take whole tables, at constant memory."""

    def export_rows(self) -> Response:
        """Send all rows that match, as a file."""
        allow_time(request.environ, self._limits.timeout_ms / 1000)
        steering = Steering(pairs_of(request), ("format", "formulas"))
        file_format = Format(steering.choice("format", [item.value for item in Format]))
        formulas = steering.choice("formulas", FORMULAS)
        steering.raise_any()
        plan = parse_export(steering.others, self.allow_list, steering.known)
        plan = replace(plan, visibility=plan.visibility.narrowed(self.model, self.grant("export")))
        chunks = exported(
            self.db.engine,
            self.resource.collection,
            plan,
            file_format,
            self._limits,
            escape_formulas=formulas == "escape",
        )
        packed = _gzip_is_wanted()
        response = Response(zipped(chunks) if packed else chunks, mimetype=file_format.media_type)
        response.call_on_close(chunks.close)
        if packed:
            response.content_encoding = "gzip"
        response.vary.add("Accept-Encoding")
        response.headers["Content-Disposition"] = f'attachment; filename="{self.resource.name}.{file_format.value}"'
        return response

    def import_rows(self) -> Response:
        """Take the rows of a file, each checked like the body of a POST."""
        order = self._order()
        needed = ("create", "update") if order.upsert else ("create",)
        if not all(self.grant(permission).everything for permission in needed):
            raise ForbiddenError(
                f"This import takes the permission to {' and '.join(needed)} all {self.resource.name}."
            )
        packed, largest = is_packed(request), self._limits.import_bytes
        content = blocks(Upload(request, largest), packed=packed, largest=largest)
        report = import_file(self.db.transaction, self._importable(), content, order, self._limits)
        facts = {**report.as_dict(), "dry_run": order.dry_run}
        if report.refused:
            detail = f"{report.rejected} of {report.read} rows are rejected, and so nothing was written."
            return problem(InvalidError.status, InvalidError.title, detail, extensions=facts)
        return Response(orjson.dumps(facts), mimetype=JSON_TYPE)

    def _order(self) -> ImportOrder:
        """How to import, as the request says."""
        steering = Steering(pairs_of(request), ("upsert", "map", "atomic", "dry_run"))
        for name, _ in steering.others:
            steering.problems.add(name, not_there("parameter", name, steering.known))
        mapping, upsert = steering.text("map"), steering.text("upsert")
        columns = steering.problems.attempt("map", lambda: parse_mapping(mapping)) if mapping else None
        names = tuple(name.strip() for name in upsert.split(",")) if upsert is not None else ()
        atomic = steering.flag("atomic", default=True)
        dry_run = steering.flag("dry_run", default=False)
        steering.raise_any()
        return ImportOrder(format_of(request), columns or {}, names, atomic, dry_run)

    def _importable(self) -> Importable:
        """What of the resource whoever asks may import."""
        protected = self.rules.protected
        return self.resource.importable.without(protected) if protected else self.resource.importable

    @property
    def _limits(self) -> TransferLimits:
        limits: TransferLimits = current_app.extensions[TRANSFER_LIMITS]
        return limits


def _gzip_is_wanted() -> bool:
    accepted = request.accept_encodings
    return accepted["gzip"] > 0 and accepted["gzip"] >= accepted["identity"]
