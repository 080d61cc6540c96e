"""Groups of rows instead of rows: count, sum, average and the like."""

from __future__ import annotations

from flask import Response, request

from api.core.http.query_string import pairs_of
from api.core.http.responses import groups_response
from api.core.http.views.base import BaseViews
from api.core.query.aggregate_params import parse_aggregate


class AggregateViews(BaseViews):
    """Aggregate rows."""

    def aggregate(self) -> Response:
        """Group rows by fields, relations, JSON paths and units of time, and work figures out for each group."""
        plan = parse_aggregate(pairs_of(request), self.allow_list)
        with self.db.reading() as connection:
            groups = self.resource.reader.groups(connection, plan)
        return groups_response(groups)
