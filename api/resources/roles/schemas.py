"""What the API shows and accepts of roles."""

from api.core.http.schema import BaseSchema, auto_field
from api.resources.roles.models import Role


class RoleSchema(BaseSchema):
    """A role."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = Role

    id = auto_field(dump_only=True)
    name = auto_field(metadata={"example": "manager"})
    description = auto_field()
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
