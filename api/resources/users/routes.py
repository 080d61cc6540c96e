"""The API of users."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.users.models import User
from api.resources.users.permissions import POLICY
from api.resources.users.schemas import UserSchema
from api.resources.users.service import UserService

blueprint = ResourceBlueprint(
    "users",
    db,
    User,
    UserSchema,
    permissions=POLICY,
    service=UserService,
    filters=("profile.full_name", "profile.country", "roles.id", "roles.name"),
    sorts=("username", "email", "created_at"),
    includes=("profile", "roles"),
    # Without a password, which would take a tenth of a second each to hash; a user without one cannot log in.
    imports=("username", "email", "is_active"),
    example={"username": "ada", "email": "ada@example.com", "password": "correct horse battery"},
)
