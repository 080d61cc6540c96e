"""What the API shows and accepts of orders and their items."""

from typing import Any

from marshmallow.validate import Length

from api.core.http.schema import BaseSchema, Embed, Variant, auto_field
from api.resources.orders.models import Order, OrderItem
from api.resources.products.schemas import ProductSchema
from api.resources.users.schemas import UserSchema


class OrderItemSchema(BaseSchema):
    """One line of an order."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = OrderItem

    id = auto_field(dump_only=True)
    product_id = auto_field(metadata={"example": 1})
    quantity = auto_field(metadata={"example": 2})
    unit_price = auto_field(dump_only=True)
    product = Embed(ProductSchema)


class OrderSchema(BaseSchema):
    """An order; the server takes the prices from the products and computes the total."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns; who ordered what is settled when the order is made."""

        model = Order
        create_only = ("user_id", "items")

    def __init__(self, *, variant: Variant = "response", **kwargs: Any) -> None:
        super().__init__(variant=variant, **kwargs)
        if variant == "replace":
            # The default is for new orders; an order that is on its way does not become pending by being left out.
            self.fields["status"].required = True

    id = auto_field(dump_only=True)
    user_id = auto_field(required=False, metadata={"example": 1, "description": "By default whoever orders."})
    status = auto_field()
    total_amount = auto_field(dump_only=True)
    metadata = auto_field("metadata_", metadata={"example": {"channel": "web"}})
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
    user = Embed(UserSchema)
    items = Embed(OrderItemSchema, many=True, writable=True, required=True, validate=Length(min=1, max=100))
