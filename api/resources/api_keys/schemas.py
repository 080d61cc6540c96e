"""What the API shows and accepts of API keys."""

from __future__ import annotations

from marshmallow import Schema, validate
from marshmallow import fields as ma_fields

from api.core.http import fields

_SCOPES = ["orders:read", "products:read"]
_SCOPES_MAX = 100


def _name() -> fields.String:
    return fields.String(required=True, validate=validate.Length(1, 80), metadata={"example": "nightly export"})


def _expires_at() -> fields.Timestamp:
    described = {"description": "Until when it holds; null or left out: until it is deleted.", "example": None}
    return fields.Timestamp(allow_none=True, metadata=described)


class APIKeyCreateSchema(Schema):
    """A new key."""

    name = _name()
    scopes = ma_fields.List(
        fields.String(validate=validate.Length(1, 100)),
        required=True,
        validate=validate.Length(1, _SCOPES_MAX),
        metadata={
            "description": "What it may do of what you may: <resource>:read, <resource>:write.",
            "example": _SCOPES,
        },
    )
    expires_at = _expires_at()


class APIKeySchema(Schema):
    """A key, but for what is secret of it."""

    id = ma_fields.UUID(required=True)
    name = _name()
    prefix = ma_fields.String(
        required=True, metadata={"description": "What the key begins with.", "example": "bk_5f2a90c1"}
    )
    scopes = ma_fields.List(ma_fields.String(), required=True, metadata={"example": _SCOPES})
    created_at = fields.Timestamp(required=True)
    expires_at = fields.Timestamp(required=True, allow_none=True)
    last_used_at = fields.Timestamp(
        required=True, allow_none=True, metadata={"description": "To the minute; null where it never was."}
    )


class NewAPIKeySchema(APIKeySchema):
    """A key, shown this one time."""

    key = ma_fields.String(
        required=True,
        metadata={
            "description": "To be sent as Authorization: Bearer …",
            "example": "bk_5f2a90c1_2n4Gm8V0m5p3yQwq1dQ0Xl1b7WbQmJ0w3cK2r5t6u7v",
        },
    )


class APIKeysSchema(Schema):
    """One's keys."""

    items = ma_fields.List(ma_fields.Nested(APIKeySchema), required=True)
