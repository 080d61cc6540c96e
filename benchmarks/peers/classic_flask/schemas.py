"""What goes in and out, in marshmallow's schemas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

_MONEY = validate.Range(min=Decimal(0))
_COUNT_MAX = 2**31 - 1
_AMOUNT = 10_000


class Strict(Schema):
    """What comes in; unknown fields are refused."""

    class Meta:
        """Options."""

        unknown = RAISE


class Stamped(Schema):
    """Ends every row."""

    created_at = fields.DateTime()
    updated_at = fields.DateTime()
    deleted_at = fields.DateTime()
    version = fields.Integer()


class CategorySchema(Stamped):
    """A category."""

    id = fields.Integer()
    name = fields.String()
    description = fields.String()


class TagSchema(Stamped):
    """A tag."""

    id = fields.Integer()
    name = fields.String()


class ProductSchema(Stamped):
    """A product."""

    id = fields.Integer()
    sku = fields.String()
    name = fields.String()
    description = fields.String()
    price = fields.Decimal(as_string=True)
    stock_quantity = fields.Integer()
    category_id = fields.Integer()
    metadata = fields.Dict(attribute="metadata_")


class DetailedProductSchema(ProductSchema):
    """A product with what belongs to it."""

    category = fields.Nested(CategorySchema)
    tags = fields.List(fields.Nested(TagSchema))


class UserSchema(Stamped):
    """A user."""

    id = fields.Integer()
    username = fields.String()
    email = fields.String()
    is_active = fields.Boolean()


class OrderItemSchema(Schema):
    """A line of an order."""

    id = fields.Integer()
    product_id = fields.Integer()
    quantity = fields.Integer()
    unit_price = fields.Decimal(as_string=True)
    product = fields.Nested(ProductSchema)


class OrderSchema(Stamped):
    """An order."""

    id = fields.UUID()
    user_id = fields.Integer()
    status = fields.String()
    total_amount = fields.Decimal(as_string=True)
    metadata = fields.Dict(attribute="metadata_")


class DetailedOrderSchema(OrderSchema):
    """An order with its user and items."""

    user = fields.Nested(UserSchema)
    items = fields.List(fields.Nested(OrderItemSchema))


class FilterSchema(Strict):
    """What a list can be asked for."""

    category_id = fields.Integer(required=True)
    price__gte = fields.Decimal(places=2, load_default=Decimal(0), validate=_MONEY)
    sort = fields.String(load_default="price", validate=validate.OneOf(["price"]))


class KeysetSchema(FilterSchema):
    """A page by cursor."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    cursor = fields.String()


class NumberedSchema(FilterSchema):
    """A page by number."""

    page = fields.Integer(load_default=1, validate=validate.Range(min=1))
    per_page = fields.Integer(load_default=20, validate=validate.Range(1, 100))


class SearchSchema(Strict):
    """A page of what has the words."""

    q = fields.String(required=True, validate=validate.Length(1, 200))
    page = fields.Integer(load_default=1, validate=validate.Range(min=1))


class NewProductSchema(Strict):
    """A new product."""

    sku = fields.String(required=True, validate=validate.Length(1, 64))
    name = fields.String(required=True, validate=validate.Length(1, 200))
    description = fields.String(allow_none=True, validate=validate.Length(max=_AMOUNT))
    price = fields.Decimal(places=2, required=True, validate=_MONEY)
    stock_quantity = fields.Integer(strict=True, load_default=0, validate=validate.Range(0, _COUNT_MAX))
    category_id = fields.Integer(strict=True, required=True)
    metadata_ = fields.Dict(data_key="metadata", load_default=dict[str, Any])


class NewOrderItemSchema(Strict):
    """A line of a new order."""

    product_id = fields.Integer(strict=True, required=True)
    quantity = fields.Integer(strict=True, required=True, validate=validate.Range(1, _COUNT_MAX))


class NewOrderSchema(Strict):
    """A new order."""

    user_id = fields.Integer(strict=True, required=True)
    items = fields.List(fields.Nested(NewOrderItemSchema), required=True, validate=validate.Length(1, 100))
    metadata = fields.Dict(load_default=dict[str, Any])
