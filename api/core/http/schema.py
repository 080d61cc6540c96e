"""Schemas: one class for each resource, and the variants of it that requests and responses need."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from marshmallow import RAISE, Schema, validate
from marshmallow import fields as ma_fields
from marshmallow_sqlalchemy import ModelConverter, SQLAlchemySchema
from marshmallow_sqlalchemy import auto_field as auto_field
from sqlalchemy.dialects.postgresql import JSONB

from api.core.database.json_schema import JSONSchema
from api.core.database.types import UTCDateTime
from api.core.database.validation import validators_of
from api.core.http import fields
from api.core.http.body import JSON_TYPE
from api.core.http.loading import Loader, NotRightError
from api.core.query.projection import attribute_of, dumped_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Variant = Literal["response", "create", "replace", "patch"]
_SUFFIX: dict[str, str] = {"response": "", "create": "Create", "replace": "Replace", "patch": "Patch"}
_INTEGER_BITS: dict[type, int] = {sa.SmallInteger: 16, sa.BigInteger: 64, sa.Integer: 32}


class ColumnConverter(ModelConverter):
    """Columns to fields: type, NULL, default, length, and the validators that the column was declared with."""

    SQLA_TYPE_MAPPING = {  # noqa: RUF012 - marshmallow-sqlalchemy's own way
        **ModelConverter.SQLA_TYPE_MAPPING,
        sa.String: fields.String,
        sa.Text: fields.String,
        sa.SmallInteger: fields.Integer,
        sa.Integer: fields.Integer,
        sa.BigInteger: fields.Integer,
        sa.Boolean: fields.Boolean,
        sa.Numeric: fields.Money,
        sa.Float: ma_fields.Float,
        sa.Uuid: ma_fields.UUID,
        sa.JSON: fields.JSONObject,
        JSONB: fields.JSONObject,
        UTCDateTime: fields.Timestamp,
    }

    def _add_column_kwargs(self, kwargs: dict[str, Any], column: sa.Column[Any]) -> None:
        super()._add_column_kwargs(kwargs, column)
        kwargs["validate"] = [*kwargs.get("validate", []), *validators_of(column), *_range_of(column)]
        if isinstance(column.type, sa.Numeric) and not isinstance(column.type, sa.Float):
            kwargs["digits"] = column.type.precision or 30
            kwargs["places"] = column.type.scale or 0


def _range_of(column: sa.Column[Any]) -> Iterable[validate.Range]:
    """What an integer column can hold, so that a number too large is refused by name and not by the database."""
    if column.primary_key:
        return
    for type_, bits in _INTEGER_BITS.items():
        if isinstance(column.type, type_):
            low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            stricter = [rule for rule in validators_of(column) if isinstance(rule, validate.Range)]
            if any(rule.min is not None for rule in stricter):
                low = None
            yield validate.Range(min=low, max=high)
            return


class BaseSchema(SQLAlchemySchema):  # type: ignore[type-arg]
    """Base of all resource schemas.

    What a subclass declares is public; nothing else of the model is. `Meta.create_only` names fields that are given
    once.
    """

    make_instance = None  # type: ignore[assignment]  # so that marshmallow finds no hook
    """marshmallow-sqlalchemy's hook, which makes instances of what was loaded: here, values stay values."""

    class Meta:
        """Options of all schemas."""

        unknown = RAISE
        model_converter = ColumnConverter
        create_only: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        variant: Variant = "response",
        only: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """`variant` leaves out what has no place in a response (write-only fields) or request (read-only fields)."""
        self.variant = variant
        self.media_types: dict[str, Callable[[Any], Any] | None] = {JSON_TYPE: None}
        """What a body may be declared as, and what reads its JSON in the place of this schema."""
        hidden = self._hidden_in(variant)
        if only is not None:
            only = [name for name in only if name not in hidden]
        if variant in {"response", "patch"}:
            # Nothing is required of a partial update, nor of a response, from which `fields=` may leave out anything.
            kwargs["partial"] = True
        super().__init__(only=only, exclude=[*exclude, *hidden], **kwargs)
        if variant == "patch":
            self._leave_documents_to_the_listener()

    def _leave_documents_to_the_listener(self) -> None:
        """A part of a document need not follow the JSON Schema of the whole, which is checked once it is merged."""
        for field in self.load_fields.values():
            field.validators = [rule for rule in field.validators if not isinstance(rule, JSONSchema)]

    def load(self, data: Any, **options: Any) -> Any:
        """Load values, never instances.

        marshmallow-sqlalchemy's own `load()` looks the version of marshmallow up each time: 0.2 ms for every request.
        """
        if options.get("unknown") is None and options.get("many") is None:
            try:
                return self._loader.load(data, options.get("partial"))
            except NotRightError:
                pass
        return Schema.load(self, data, **options)

    @cached_property
    def _loader(self) -> Loader:
        return Loader(self)

    def __deepcopy__(self, _memo: object) -> BaseSchema:
        """Itself, which does not change: what describes a view is copied with all its schemas."""
        return self

    @classmethod
    def component_name(cls, variant: str) -> str:
        """The schema's name in the OpenAPI document."""
        return cls.__name__.removesuffix("Schema") + _SUFFIX[variant]

    @classmethod
    def _hidden_in(cls, variant: Variant) -> list[str]:
        declared = cls._declared_fields
        if variant == "response":
            return sorted(name for name, field in declared.items() if field.load_only)
        hidden = {name for name, field in declared.items() if field.dump_only}
        if variant != "create":
            hidden |= set(getattr(cls.Meta, "create_only", ()))
        return sorted(hidden)


