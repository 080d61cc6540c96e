"""Rows checked by the resource's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import RAISE, ValidationError, missing
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA
from marshmallow.fields import Field

from api.core.query.problems import nearest, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from marshmallow import Schema

_WAYS = ("deserialize", "_validate", "_validate_missing", "_validate_all")

Problem = tuple[str | None, str]
"""The field that is wrong, None for the whole row, and what would be right."""


class RowChecker:
    """`schema.load()` for millions of rows.

    A right row only passes through the fields, as `load()` would have it do; the schema's own bookkeeping takes twice
    as long. Of a wrong one `load()` tells what is wrong, and a schema with hooks always gets its `load()`.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._is_plain = schema.unknown == RAISE and not _hooks_of(schema)
        self._steps = [
            (str(field.data_key or name), field.attribute or name, _reader(field))
            for name, field in schema.load_fields.items()
        ]
        self._names = frozenset(name for name, _, _ in self._steps)

    def checked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The values by attribute.

        Raises:
            ValidationError: as `load()` does.
        """
        if self._is_plain and row.keys() <= self._names:
            try:
                values = {
                    attribute: deserialize(row.get(name, missing), name, row)
                    for name, attribute, deserialize in self._steps
                }
            except ValidationError:
                pass
            else:
                return {attribute: value for attribute, value in values.items() if value is not missing}
        loaded: dict[str, Any] = self._schema.load(row)
        return loaded

    def problems(self, error: ValidationError) -> Iterator[Problem]:
        """What is wrong, field by field."""
        content: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        for name, messages in content.items():
            for message in _flat(messages):
                if message == "Unknown field.":
                    near = nearest(name, self._names)
                    message = f"Unknown field; did you mean {near!r}?" if near else message  # noqa: PLW2901
                yield (None if name == "_schema" else shortened(str(name)), message)


def _reader(field: Field[Any]) -> Callable[[Any, str, Mapping[str, Any]], Any]:
    """`field.deserialize`, in fewer calls where a value is given and right, unless the field has ways of its own."""
    deserialize = field.deserialize
    if (
        field.pre_load
        or field.post_load
        or any(getattr(type(field), name) is not getattr(Field, name) for name in _WAYS)
    ):
        return deserialize
    own, checks = field._deserialize, tuple(field.validators)  # noqa: SLF001 - marshmallow's documented extension point

    def read(value: Any, name: str, row: Mapping[str, Any]) -> Any:
        if value is None or value is missing:
            return deserialize(value, name, row)
        value = own(value, name, row)
        for check in checks:
            check(value)
        return value

    return read


def _hooks_of(schema: Schema) -> set[str]:
    """Names of the methods that have a say in `load()`."""
    hooks = schema._hooks  # noqa: SLF001 - marshmallow has no public way to ask for them
    names = {found[0] for kind in (PRE_LOAD, POST_LOAD, VALIDATES, VALIDATES_SCHEMA) for found in hooks[kind]}
    # marshmallow-sqlalchemy's own, which does nothing where values are loaded and not instances.
    return names if getattr(schema.opts, "load_instance", False) else names - {"make_instance"}


def _flat(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for item in content.values():
            yield from _flat(item)
    elif isinstance(content, list):
        for item in content:
            yield from _flat(item)
    else:
        yield str(content)
