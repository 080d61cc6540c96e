"""A resource that can be queried: its model, its schema, and the allow-list that follows from the two."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from marshmallow import fields
from sqlalchemy import JSON, BigInteger, Enum, Integer, SmallInteger, TypeDecorator

from api.core.access.visibility import UNRESTRICTED, Visibility
from api.core.query.allowlist import AllowList, FieldRule, Kind, Limits
from api.core.query.plan import Page, QueryPlan, Sort
from api.core.query.projection import attribute_of, check_forms, dumped_fields, is_embed
from api.core.query.relations import is_nullable, related_model, relationship_of, soft_deletable, type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marshmallow import Schema
    from sqlalchemy.types import TypeEngine


_KINDS: dict[type, Kind] = {
    fields.Integer: Kind.INTEGER,
    fields.Decimal: Kind.DECIMAL,
    fields.Float: Kind.NUMBER,
    fields.Boolean: Kind.BOOLEAN,
    fields.DateTime: Kind.TIMESTAMP,
    fields.Date: Kind.DATE,
    fields.UUID: Kind.UUID,
    fields.String: Kind.TEXT,
    fields.Raw: Kind.JSON,
}
_NUMBERS = frozenset({int, float, Decimal})
_COLUMNS: dict[Kind, frozenset[type]] = {
    Kind.INTEGER: frozenset({int}),
    Kind.DECIMAL: _NUMBERS,
    Kind.NUMBER: _NUMBERS,
    Kind.BOOLEAN: frozenset({bool}),
    Kind.TIMESTAMP: frozenset({datetime}),
    Kind.DATE: frozenset({date}),
    Kind.UUID: frozenset({UUID}),
    Kind.TEXT: frozenset({str}),
    Kind.JSON: frozenset({dict}),
}
"""The Python types of columns with which values of a kind can be compared."""

# The two others are subclasses of Integer.
_BITS: dict[type, int] = {SmallInteger: 16, BigInteger: 64, Integer: 32}
SCHEMAS_KEPT = 64


class Collection:
    """What `GET /products` can do, worked out once from a declaration.

    Every public scalar field can be filtered by and selected. Fields of relations (`category.name`), sort keys and
    embeds are possible where they are declared; `items.product` brings `items` with it. A JSON document that is
    declared as a sort key stands for the paths in it.

    Raises:
        ValueError: for a declared name that the schema does not make public, or that cannot do what it is declared for.
        NoSQLFormError: for a field that only Python can dump.
        JoinFormError: for a relationship that is joined by more than keys.
    """

    def __init__(  # noqa: PLR0913 - a declaration, by keyword
        self,
        name: str,
        model: type[Any],
        schema: type[Schema],
        *,
        filters: Sequence[str] = (),
        sorts: Sequence[str] = (),
        includes: Sequence[str] = (),
        default_sort: str = "id",
    ) -> None:
        self.name = name
        self.model = model
        self.schema = schema
        self._full = schema()
        self._includes = frozenset(prefix for include in includes for prefix in _prefixes(include))
        self._default_sort = Sort(tuple(default_sort.removeprefix("-").split(".")), default_sort.startswith("-"))
        self._schema_of = lru_cache(SCHEMAS_KEPT)(self._make_schema)
        self._attributes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._fields: dict[tuple[str, ...], fields.Field[Any]] = {}
        self.comparable: dict[str, FieldRule] = {}
        self._check_forms()
        self._filters = self._filter_rules(filters)
        self._sort_documents = frozenset(name for name in sorts if self._declared(name).kind is Kind.JSON)
        self._sorts = self._sort_keys({*sorts, ".".join(self._default_sort.path), "id"}) - self._sort_documents
        self.searched = self._searched()
        """The attributes that are searched, and what the schema calls them."""

    def allow_list(self, limits: Limits, visibility: Visibility = UNRESTRICTED, *, deletable: bool = True) -> AllowList:
        """The names that a query string may use, with the given limits, by whom sees what `visibility` shows.

        Without `deletable`, deleted rows cannot be asked for.
        """

        def sees(name: str) -> bool:
            return self._is_visible(name, visibility)

        # What is searched can be found out by searching.
        searched = tuple(self.searched.values())
        return AllowList(
            resource=self.name,
            filters={name: rule for name, rule in self._filters.items() if sees(name)},
            sorts=frozenset(filter(sees, self._sorts)),
            fields=frozenset(filter(sees, self._selectable)),
            includes=frozenset(filter(sees, self._includes)),
            default_sort=(self._default_sort,),
            deletable=deletable and soft_deletable(self.model),
            documents=frozenset(filter(sees, self._documents)),
            sort_documents=frozenset(filter(sees, self._sort_documents)),
            comparable={name: rule for name, rule in self.comparable.items() if sees(name)},
            searched=searched if all(map(sees, searched)) else (),
            limits=limits,
        )

    @cached_property
    def related_models(self) -> frozenset[type]:
        """The models whose rows are looked at besides its own."""
        paths = {*(name.rpartition(".")[0] for name in self.comparable), *self._includes} - {""}
        return frozenset(self._at(path.split("."))[1] for path in paths)

    def everything(self) -> QueryPlan:
        """A page of all fields with every embed."""
        return QueryPlan(
            sort=(self._default_sort,), page=Page(1), include=tuple(sorted(self._includes)), resource=self.name
        )

    def schema_for(self, plan: QueryPlan) -> Schema:
        """The schema that shows what `plan` asks for; its `dump` is the reference for the SQL."""
        return self._schema_of(plan.fields, plan.include, plan.visibility)

    def attributes_of(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The attributes that the names in the path of a filter or sort key stand for."""
        return self._attributes[path]

    def field_of(self, path: tuple[str, ...]) -> fields.Field[Any]:
        """The schema's field at the path of a filter or sort key."""
        return self._fields[path]

    # -- the declaration ------------------------------------------------------------------------------------------

    def _check_forms(self) -> None:
        check_forms(self._full, self.model)
        for include in sorted(self._includes):
            schema, model, _ = self._at(include.split("."))
            check_forms(schema, model)

    def _at(self, relations: Sequence[str]) -> tuple[Schema, type[Any], list[Any]]:
        """The schema and model that `relations` lead to, and the fields on the way."""
        schema, model, way = self._full, self.model, []
        for relation in relations:
            field: Any = dumped_fields(schema).get(relation)
            if field is None or not is_embed(field):
                raise _not_public(schema, relation)
            way.append(field)
            schema, model = field.schema, related_model(relationship_of(model, attribute_of(field)))
        return schema, model, way

    def _declared(self, name: str) -> FieldRule:
        """What is known of the field `name`, whose attributes are kept for the statements."""
        *relations, last = name.split(".")
        schema, model, way = self._at(relations)
        field = dumped_fields(schema).get(last)
        if field is None or is_embed(field):
            raise _not_public(schema, last)
        self._attributes[*relations, last] = tuple(attribute_of(step) for step in (*way, field))
        self._fields[*relations, last] = field
        rule = _rule(name, field, model, nullable_above=bool(relations))
        if rule is None:
            message = f"{self.name}: {name!r} is a {type(field).__name__}, which cannot be compared"
            raise ValueError(message)
        many = [number for number, step in enumerate(way, start=1) if getattr(step, "many", False)]
        rule = replace(rule, many=".".join(relations[: many[-1]]) if many else "")
        self.comparable[name] = rule
        return rule

    def _filter_rules(self, declared: Sequence[str]) -> dict[str, FieldRule]:
        own = {name: field for name, field in dumped_fields(self._full).items() if not is_embed(field)}
        comparable = [name for name, field in own.items() if _rule(name, field, self.model) is not None]
        return {name: self._declared(name) for name in (*comparable, *declared)}

    def _sort_keys(self, names: set[str]) -> frozenset[str]:
        for name in names:
            if self._declared(name).kind is Kind.JSON and name not in self._sort_documents:
                message = f"{self.name}: {name!r} is JSON and has no order; only its paths have"
                raise ValueError(message)
            self._check_to_one(tuple(name.split(".")))
        return frozenset(names)

    def _searched(self) -> dict[str, str]:
        declared = getattr(self.model, "__search__", None)
        public = {attribute_of(field): name for name, field in dumped_fields(self._full).items()}
        fields = getattr(declared, "fields", ())
        # What is searched can be found out by searching: either all of it is public, or there is no search.
        return {field: public[field] for field in fields} if public.keys() >= {*fields} else {}

    def _check_to_one(self, path: tuple[str, ...]) -> None:
        """A row has one value of each sort key."""
        model = self.model
        for attribute in self.attributes_of(path)[:-1]:
            relationship = relationship_of(model, attribute)
            if relationship.uselist:
                message = f"{self.name}: cannot sort by {'.'.join(path)!r}, {attribute!r} has many rows"
                raise ValueError(message)
            model = related_model(relationship)

    # -- what a plan shows ----------------------------------------------------------------------------------------

    @cached_property
    def _selectable(self) -> dict[str, str]:
        """All fields that can be shown, and the schemas' own names of them, which differ by `data_key`."""
        names = dict(_own_names(self._full))
        for include in self._includes:
            schema, _, way = self._at(include.split("."))
            prefix = ".".join(str(field.name) for field in way)
            names |= {f"{include}.{name}": f"{prefix}.{own}" for name, own in _own_names(schema)}
        return names

    @cached_property
    def _documents(self) -> frozenset[str]:
        """The JSON documents among the fields that can be shown."""
        found: set[str] = set()
        for name in self._selectable:
            *relations, last = name.split(".")
            schema, model, _ = self._at(relations)
            rule = _rule(name, dumped_fields(schema)[last], model)
            found |= {name} if rule is not None and rule.kind is Kind.JSON else set()
        return frozenset(found)

    def _make_schema(self, names: tuple[str, ...], include: tuple[str, ...], visibility: Visibility) -> Schema:
        chosen: list[str] = []
        for place in ("", *include):
            sparse = [name for name in names if name.rpartition(".")[0] == place]
            chosen += sparse or [name for name in self._selectable if name.rpartition(".")[0] == place]
        return self.schema(only=[self._selectable[name] for name in chosen if self._is_visible(name, visibility)])

    def _is_visible(self, name: str, visibility: Visibility) -> bool:
        """Whether the field or embed `name` is in sight, which may be a path, and all that leads there."""
        parts = name.split(".")
        return all(part not in visibility.hidden_of(self._at(parts[:place])[1]) for place, part in enumerate(parts))


