"""A resource that can be queried: its model, its schema, and the allow-list that follows from the two."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from marshmallow import fields
from sqlalchemy import BigInteger, Integer, SmallInteger, inspect

from api.core.query.allowlist import AllowList, FieldRule, Kind, Limits
from api.core.query.plan import Sort
from api.core.query.projection import attribute_of, dumped_fields, is_embed, sql_form
from api.core.query.relations import soft_deletable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marshmallow import Schema

    from api.core.query.plan import QueryPlan

_KINDS: dict[type, Kind] = {
    fields.Integer: Kind.INTEGER,
    fields.Decimal: Kind.DECIMAL,
    fields.Float: Kind.NUMBER,
    fields.Boolean: Kind.BOOLEAN,
    fields.DateTime: Kind.TIMESTAMP,
    fields.Date: Kind.DATE,
    fields.UUID: Kind.UUID,
    fields.String: Kind.TEXT,
    fields.Dict: Kind.JSON,
    fields.Raw: Kind.JSON,
}
_BITS: dict[type, int] = {SmallInteger: 16, Integer: 32, BigInteger: 64}


class Collection:
    """What `GET /products` can do, worked out once from a declaration.

    Every public scalar field can be filtered by and selected. Fields of relations (`category.name`), sort keys and embeds are
    possible where they are declared.

    Raises:
        ValueError: for a declared name that the schema does not make public.
        NoSQLFormError: for a field that only Python can dump.
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
        self._declared_filters = filters
        self._sorts = frozenset({*sorts, default_sort.removeprefix("-"), "id"})
        self._includes = frozenset(includes)
        self._default_sort = default_sort
        self._schemas: dict[tuple[tuple[str, ...], tuple[str, ...]], Schema] = {}
        self._full = schema()
        self._check_forms(self._full, model)

    def allow_list(self, limits: Limits) -> AllowList:
        """The names that a query string may use, with the given limits."""
        return AllowList(
            filters=self._filter_rules,
            sorts=self._checked_sorts,
            fields=frozenset(self._selectable()),
            includes=self._checked_includes,
            default_sort=(
                Sort(tuple(self._default_sort.removeprefix("-").split(".")), self._default_sort.startswith("-")),
            ),
            deletable=soft_deletable(self.model),
            limits=limits,
        )

    def schema_for(self, plan: QueryPlan) -> Schema:
        """The schema that shows what `plan` asks for; its `dump` is the reference for the SQL."""
        key = (plan.fields, plan.include)
        if key not in self._schemas and len(self._schemas) < 1000:  # noqa: PLR2004 - bounds memory, not behaviour
            self._schemas[key] = self.schema(only=self._names_for(plan))
        return self._schemas.get(key) or self.schema(only=self._names_for(plan))

    def attribute(self, model: type, name: str) -> str:
        """The attribute of `model` that the API field `name` shows."""
        return self._attributes.get((model, name), name)

    def rule_of(self, name: str) -> FieldRule:
        """What is known of the field `name`, dots going through relations.

        Raises:
            ValueError: when the schema does not make it public.
        """
        schema, model = self._full, self.model
        *relations, last = name.split(".")
        nullable = False
        for relation in relations:
            field = dumped_fields(schema).get(relation)
            if field is None or not is_embed(field):
                raise self._undeclared(name)
            relationship = inspect(model).relationships[attribute_of(field)]
            schema, model, nullable = field.schema, relationship.entity.class_, True  # type: ignore[attr-defined]
        field = dumped_fields(schema).get(last)
        if field is None or is_embed(field):
            raise self._undeclared(name)
        return _rule(name, field, model, nullable_above=nullable)

    def _undeclared(self, name: str) -> ValueError:
        return ValueError(f"{self.name}: {self.schema.__name__} has no public field {name!r}")

    def _check_forms(self, schema: Schema, model: type) -> None:
        for field in dumped_fields(schema).values():
            if not is_embed(field):
                sql_form(field, inspect(model).columns[attribute_of(field)])

    def _selectable(self) -> Iterator[str]:
        yield from _scalars(self._full)
        for include in self._includes:
            for name in _scalars(_schema_at(self._full, include)):
                yield f"{include}.{name}"

    def _names_for(self, plan: QueryPlan) -> list[str]:
        chosen = [name for name in plan.fields if "." not in name] or list(_scalars(self._full))
        for include in plan.include:
            prefix = f"{include}."
            sparse = [name for name in plan.fields if name.startswith(prefix) and "." not in name.removeprefix(prefix)]
            chosen += sparse or [prefix + name for name in _scalars(_schema_at(self._full, include))]
        return chosen

    @cached_property
    def _filter_rules(self) -> dict[str, FieldRule]:
        names = [*_scalars(self._full), *self._declared_filters]
        return {name: self.rule_of(name) for name in names}

    @cached_property
    def _checked_sorts(self) -> frozenset[str]:
        for name in self._sorts:
            if self.rule_of(name).kind is Kind.JSON:
                message = f"{self.name}: {name!r} is JSON and has no order"
                raise ValueError(message)
            self._check_to_one(name)
        return self._sorts

    def _check_to_one(self, name: str) -> None:
        model: type = self.model
        for relation in name.split(".")[:-1]:
            relationship = inspect(model).relationships[self.attribute(model, relation)]
            if relationship.uselist:
                message = f"{self.name}: cannot sort by {name!r}, {relation!r} has many rows"
                raise ValueError(message)
            model = relationship.entity.class_

    @cached_property
    def _checked_includes(self) -> frozenset[str]:
        for include in self._includes:
            _schema_at(self._full, include)
        return self._includes

    @cached_property
    def _attributes(self) -> dict[tuple[type, str], str]:
        found: dict[tuple[type, str], str] = {}
        _collect_attributes(self._full, self.model, found)
        return found


def _collect_attributes(schema: Schema, model: type, found: dict[tuple[type, str], str]) -> None:
    for name, field in dumped_fields(schema).items():
        found[model, name] = attribute_of(field)
        if is_embed(field):
            related = inspect(model).relationships[attribute_of(field)].entity.class_
            _collect_attributes(field.schema, related, found)  # type: ignore[attr-defined]


def _scalars(schema: Schema) -> Iterator[str]:
    return (name for name, field in dumped_fields(schema).items() if not is_embed(field))


def _schema_at(schema: Schema, path: str) -> Schema:
    for name in path.split("."):
        field = dumped_fields(schema).get(name)
        if field is None or not is_embed(field):
            message = f"{type(schema).__name__} embeds no {name!r}"
            raise ValueError(message)
        schema = field.schema  # type: ignore[attr-defined]
    return schema


def _rule(name: str, field: fields.Field[Any], model: type, *, nullable_above: bool) -> FieldRule:
    column = inspect(model).columns[attribute_of(field)]
    kind = next(_KINDS[base] for base in type(field).__mro__ if base in _KINDS)
    low = high = None
    if kind is Kind.INTEGER:
        bits = next((bits for type_, bits in reversed(_BITS.items()) if isinstance(column.type, type_)), 64)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return FieldRule(name, kind, nullable=bool(column.nullable) or nullable_above, minimum=low, maximum=high)
