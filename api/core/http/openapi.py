"""The OpenAPI document: what marshmallow fields are in JSON Schema, and which parameters a query string may hold."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask_smorest import Api
from marshmallow import fields as ma_fields
from marshmallow import validate

from api.core.database.json_schema import JSONSchema
from api.core.database.text_rules import Readable
from api.core.http import fields
from api.core.http.bulk_schema import JudgedItem
from api.core.http.error_handlers import PROBLEM_TYPE
from api.core.http.keys import KeyConverter, key_schema
from api.core.http.schema import BaseSchema, ProblemSchema
from api.core.query.aggregate_params import FUNCTIONS, possible_fields
from api.core.query.allowlist import Kind
from api.core.query.params import COUNTS, DELETED_MODES, SEARCH_LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask_smorest.blueprint import Blueprint

    from api.core.query.allowlist import AllowList, FieldRule

API_VERSION = "1.0.0"
_DESCRIPTION = """
Errors are `application/problem+json` (RFC 9457) and list each thing that is wrong.

Lists take a filter for each field, as `field=value` or `field__operator=value`; filters are joined by *and*, `or=(…)`,
`not=(…)` group them. Dots lead into relations (`category.name=Books`) and into JSON documents
(`metadata.colour=red`, `metadata.size.cm__gt=5`), whose paths cannot be listed here. A value with commas or brackets in
a list or group goes into double quotes.

