"""What of a resource can be imported: plain data, worked out once from its model and schema."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, inspect
from sqlalchemy.orm import MANYTOONE

from api.core.database.indexes import unique_keys
from api.core.query.projection import attribute_of, dumped_fields, is_embed
from api.core.query.relations import related_model, soft_deletable
from api.core.resource.transfer.texts import UnknownTypeError, text_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from marshmallow import Schema, fields
    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.orm import RelationshipProperty

    from api.core.database.indexes import UniqueKey


@dataclass(frozen=True)
class ImportField:
    """A field that a file may have: its name in the API, and the column that it is stored in."""

    name: str
    attribute: str
    field: fields.Field[Any]
    column: Column[Any]
    write: Callable[[Any], str]


@dataclass(frozen=True)
class NaturalKey:
    """A field of a related row by which a file may refer to it: `category.name` instead of `category_id`.

    `key` is what `refers` holds, `unique` the unique key that the field is there.
    """

    name: str
    refers: ImportField
    model: type[Any]
    key: Column[Any]
    unique: UniqueKey
    live: tuple[ColumnElement[bool], ...]

    @property
    def relation(self) -> str:
        """What the related row is called."""
        return self.name.partition(".")[0]


class Importable:
    """The fields, natural keys and unique keys of one resource.

    `names` are the fields of its create schema that can be imported; without them, all that are stored in a column.

    Raises:
        ValueError: for a name that is no such field.
    """

    def __init__(
        self,
        model: type[Any],
        schema: Callable[..., Schema],
        names: Sequence[str] | None = None,
        refused: Collection[str] = (),
    ) -> None:
        self.model = model
        self._refused = frozenset(refused)
        self._make_schema = schema
        self.table: Table = inspect(model).local_table
        self._shown = schema(variant="response")
        full = schema(variant="create")
        possible = dict(_stored(full, model))
        for name in names or ():
            if name not in possible:
                raise ValueError(f"{type(full).__name__} stores no field {name!r} that could be imported")
        chosen = possible if names is None else {name: possible[name] for name in names}
        self.schema = schema(variant="create", only=[str(item.field.name) for item in chosen.values()])
        self.fields = {name: item for name, item in _stored(self.schema, model) if name in chosen}

    def without(self, names: Collection[str]) -> Importable:
        """The same, but for these fields, which a file may not have."""
        return Importable(self.model, self._make_schema, [name for name in self.fields if name not in names], names)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The fields that a new row must have."""
        return tuple(item.name for item in self.fields.values() if item.field.required)

    @cached_property
    def ignored(self) -> frozenset[str]:
        """What an export shows and nobody can set: it may stand in a file and is not looked at."""
        shown = dict(_paths(self._shown))
        known = self.fields.keys() | self.natural_keys.keys()
        return frozenset(name for name in shown.keys() - known if name.partition(".")[0] not in self._refused)

    @cached_property
    def natural_keys(self) -> dict[str, NaturalKey]:
        """Unique public texts of single related rows."""
        return {key.name: key for key in self._natural_keys()}

    @cached_property
    def keys(self) -> dict[tuple[str, ...], UniqueKey]:
        """Unique keys by the fields that they are made of."""
        by_column = {item.column: name for name, item in self.fields.items()}
        return {
            tuple(by_column[column] for column in key.columns): key
            for key in unique_keys(self.table)
            if key.columns and all(column in by_column for column in key.columns)
        }

    def _natural_keys(self) -> Iterator[NaturalKey]:
        mapper = inspect(self.model)
        by_column = {item.column: item for item in self.fields.values()}
        for name, field in dumped_fields(self._shown).items():
            if not is_embed(field) or name in self._refused:
                continue
            relationship = mapper.relationships[attribute_of(field)]
            local = next(iter(relationship.local_columns))
            if relationship.direction is MANYTOONE and len(relationship.local_columns) == 1 and local in by_column:
                yield from _keys_of(name, field, relationship, by_column[local])


def _keys_of(
    name: str, field: Any, relationship: RelationshipProperty[Any], refers: ImportField
) -> Iterator[NaturalKey]:
    model = related_model(relationship)
    mapper = inspect(model)
    public = {
        mapper.columns[attribute_of(inner)]: inner_name
        for inner_name, inner in dumped_fields(field.schema).items()
        if attribute_of(inner) in mapper.columns
    }
    remote: Any = next(iter(relationship.remote_side))
    live: tuple[ColumnElement[bool], ...] = (model.deleted_at.is_(None),) if soft_deletable(model) else ()
    for key in unique_keys(mapper.local_table):
        column = key.columns[0]
        if len(key.columns) == 1 and column in public and isinstance(column.type, String):
            yield NaturalKey(f"{name}.{public[column]}", refers, model, remote, key, live)


def _stored(schema: Schema, model: type[Any]) -> Iterator[tuple[str, ImportField]]:
    columns = inspect(model).columns
    for key, field in schema.load_fields.items():
        attribute = field.attribute or key
        if attribute in columns and not is_embed(field):
            name = str(field.data_key or key)
            column = columns[attribute]
            with suppress(UnknownTypeError):
                yield name, ImportField(name, attribute, field, column, text_writer(column.type))


def _paths(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Names of all fields that an export may show, those of single related rows as paths."""
    for name, field in dumped_fields(schema).items():
        yield name, field
        embed: Any = field
        if is_embed(field) and not embed.many:
            yield from ((f"{name}.{inner}", item) for inner, item in dumped_fields(embed.schema).items())
