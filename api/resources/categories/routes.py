"""The API of categories."""

from api.core.http.blueprint import ResourceBlueprint
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.categories.permissions import POLICY
from api.resources.categories.schemas import CategorySchema

blueprint = ResourceBlueprint(
    "categories",
    db,
    Category,
    CategorySchema,
    permissions=POLICY,
    sorts=("name", "created_at"),
    example={"name": "Books"},
)
