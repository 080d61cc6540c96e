"""Schemas of bulk writes: a list of items, each of which is judged on its own, and the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import RAISE, Schema, ValidationError, validate
from marshmallow import fields as ma_fields

from api.core.http import fields
from api.core.http.schema import ViolationSchema
from api.core.resource.attributes import mapper_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_KEY = 2**63 - 1
LARGEST_VERSION = 2**31 - 1


class JudgedItem(ma_fields.Field[Any]):
    """A JSON object; whether it suits `schema` is judged later, item by item."""

    def __init__(self, schema: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = schema

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise ValidationError("Must be a JSON object.")
        return value


class VersionedItem(Schema):
    """What names a row in a list: its key and, where it is to be checked, its version."""

    class Meta:
        """Nothing else."""

        unknown = RAISE

    version = fields.Integer(validate=validate.Range(min=1, max=LARGEST_VERSION))

    def __init__(self, model: type[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        is_uuid = mapper_of(model).primary_key[0].type.python_type.__name__ == "UUID"
        in_range = validate.Range(min=1, max=LARGEST_KEY)
        key: Any = ma_fields.UUID(required=True) if is_uuid else fields.Integer(required=True, validate=in_range)
        self.declared_fields["id"] = key
        self._init_fields()


def list_schema(name: str, item: Any) -> Schema:
    """`{"items": [...]}`, at least one; `item` is what each should be."""
    judged = JudgedItem(item)
    made = Schema.from_dict(
        {"items": ma_fields.List(judged, required=True, validate=validate.Length(min=1))}, name=f"{name}Schema"
    )
    return made(unknown=RAISE)


class VerdictSchema(Schema):
    """What became of one item."""

    index = ma_fields.Integer(required=True, metadata={"description": "Place in the list, from 0."})
    status = ma_fields.Integer(required=True, metadata={"description": "As of a request of its own.", "example": 201})
    id = ma_fields.Raw(metadata={"description": "Key of the row."})
    version = ma_fields.Integer(metadata={"description": "Version of the row afterwards."})
    detail = ma_fields.String(metadata={"description": "Why it failed."})
    errors = ma_fields.List(ma_fields.Nested(ViolationSchema))


class BulkResultSchema(Schema):
    """What became of a list."""

    atomic = ma_fields.Boolean(required=True)
    dry_run = ma_fields.Boolean(required=True)
    succeeded = ma_fields.Integer(required=True)
    failed = ma_fields.Integer(required=True)
    items = ma_fields.List(ma_fields.Nested(VerdictSchema), required=True)


class AffectedSchema(Schema):
    """How many rows a write by filter has met."""

    affected = ma_fields.Integer(required=True)
    dry_run = ma_fields.Boolean(required=True)
