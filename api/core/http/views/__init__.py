"""The generic views of a resource, and the table of their routes."""

from api.core.http.views.base import ALLOW_LISTS as ALLOW_LISTS
from api.core.http.views.base import CURSORS as CURSORS
from api.core.http.views.row_routes import ROW_ROUTES
from api.core.http.views.rows import RowViews

ROUTES = ROW_ROUTES
"""All generic views, in the order of the OpenAPI document."""


class ResourceViews(RowViews):
    """All generic views over one model and schema. Subclass it to change one.

    A read is one statement on a read connection; a write is one transaction that commits before the response leaves.
    """
