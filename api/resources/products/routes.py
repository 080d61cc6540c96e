"""The API of products."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.products.models import Product
from api.resources.products.permissions import POLICY
from api.resources.products.schemas import ProductSchema

blueprint = ResourceBlueprint(
    "products",
    db,
    Product,
    ProductSchema,
    permissions=POLICY,
    filters=("category.name", "tags.id", "tags.name"),
    sorts=("name", "sku", "price", "stock_quantity", "created_at", "category.name", "metadata"),
    includes=("category", "tags"),
    example={"sku": "MUG-01", "name": "Blue mug", "price": "12.50", "stock_quantity": 100, "category_id": 1},
)