class Embed(ma_fields.Nested):
    """A related resource, shown when `include=` asks for it; with `writable`, also accepted in requests."""

    def __init__(
        self,
        nested: type[BaseSchema],
        *,
        many: bool = False,
        writable: bool = False,
        allow_none: bool | None = None,
        **kwargs: Any,
    ) -> None:
        # A single related row may always be missing: deleted, or not there yet.
        allow_none = not many if allow_none is None else allow_none
        super().__init__(nested, many=many, dump_only=not writable, allow_none=allow_none, **kwargs)

    @property
    def schema(self) -> BaseSchema:
        """The nested schema, in the variant of the schema around it."""
        if self._schema is None:
            variant: Variant = getattr(self.parent, "variant", "response")
            nested: type[BaseSchema] = self.nested  # type: ignore[assignment]
            self._schema = nested(variant=variant, many=self.many, only=self.only, exclude=self.exclude)
        return self._schema  # type: ignore[return-value]


class References(ma_fields.List[Any]):
    """Keys of related rows, for writing a many-to-many relation: `tag_ids = References("tags")`."""

    def __init__(self, relationship: str, *, max_length: int = 100, **kwargs: Any) -> None:
        key = fields.Integer(validate=validate.Range(min=1, max=2**63 - 1))
        super().__init__(key, load_only=True, validate=validate.Length(max=max_length), **kwargs)
        self.relationship = relationship


def references_of(schema: type[Schema]) -> dict[str, str]:
    """Which fields of `schema` hold keys of which relationship."""
    declared = schema._declared_fields  # noqa: SLF001 - marshmallow has no public way to its declared fields
    return {name: field.relationship for name, field in declared.items() if isinstance(field, References)}


class ViolationSchema(Schema):
    """One thing that is wrong with the request."""

    detail = ma_fields.String(required=True, metadata={"example": "Missing data for required field."})
    pointer = ma_fields.String(metadata={"description": "JSON pointer into the body.", "example": "/items/0/quantity"})
    parameter = ma_fields.String(metadata={"description": "The query parameter.", "example": "price__gte"})
    header = ma_fields.String(metadata={"description": "The request header.", "example": "If-Match"})


class ProblemSchema(Schema):
    """An error, by RFC 9457."""

    type = ma_fields.String(required=True, metadata={"example": "about:blank"})
    title = ma_fields.String(required=True, metadata={"example": "Invalid content"})
    status = ma_fields.Integer(required=True, metadata={"example": 422})
    detail = ma_fields.String(required=True)
    instance = ma_fields.String(required=True, metadata={"example": "/api/v1/products"})
    errors = ma_fields.List(ma_fields.Nested(ViolationSchema))

    def __deepcopy__(self, _memo: object) -> ProblemSchema:
        """Itself, which does not change: what describes a view is copied with all its answers."""
        return self


class RejectSchema(Schema):
    """A mistake in a row of a file."""

    line = ma_fields.Integer(required=True, metadata={"description": "The row's first line, from 1.", "example": 3})
    column = ma_fields.String(
        required=True, allow_none=True, metadata={"description": "As the file names it.", "example": "price"}
    )
    detail = ma_fields.String(required=True, metadata={"example": "There is no category 4711."})


class ImportReportSchema(Schema):
    """What became of the rows of a file."""

    read = ma_fields.Integer(required=True)
    inserted = ma_fields.Integer(required=True)
    updated = ma_fields.Integer(required=True)
    unchanged = ma_fields.Integer(required=True, metadata={"description": "There already, just like that."})
    rejected = ma_fields.Integer(required=True, metadata={"description": "Rows with a mistake."})
    ignored_columns = ma_fields.List(ma_fields.String(), required=True)
    rejects = ma_fields.List(
        ma_fields.Nested(RejectSchema), required=True, metadata={"description": "The first 1,000 mistakes."}
    )
    dry_run = ma_fields.Boolean(required=True)


class ImportProblemSchema(ProblemSchema, ImportReportSchema):
    """Rows were rejected, and nothing was written."""


def found_schema(item: type[BaseSchema], model: type[Any]) -> type[BaseSchema]:
    """`item` as a list shows it: where all that `model` is searched by is public, with what was found."""
    declared = getattr(model, "__search__", None)
    fields = getattr(declared, "fields", ())
    names = [name for name, field in dumped_fields(item()).items() if attribute_of(field) in fields]
    if not fields or len(names) < len(fields):
        return item
    marked = {name: ma_fields.String(allow_none=True) for name in names}
    one = item.component_name("response")
    highlights = Schema.from_dict(marked, name=f"{one}HighlightsSchema")  # type: ignore[arg-type]
    described = {"description": "HTML, with what was found in `<mark>`; where `highlight` asks for it."}
    added = {"highlights": ma_fields.Nested(highlights, dump_only=True, metadata=described)}
    return type(f"Found{item.__name__}", (item,), {"__doc__": item.__doc__, **added})


def page_schema(item: type[BaseSchema], shown: type[BaseSchema] | None = None) -> Schema:
    """The schema of a page of `item`s, which may be shown as something more."""
    link = {"description": "Path and query of the neighbouring page; null where there is none."}
    page = Schema.from_dict(
        {
            "items": ma_fields.List(ma_fields.Nested((shown or item)(variant="response")), required=True),
            "next": ma_fields.String(required=True, allow_none=True, metadata=link),
            "prev": ma_fields.String(required=True, allow_none=True, metadata=link),
            "total": ma_fields.Integer(metadata={"description": "Number of matching rows, where `count` asks for it."}),
        },
        name=f"{item.component_name('response')}PageSchema",
    )
    return page()