To say who you are, send `Authorization: Bearer …` with an access token or an API key. Without it you are told to log in
(401) where not anyone may; what is not for you is refused (403); rows that are not for you are not there (404).
""".strip()
_VALUE_SCHEMAS: dict[Kind, dict[str, Any]] = {
    Kind.INTEGER: {"type": "integer"},
    Kind.DECIMAL: {"type": "string", "pattern": r"^[+-]?[0-9]{1,30}(\.[0-9]{1,20})?$"},
    Kind.NUMBER: {"type": "number"},
    Kind.TEXT: {"type": "string"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.TIMESTAMP: {"type": "string", "format": "date-time"},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.UUID: {"type": "string", "format": "uuid"},
    Kind.JSON: {"type": "string"},
}
_LIST_OPERATORS = {
    "in": "Any of these values",
    "not_in": "None of these values",
    "between": "From the first to the second",
}
_FUNCTIONS = {
    "count": "Number of rows (`*`), or of those with a value",
    "sum": "Sum",
    "avg": "Average; of money rounded to its decimals",
    "min": "Smallest value",
    "max": "Largest value",
    "count_distinct": "Number of different values",
}
_MEANINGS = {
    "eq": "Equal to",
    "ne": "Exactly what `eq` does not find, NULL included",
    "lt": "Below",
    "lte": "At most",
    "gt": "Above",
    "gte": "At least",
    "like": "Matches, with % and _ as wildcards",
    "ilike": "Matches, ignoring case, with % and _ as wildcards",
    "icontains": "Contains, ignoring case",
    "startswith": "Starts with",
    "is_null": "Has no value, or has one",
    "contains": "The document contains this JSON",
    "has_key": "The document has this key",
}


class _Converter(OpenAPIConverter):
    def field2range(self, field: ma_fields.Field[Any], ret: Any) -> dict[str, Any]:
        """Bounds of numbers; an amount of money is a string and has a pattern instead."""
        return {} if isinstance(field, fields.Money) else super().field2range(field, ret)


class _MarshmallowPlugin(MarshmallowPlugin):
    Converter = _Converter


class DocumentedApi(Api):
    """flask-smorest's document, with our errors in it and without its error handler.

    Views are described when the document is first asked for: that takes longer than everything else at the start.
    """

    ERROR_SCHEMA = ProblemSchema  # type: ignore[assignment]  # smorest's own schema is the default, not a base

    # A document that allows any answer by default says nothing.
    DEFAULT_ERROR_RESPONSE_NAME = None  # type: ignore[assignment]  # smorest's documentation offers None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = Lock()
        self._undescribed: list[Blueprint] = []
        super().__init__(*args, **kwargs)

    def register_blueprint(self, blp: Blueprint, *, parameters: None = None, **options: Any) -> None:
        """Register the routes of `blp` under its own name; the document will have them."""
        del parameters
        app: Any = self._app
        app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        app.register_blueprint(blp, **options)
        self._undescribed.append(blp)

    def document(self) -> dict[str, Any]:
        """The document with all blueprints."""
        with self._lock:
            while self._undescribed:
                blueprint = self._undescribed.pop(0)
                blueprint.register_views_in_doc(self, self._app, self.spec, name=blueprint.name, parameters=None)
                self.spec.tag({"name": blueprint.name, "description": blueprint.description})
            document: dict[str, Any] = self.spec.to_dict()
            return document

    def _register_error_handlers(self) -> None:
        """Errors are answered by `core.http.error_handlers`."""

    def _register_pagination_header(self) -> None:
        """Pages have links, not a header of counts."""

    def _register_etag_headers(self) -> None:
        """`documented` describes them with each view."""

    def _register_responses(self) -> None:
        content_type = self.DEFAULT_RESPONSE_CONTENT_TYPE
        self.DEFAULT_RESPONSE_CONTENT_TYPE = PROBLEM_TYPE
        super()._register_responses()
        self.DEFAULT_RESPONSE_CONTENT_TYPE = content_type


def create_api(app: Flask) -> DocumentedApi:
    """The document of `app`, to which blueprints are registered."""
    app.config.update(API_TITLE="Backend Framework", API_VERSION=API_VERSION, OPENAPI_VERSION="3.1.0")
    plugin = _MarshmallowPlugin(schema_name_resolver=_component_name)
    api = DocumentedApi(
        app,
        spec_kwargs={
            "marshmallow_plugin": plugin,
            "info": {"description": _DESCRIPTION},
        },
    )
    app.url_map.converters["key"] = KeyConverter
    api.register_converter(KeyConverter, key_schema)
    plugin.map_to_openapi_type(fields.Money, "string", None)
    plugin.map_to_openapi_type(fields.Timestamp, "string", "date-time")
    plugin.map_to_openapi_type(fields.JSONObject, "object", None)
    if plugin.converter is not None:
        plugin.converter.add_attribute_function(_string_rules)
        plugin.converter.add_attribute_function(_document_rules)
        plugin.converter.add_attribute_function(_judged_item)
    return api


def _component_name(schema: Any) -> str:
    instance = schema() if isinstance(schema, type) else schema
    if isinstance(instance, BaseSchema):
        return instance.component_name(instance.variant)
    return type(instance).__name__.removesuffix("Schema")


def _judged_item(converter: Any, field: ma_fields.Field[Any], **_: Any) -> dict[str, Any]:
    """An item of a list that is taken whatever it holds, and then judged by a schema."""
    if not isinstance(field, JudgedItem):
        return {}
    any_object = {"type": "object"}
    return (
        any_object if field.schema is None else {"anyOf": [converter.resolve_nested_schema(field.schema), any_object]}
    )


def _string_rules(_converter: Any, field: ma_fields.Field[Any], **_: Any) -> dict[str, Any]:
    if isinstance(field, fields.Money):
        return {"pattern": field.pattern, "example": "19.90"} | _example(field)
    readable = next((rule for rule in field.validators if isinstance(rule, Readable)), None)
    pattern = {} if readable is None else {"pattern": readable.pattern}
    if any(isinstance(rule, validate.Email) for rule in field.validators):
        return {"format": "email"} | pattern
    return pattern


def _document_rules(_converter: Any, field: ma_fields.Field[Any], **_: Any) -> dict[str, Any]:
    """JSON Schemas of a document; one with references would have them looked for in the OpenAPI document."""
    schemas = [rule.schema for rule in field.validators if isinstance(rule, JSONSchema)]
    return {"allOf": schemas} if schemas and "$ref" not in str(schemas) else {}


def _example(field: ma_fields.Field[Any]) -> dict[str, Any]:
    return {"example": field.metadata["example"]} if "example" in field.metadata else {}


def view_parameters(allowed: AllowList) -> Iterator[dict[str, Any]]:
    """Parameters of a read of one row."""
    fields = ", ".join(sorted([*allowed.fields, *(f"{name}.<key>" for name in allowed.documents)]))
    yield _query("fields", {"type": "string"}, f"Only these fields, of: {fields}.", example="id")
    if allowed.includes:
        yield _query("include", {"type": "string"}, f"Embed relations, of: {', '.join(sorted(allowed.includes))}.")
    yield from _deleted_parameter(allowed, "Whether to show deleted rows.")


def list_parameters(allowed: AllowList) -> Iterator[dict[str, Any]]:
    """Parameters of a list: pages, order, groups, and a filter for every field and operator."""
    limits = allowed.limits
    # Not as `default`: a form that fills defaults in would send both kinds of page at once.
    usual = f"; {limits.page_size} if not given."
    size = {"type": "integer", "minimum": 1, "maximum": limits.page_size_max}
    yield _query("limit", size, f"Rows on a page that starts at a cursor{usual}")
    yield _query("cursor", {"type": "string"}, "Where the page starts; follow `next` and `prev`.")
    number = {"type": "integer", "minimum": 1, "maximum": limits.offset_max + 1}
    yield _query("page", number, f"Number of the page, from 1; at most {limits.offset_max} rows are skipped.")
    yield _query("per_page", size, f"Rows on a numbered page{usual}")
    yield _query("count", {"type": "string", "enum": list(COUNTS), "default": "none"}, "Add the `total`.")
    orders = ", ".join(sorted([*allowed.sorts, *(f"{name}.<key>" for name in allowed.sort_documents)]))
    yield _query("sort", {"type": "string"}, f"Order by these, descending with a minus sign: {orders}.", example="-id")
    yield from view_parameters(allowed)
    if allowed.searched:
        yield from _search_parameters(allowed)
    yield from filter_parameters(allowed)


def aggregate_parameters(allowed: AllowList) -> Iterator[dict[str, Any]]:
    """Parameters of an aggregation: keys, results, order, and the filters of a list."""
    limits = allowed.limits
    text = {"type": "string"}
    keys = f"Group by these, at most {limits.group_keys_max}: {', '.join(possible_fields(allowed))}"
    yield _query("group_by", text, f"{keys}; times also by unit, as in `created_at.month`.")
    for function in FUNCTIONS:
        fields = possible_fields(allowed, function)
        of = ", ".join(["*", *fields] if function == "count" else fields)
        yield _query(function, text, f"{_FUNCTIONS[function]}, of: {of}.")
    yield _query("having", text, "Conditions on results: `count__gt=1,sum_id__lt=9`, with `and`, `or` and `not`.")
    yield _query("sort", text, "Order by these keys and results, descending with a minus sign; else by the keys.")
    size = {"type": "integer", "minimum": 1, "maximum": limits.groups_max, "default": limits.groups}
    yield _query("limit", size, "How many groups to answer with.")
    skipped = {"type": "integer", "minimum": 0, "maximum": limits.offset_max, "default": 0}
    yield _query("offset", skipped, "How many groups to skip.")
    yield from _deleted_parameter(allowed, "Whether deleted rows count.")
    yield from filter_parameters(allowed)


def _deleted_parameter(allowed: AllowList, description: str) -> Iterator[dict[str, Any]]:
    if allowed.deletable:
        yield _query(
            "deleted", {"type": "string", "enum": list(DELETED_MODES), "default": DELETED_MODES[0]}, description
        )


def filter_parameters(allowed: AllowList) -> Iterator[dict[str, Any]]:
    """Groups of conditions, and a filter for every field and operator."""
    yield _query("or", {"type": "string"}, "Any of these conditions: `(id=1,id=2)`; nests with `and` and `not`.")
    yield _query("and", {"type": "string"}, "All of these conditions.")
    yield _query("not", {"type": "string"}, "Rows for which these conditions do not all hold.")
    for rule in allowed.filters.values():
        yield from _filters_of(rule)


def _search_parameters(allowed: AllowList) -> Iterator[dict[str, Any]]:
    fields = ", ".join(allowed.searched)
    text = {"type": "string", "minLength": 1, "maxLength": SEARCH_LENGTH_MAX, "pattern": r"\S"}
    words = f'Rows that have these words in {fields}, best first: `a b`, `"a phrase"`, `a or b`, `a -b`.'
    yield _query("q", text, words, example="blue or red")
    yield _query("similar_to", text, f"Rows whose {allowed.searched[0]} is like this, likest first.")
    marked = f"Add `highlights`: {fields} as HTML, with what was found in `<mark>`."
    yield _query("highlight", {"type": "boolean"}, marked)


def _filters_of(rule: FieldRule) -> Iterator[dict[str, Any]]:
    for operator in rule.operators:
        name = rule.name if operator == "eq" else f"{rule.name}__{operator}"
        yield _query(name, _operand(rule, operator), f"{_LIST_OPERATORS.get(operator) or _MEANINGS[operator]}.")


def _operand(rule: FieldRule, operator: str) -> dict[str, Any]:
    if operator == "is_null":
        return _VALUE_SCHEMAS[Kind.BOOLEAN]
    if operator in _LIST_OPERATORS:
        return {"type": "string", "description": "Values with commas between them."}
    schema = dict(_VALUE_SCHEMAS[rule.kind])
    if rule.minimum is not None:
        schema |= {"minimum": rule.minimum, "maximum": rule.maximum}
    return schema


def _query(name: str, schema: dict[str, Any], description: str, *, example: Any = None) -> dict[str, Any]:
    parameter = {"in": "query", "name": name, "schema": schema, "description": description}
    return parameter | ({"example": example} if example is not None else {})
