"""JSON Patch (RFC 6902): a row changed by a list of operations on what a client may write of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonpatch import JsonPatch as Operation
from jsonpatch import JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointerException
from marshmallow import ValidationError

from api.core.database.documents import plain
from api.core.errors import APIError, ConflictError, InvalidError, Violation, pointer_to
from api.core.http.body import violations_of
from api.core.http.schema import Embed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.core.http.schema import BaseSchema

MERGE_PATCH_TYPE = "application/merge-patch+json"
JSON_PATCH_TYPE = "application/json-patch+json"
OPERATIONS_MAX = 100
RESULT_BYTES_MAX = 1_048_576
_OPERANDS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}
OPERATIONS_SCHEMA = {
    "type": "array",
    "maxItems": OPERATIONS_MAX,
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string", "enum": [*_OPERANDS]},
            "path": {"type": "string", "description": "JSON pointer to a field, or into a document."},
            "from": {"type": "string", "description": "JSON pointer; for move and copy."},
            "value": {"description": "For add, replace and test."},
        },
    },
    "example": [{"op": "add", "path": "/metadata/colour", "value": "red"}],
}


@dataclass(frozen=True, slots=True)
class JSONPatch:
    """A checked list of operations."""

    operations: tuple[Mapping[str, Any], ...]

    def changes(self, schema: BaseSchema, row: Any) -> Any:
        """What the operations make of `row`: the changed fields, as `schema`, of the variant for a patch, loads them.

        Raises:
            ConflictError: where a `test` finds something else.
            InvalidError: pointing at an operation that is not possible, or at a field of the result that is wrong.
        """
        before = _document(schema, row)
        after = plain(before)
        for number, operation in enumerate(self.operations):
            after = _applied(operation, after, number)
        changed = {name: after.get(name) for name in {**before, **after} if _differs(after, before, name)}
        try:
            return schema.load(changed)
        except ValidationError as error:
            raise InvalidError(violations=violations_of(error.normalized_messages(), schema)) from error


def json_patch(content: Any) -> JSONPatch:
    """The patch that a body holds.

    Raises:
        InvalidError: pointing at each operation that is not well-formed.
    """
    if not isinstance(content, list) or len(content) > OPERATIONS_MAX:
        raise InvalidError(f"A JSON Patch is an array of at most {OPERATIONS_MAX} operations.")
    violations = [violation for number, item in enumerate(content) for violation in _violations(number, item)]
    if violations:
        raise InvalidError(violations=violations)
    return JSONPatch(tuple(content))


def _violations(number: int, operation: Any) -> list[Violation]:
    if not isinstance(operation, dict):
        return [Violation("Must be a JSON object.", pointer=pointer_to([number]))]
    name = operation.get("op")
    if not isinstance(name, str) or name not in _OPERANDS:
        return [Violation(f"Must be one of: {', '.join(_OPERANDS)}.", pointer=pointer_to([number, "op"]))]
    found = []
    for operand in _OPERANDS[name]:
        if operand not in operation:
            found.append(Violation("Missing data for required field.", pointer=pointer_to([number, operand])))
        elif operand != "value" and not isinstance(operation[operand], str):
            found.append(Violation("Must be a JSON pointer, such as /name.", pointer=pointer_to([number, operand])))
    return found


def _document(schema: BaseSchema, row: Any) -> dict[str, Any]:
    """What a client may write of `row` and can see of it; embedded resources have addresses of their own."""
    shown = [name for name, field in schema.dump_fields.items() if not isinstance(field, Embed)]
    document: dict[str, Any] = plain(type(schema)(variant="patch", only=shown).dump(row))
    return document


def _applied(operation: Mapping[str, Any], document: dict[str, Any], number: int) -> dict[str, Any]:
    try:
        result = Operation([operation]).apply(document)
        size = len(_text(result))
    except RecursionError as error:
        raise InvalidError(violations=[_at(number, "path", "The result is nested too deeply.")]) from error
    except JsonPatchTestFailed as error:
        raise ConflictError(violations=[_at(number, "value", "The resource has another value there.")]) from error
    except (JsonPatchException, JsonPointerException) as error:
        raise _impossible(number, operation, document) from error
    if not isinstance(result, dict):
        raise InvalidError(violations=[_at(number, "path", "The resource as a whole must stay a JSON object.")])
    # `copy` can double a document again and again.
    if size > RESULT_BYTES_MAX:
        raise InvalidError(violations=[_at(number, "path", f"The result is larger than {RESULT_BYTES_MAX} bytes.")])
    return result


def _differs(after: Mapping[str, Any], before: Mapping[str, Any], name: str) -> bool:
    """Whether a member is other JSON than before: Python takes `1` and `true` for equal."""
    return _text(after.get(name)) != _text(before.get(name))


def _text(value: Any) -> bytes:
    """`value` as JSON, by the standard library: orjson refuses integers beyond 64 bits."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str).encode()


def _impossible(number: int, operation: Mapping[str, Any], document: Mapping[str, Any]) -> APIError:
    place = _OPERANDS[operation["op"]][0]
    fields = ", ".join(f"/{name}" for name in document)
    return InvalidError(violations=[_at(number, place, f"Leads nowhere; the resource has {fields}.")])


def _at(number: int, operand: str, detail: str) -> Violation:
    return Violation(detail, pointer=pointer_to([number, operand]))
