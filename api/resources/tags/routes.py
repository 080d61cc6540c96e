"""The API of tags."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.tags.models import Tag
from api.resources.tags.permissions import POLICY
from api.resources.tags.schemas import TagSchema

blueprint = ResourceBlueprint(
    "tags", db, Tag, TagSchema, permissions=POLICY, sorts=("name", "created_at"), example={"name": "sale"}
)
