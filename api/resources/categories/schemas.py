"""What the API shows and accepts of categories."""

from api.core.http.schema import BaseSchema, auto_field
from api.resources.categories.models import Category


class CategorySchema(BaseSchema):
    """A category."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = Category

    id = auto_field(dump_only=True)
    name = auto_field(metadata={"example": "Books"})
    description = auto_field()
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
