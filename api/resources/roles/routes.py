"""The API of roles."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.roles.models import Role
from api.resources.roles.permissions import POLICY
from api.resources.roles.schemas import RoleSchema

blueprint = ResourceBlueprint(
    "roles", db, Role, RoleSchema, permissions=POLICY, sorts=("name", "created_at"), example={"name": "manager"}
)
