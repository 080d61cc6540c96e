"""Rows by the file: export and import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, current_app, request

from api.core.http.query_string import pairs_of
from api.core.http.steering import Steering
from api.core.http.views.base import BaseViews
from api.core.query.params import parse_export
from api.core.resource.transfer.export import exported, zipped
from api.core.resource.transfer.formats import Format

if TYPE_CHECKING:
    from api.core.resource.transfer.formats import TransferLimits

TRANSFER_LIMITS = "transfer_limits"
FORMULAS = ("keep", "escape")


class TransferViews(BaseViews):
    """Send and take whole tables, at constant memory."""

    def export_rows(self) -> Response:
        """Send all rows that match, as a file."""
        steering = Steering(pairs_of(request), ("format", "formulas"))
        file_format = Format(steering.choice("format", [item.value for item in Format]))
        formulas = steering.choice("formulas", FORMULAS)
        steering.raise_any()
        plan = parse_export(steering.others, self.allow_list, steering.known)
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
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @property
    def _limits(self) -> TransferLimits:
        limits: TransferLimits = current_app.extensions[TRANSFER_LIMITS]
        return limits


def _gzip_is_wanted() -> bool:
    accepted = request.accept_encodings
    return accepted["gzip"] > 0 and accepted["gzip"] >= accepted["identity"]
