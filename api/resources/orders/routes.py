"""The API of orders."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.orders.permissions import POLICY
from api.resources.orders.schemas import OrderSchema
from api.resources.orders.service import OrderService

blueprint = ResourceBlueprint(
    "orders",
    db,
    Order,
    OrderSchema,
    permissions=POLICY,
    service=OrderService,
    filters=("user.username", "user.email", "items.product_id", "items.quantity"),
    sorts=("created_at", "total_amount", "status", "metadata"),
    includes=("user", "user.profile", "items", "items.product", "items.product.category"),
    default_sort="-created_at",
    example={"user_id": 1, "items": [{"product_id": 1, "quantity": 2}]},
)
