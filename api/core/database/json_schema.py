"""JSON Schema as a column validator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError
from marshmallow.exceptions import SCHEMA
from marshmallow.validate import Validator

from api.core.database.documents import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema.exceptions import ValidationError as Violation

_ERRORS_MAX = 20
_TEXT_MAX = 200


class JSONSchema(Validator):
    """The document has to follow a JSON Schema (draft 2020-12).

        metadata_ = column("metadata", JSONDocument, validators=[JSONSchema({"required": ["colour"]})])

    Raises:
        jsonschema.SchemaError: at once, for a schema that is wrong in itself.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # Few services have one, and it takes 30 ms of each start.
        from jsonschema import Draft202012Validator, FormatChecker  # noqa: PLC0415

        Draft202012Validator.check_schema(schema)
        self.schema = dict(schema)
        self._validator = Draft202012Validator(self.schema, format_checker=FormatChecker())

    def _repr_args(self) -> str:
        return f"schema={self.schema!r}"

    def __call__(self, value: Any) -> Any:
        """Check `value`.

        Raises:
            ValidationError: with the messages nested as the document is.
        """
        messages: dict[str, Any] = {}
        # The type checks of jsonschema know dictionaries and lists, of which a document's parts are subclasses.
        for number, error in enumerate(self._validator.iter_errors(plain(value))):
            if number == _ERRORS_MAX:
                break
            _nest(messages, error)
        if messages:
            raise ValidationError(messages)
        return value


def _nest(messages: dict[str, Any], error: Violation) -> None:
    place: dict[Any, Any] = messages
    for key in error.absolute_path:
        place = place.setdefault(key, {})
    place.setdefault(SCHEMA, []).append(_shortened(error.message))


def _shortened(text: str) -> str:
    """Jsonschema quotes the value, which may be long."""
    text = text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"
    return f"{text[:1].upper()}{text[1:]}."
