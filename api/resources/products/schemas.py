"""What the API shows and accepts of products."""

from api.core.http.schema import BaseSchema, Embed, References, auto_field
from api.resources.categories.schemas import CategorySchema
from api.resources.products.models import Product
from api.resources.tags.schemas import TagSchema


class ProductSchema(BaseSchema):
    """A product."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = Product

    id = auto_field(dump_only=True)
    sku = auto_field(metadata={"example": "MUG-01"})
    name = auto_field(metadata={"example": "Blue mug"})
    description = auto_field()
    price = auto_field(metadata={"example": "12.50"})
    stock_quantity = auto_field(metadata={"example": 100})
    category_id = auto_field(metadata={"example": 1})
    metadata = auto_field("metadata_", metadata={"example": {"colour": "blue"}})
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
    category = Embed(CategorySchema)
    tags = Embed(TagSchema, many=True)
    tag_ids = References("tags")
