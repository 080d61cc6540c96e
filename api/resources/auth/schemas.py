"""What is sent to log in, and what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import Schema, ValidationError, validate, validates_schema
from marshmallow import fields as ma_fields

from api.core.access.passwords import LENGTH_MAX, LENGTH_MIN
from api.core.http import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

_PASSWORD = "correct horse battery"  # noqa: S105 - an example
_REFRESH_TOKEN = "2n4Gm8V0m5p3yQwq1dQ0Xl1b7WbQmJ0w3cK2r5t6u7v"  # noqa: S105 - an example


def _username(*, required: bool = True) -> fields.String:
    return fields.String(required=required, validate=validate.Length(3, 80), metadata={"example": "ada"})


def _email(*, required: bool = True) -> fields.String:
    rules = [validate.Email(), validate.Length(max=120)]
    return fields.String(required=required, validate=rules, metadata={"example": "ada@example.com"})


def _new_password() -> fields.String:
    return fields.String(
        required=True,
        load_only=True,
        validate=validate.Length(LENGTH_MIN, LENGTH_MAX),
        metadata={"example": _PASSWORD, "format": "password"},
    )


def _password() -> fields.String:
    # Also one that today's rules would not take any more.
    return fields.String(
        required=True,
        load_only=True,
        validate=validate.Length(1, LENGTH_MAX),
        metadata={"example": _PASSWORD, "format": "password"},
    )


class AccountCreateSchema(Schema):
    """A new account."""

    username = _username()
    email = _email()
    password = _new_password()


class SessionCreateSchema(Schema):
    """A user's name, or e-mail address, and password."""

    username = fields.String(validate=validate.Length(1, 120), metadata={"example": "ada"})
    email = fields.String(
        validate=validate.Length(1, 120), metadata={"description": "In the place of `username`.", "example": "a@b.eu"}
    )
    password = _password()

    @validates_schema
    def _one_name(self, data: Mapping[str, Any], **_: Any) -> None:
        if len({"username", "email"} & data.keys()) != 1:
            raise ValidationError("Send either username or email.", "username")


class RefreshSchema(Schema):
    """The newest refresh token of a session."""

    refresh_token = fields.String(
        required=True, load_only=True, validate=validate.Length(1, 200), metadata={"example": _REFRESH_TOKEN}
    )


class PasswordReplaceSchema(Schema):
    """The current password, and the one to come."""

    current_password = _password()
    new_password = _new_password()


class NamesUpdateSchema(Schema):
    """The names to come, and the password once more, because they are what one logs in with."""

    username = _username(required=False)
    email = _email(required=False)
    current_password = _password()

    @validates_schema
    def _any_name(self, data: Mapping[str, Any], **_: Any) -> None:
        if not {"username", "email"} & data.keys():
            raise ValidationError("Send username, email or both.", "username")


class DeactivationCreateSchema(Schema):
    """The password once more, because this cannot be undone by oneself."""

    password = _password()


class TokensSchema(Schema):
    """What one is known by from now on."""

    access_token = ma_fields.String(required=True, metadata={"description": "To be sent as Authorization: Bearer …"})
    token_type = ma_fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = ma_fields.Integer(required=True, metadata={"description": "Seconds.", "example": 900})
    refresh_token = ma_fields.String(
        required=True, metadata={"description": "To be used once, for the next tokens.", "example": _REFRESH_TOKEN}
    )


class AccountSchema(Schema):
    """One's own account."""

    id = ma_fields.Integer(required=True, metadata={"example": 17})
    username = ma_fields.String(required=True, metadata={"example": "ada"})
    email = ma_fields.String(required=True, metadata={"example": "ada@example.com"})
    created_at = fields.Timestamp(required=True)


class MeSchema(AccountSchema):
    """One's own account, and what one may do."""

    roles = ma_fields.List(ma_fields.String(), required=True, metadata={"example": ["manager"]})
    scopes = ma_fields.List(
        ma_fields.String(),
        required=True,
        allow_none=True,
        metadata={"description": "What an API key is limited to; null after a login.", "example": None},
    )


class SessionSchema(Schema):
    """A login and all that has followed from it."""

    id = ma_fields.UUID(required=True)
    created_at = fields.Timestamp(required=True)
    last_used_at = fields.Timestamp(required=True)
    expires_at = fields.Timestamp(required=True)
    user_agent = ma_fields.String(required=True, allow_none=True)
    address = ma_fields.String(required=True, allow_none=True)
    current = ma_fields.Boolean(required=True, metadata={"description": "Whether it is the one that is asking."})


class SessionsSchema(Schema):
    """One's sessions."""

    items = ma_fields.List(ma_fields.Nested(SessionSchema), required=True)


class EndedSchema(Schema):
    """How many sessions have ended."""

    ended = ma_fields.Integer(required=True, metadata={"example": 2})
