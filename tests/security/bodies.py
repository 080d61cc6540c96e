"""Right bodies by the schemas of the OpenAPI document, and payloads put into them."""

from __future__ import annotations

from copy import deepcopy
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NUMBERS = count(1)


def new_name() -> str:
    """One that no row has yet."""
    return f"fresh-{next(_NUMBERS)}"


def resolved(spec: Any, document: Mapping[str, Any]) -> Any:
    """What a reference of the document leads to."""
    while "$ref" in spec:
        found: Any = document
        for part in spec["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        spec = found
    return spec


def example(schema: Mapping[str, Any], document: Mapping[str, Any], known: Mapping[str, Any], name: str = "") -> Any:
    """A value that the schema takes; what is `known` by its name is taken from there, such as the ids of rows."""
    schema = resolved(schema, document)
    if name in known:
        return known[name]
    if "properties" in schema:
        return {key: example(item, document, known, key) for key, item in schema["properties"].items()}
    if "items" in schema:
        return [example(schema["items"], document, known)]
    several = schema.get("anyOf") or schema.get("oneOf")
    return example(several[0], document, known, name) if several else _plain(schema)


def _plain(schema: Mapping[str, Any]) -> Any:
    if "example" in schema:
        return schema["example"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    return {"integer": 1, "number": 1, "boolean": True, "object": {"a": {"b": "c"}}}.get(kind, "text")


def fresh(body: Any) -> Any:
    """A copy whose names are new, where they have to be unique."""
    copy = deepcopy(body)
    for item in (copy, *(copy.get("items", ()) if isinstance(copy, dict) else ())):
        for name in ("name", "username", "sku", "email"):
            if isinstance(item, dict) and isinstance(item.get(name), str):
                item[name] = new_name() + ("@example.com" if name == "email" else "")
    return copy


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of a body, and where it stands."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from walk(item, (*path, key))


def placed(body: Any, path: tuple[Any, ...], text: str, *, key: bool) -> Any:
    """The body with `text` there: instead of what it has, or as one more key of it."""
    if not path:
        return {**body, text: text} if key else text
    holder = body
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = {**holder[path[-1]], text: text} if key else text
    return body
