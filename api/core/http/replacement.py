"""What a PUT means: the resource is what the body says, and what the body leaves out has its default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from api.core.http.schema import BaseSchema, Embed, References

if TYPE_CHECKING:
    from collections.abc import Mapping


def completed(data: Mapping[str, Any], schema: BaseSchema, model: type) -> dict[str, Any]:
    """`data` as `schema` has loaded it, with the default of every field that it does not name.

    A column gets its default or null, a relation is emptied, and a nested object is completed in the same way.
    """
    mapper: Any = inspect(model)
    complete = dict(data)
    for name, field in schema.load_fields.items():
        attribute = field.attribute or name
        given = complete.get(attribute)
        if isinstance(field, Embed) and isinstance(given, dict):
            related = mapper.relationships[attribute].entity.class_
            complete[attribute] = completed(given, field.schema, related)
        elif attribute in complete:
            continue
        elif isinstance(field, References) or (isinstance(field, Embed) and field.many):
            complete[attribute] = []
        elif isinstance(field, Embed):
            complete[attribute] = None
        elif attribute in mapper.columns:
            complete[attribute] = _default_of(mapper.columns[attribute])
    return complete


def _default_of(column: Any) -> Any:
    """What a column gets that is not given."""
    default = column.default
    if default is None:
        return None
    return default.arg(None) if default.is_callable else default.arg
