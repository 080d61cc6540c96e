"""What is right is loaded in a few calls; of what is not, marshmallow itself says what is wrong.

marshmallow collects all mistakes of a body, and for that calls six functions for each field. Here a field is only asked
for its value, and its validators are; at the first mistake it is left to marshmallow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from marshmallow import RAISE, Schema, ValidationError, missing
from marshmallow.fields import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_FIELDS = ("deserialize", "_validate", "_validate_missing", "_validate_all")
_OF_SCHEMAS = ("_deserialize", "_do_load")
"""Methods that have their like here; a field or a schema with one of its own is marshmallow's."""


class NotRightError(Exception):
    """Marshmallow has to see to it."""


class _Place(NamedTuple):
    """Where a field's value is in what is sent, and in what is loaded."""

    sent: str
    loaded: str
    field: Field[Any]


class Loader:
    """Loads what is sent for one schema, as `Schema.load` does."""

    def __init__(self, schema: Schema) -> None:
        self._many = bool(schema.many)
        self._partial = schema.partial
        self._places = [
            _Place(name if field.data_key is None else field.data_key, field.attribute or name, field)
            for name, field in schema.load_fields.items()
        ]
        self._is_able = _is_plain(schema) and all(map(_is_simple, self._places))

    def load(self, content: Any, partial: Any = None) -> Any:
        """What `content` is loaded as.

        Raises:
            NotRightError: where there is a mistake, or more than this knows of.
        """
        partial = self._partial if partial is None else partial
        if not self._is_able or not (partial is None or isinstance(partial, bool)):
            raise NotRightError
        options = {} if partial is None else {"partial": partial}
        try:
            if not self._many:
                return self._one(content, options)
            if not isinstance(content, list):
                raise NotRightError
            return [self._one(item, options) for item in content]
        except ValidationError as error:
            raise NotRightError from error

    def _one(self, content: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise NotRightError
        loaded: dict[str, Any] = {}
        unseen = len(content)
        for sent, name, field in self._places:
            value = content.get(sent, missing)
            if value is not missing:
                unseen -= 1
                loaded[name] = _value(field, value, sent, content, options)
            elif not options.get("partial"):
                value = _default(field)
                if value is not missing:
                    loaded[name] = value
        if unseen:
            raise NotRightError
        return loaded


def _value(field: Field[Any], value: Any, sent: str, content: Any, options: Mapping[str, Any]) -> Any:
    if value is None:
        if not field.allow_none:
            raise NotRightError
        return None
    value = field._deserialize(value, sent, content, **options)  # noqa: SLF001 - which subclasses have, too
    for check in field.validators:
        check(value)
    return value


def _default(field: Field[Any]) -> Any:
    if field.required:
        raise NotRightError
    default = field.load_default
    return default() if callable(default) else default


def _is_plain(schema: Schema) -> bool:
    """Whether nothing is done before and behind its fields, and what is unknown is refused."""
    is_hooked = any(schema._hooks.values())  # noqa: SLF001 - marshmallow has no public way to them
    return not is_hooked and schema.unknown == RAISE and schema.dict_class is dict and _has_no_own(schema, _OF_SCHEMAS)


def _is_simple(place: _Place) -> bool:
    field = place.field
    # A dot leads into a dictionary.
    return not (field.pre_load or field.post_load or "." in place.loaded) and _has_no_own(field, _OF_FIELDS)


def _has_no_own(thing: Schema | Field[Any], methods: tuple[str, ...]) -> bool:
    base = Schema if isinstance(thing, Schema) else Field
    return all(getattr(type(thing), name) is getattr(base, name) for name in methods)
