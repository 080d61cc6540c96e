"""What the API shows and accepts of users and their profiles."""

from marshmallow.validate import Length

from api.core.access.passwords import LENGTH_MAX, LENGTH_MIN
from api.core.http import fields
from api.core.http.schema import BaseSchema, Embed, References, auto_field
from api.resources.roles.schemas import RoleSchema
from api.resources.users.models import Profile, User


class ProfileSchema(BaseSchema):
    """What a user tells of themselves."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = Profile

    full_name = auto_field(metadata={"example": "Ada Lovelace"})
    phone = auto_field()
    country = auto_field(metadata={"example": "France"})
    bio = auto_field()


class UserSchema(BaseSchema):
    """A user; the password goes in and never comes out."""

    class Meta(BaseSchema.Meta):
        """Built on the model's columns."""

        model = User

    id = auto_field(dump_only=True)
    username = auto_field(metadata={"example": "ada"})
    email = auto_field(metadata={"example": "ada@example.com"})
    password = fields.String(load_only=True, required=True, validate=Length(LENGTH_MIN, LENGTH_MAX))
    is_active = auto_field()
    created_at = auto_field(dump_only=True)
    updated_at = auto_field(dump_only=True)
    deleted_at = auto_field(dump_only=True)
    version = auto_field(dump_only=True)
    profile = Embed(ProfileSchema, writable=True)
    roles = Embed(RoleSchema, many=True)
    role_ids = References("roles")
