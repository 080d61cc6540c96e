"""The generic views of a resource, and the table of their routes."""

from api.core.http.views.aggregate import AggregateViews
from api.core.http.views.aggregate_routes import AGGREGATE_ROUTES
from api.core.http.views.base import ALLOW_LISTS as ALLOW_LISTS
from api.core.http.views.base import CURSORS as CURSORS
from api.core.http.views.bulk import BulkViews
from api.core.http.views.bulk_routes import BULK_ROUTES
from api.core.http.views.history import HistoryViews
from api.core.http.views.history_routes import HISTORY_ROUTES
from api.core.http.views.row_routes import ROW_ROUTES
from api.core.http.views.rows import RowViews
from api.core.http.views.transfer import TRANSFER_LIMITS as TRANSFER_LIMITS
from api.core.http.views.transfer import TransferViews
from api.core.http.views.transfer_routes import TRANSFER_ROUTES

ROUTES = ROW_ROUTES + AGGREGATE_ROUTES + BULK_ROUTES + HISTORY_ROUTES + TRANSFER_ROUTES
"""All generic views, in the order of the OpenAPI document."""


class ResourceViews(RowViews, AggregateViews, BulkViews, HistoryViews, TransferViews):
    """All generic views over one model and schema. Subclass it to change one.

    A read is one statement on a read connection; a write is one transaction that commits before the response leaves.
    """