def _python_type(column_type: TypeEngine[Any]) -> type | None:
    """What values of the column are in Python; None where that is not known, and for PostgreSQL's own enumerations."""
    if isinstance(column_type, TypeDecorator):
        return _python_type(column_type.impl_instance)
    if isinstance(column_type, JSON):
        return dict
    if isinstance(column_type, Enum) and column_type.native_enum:
        return None
    return column_type.python_type


def _prefixes(path: str) -> Iterator[str]:
    """`a.b.c` and what leads to it: `a`, `a.b`."""
    parts = path.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _not_public(schema: Schema, name: str) -> ValueError:
    return ValueError(f"{type(schema).__name__} has no public field or relation {name!r} to be used like this")


def _own_names(schema: Schema) -> Iterator[tuple[str, str]]:
    """The scalar fields of `schema` under the names they are written with, and its own names of them."""
    return ((name, str(field.name)) for name, field in dumped_fields(schema).items() if not is_embed(field))


def _rule(name: str, field: fields.Field[Any], model: type, *, nullable_above: bool = False) -> FieldRule | None:
    """What can be compared with the field, or None where nothing can."""
    attribute = attribute_of(field)
    column_type = type_of(model, attribute)
    kind = next((_KINDS[base] for base in type(field).__mro__ if base in _KINDS), None)
    if kind is None or _python_type(column_type) not in _COLUMNS[kind]:
        return None
    low = high = None
    if kind is Kind.INTEGER:
        bits = next((bits for type_, bits in _BITS.items() if isinstance(column_type, type_)), 64)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return FieldRule(name, kind, nullable=nullable_above or is_nullable(model, attribute), minimum=low, maximum=high)
