"""What the API shows and accepts of tags."""

from api.core.http.schema import BaseSchema, auto_field
from api.resources.tags.models import Tag


class TagSchema(BaseSchema):
    """A tag."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = Tag

    id = auto_field(dump_only=True)
    name = auto_field(metadata={"example": "sale"})
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
