"""A plan's shape as one SELECT that returns the response body as finished JSON; built once a shape, values bound anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    inspect,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from api.core.query.conditions import Conditions
from api.core.query.projection import needed_attributes, row_json
from api.core.query.relations import live

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.query.collection import Collection
    from api.core.query.plan import Position, QueryPlan, Sort

CACHED_SHAPES = 512


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement ready for the driver: its text, and the parameters that do not come from the plan."""

    text: str
    constants: dict[str, Any]

    def parameters(self, values: dict[str, Any]) -> dict[str, Any]:
        """All parameters of one execution."""
        return {**self.constants, **values}


class _ByShape:
    """A plan as a cache key: equal where the statement would be equal."""

    __slots__ = ("plan",)

    def __init__(self, plan: QueryPlan) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return hash(self.plan.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByShape) and self.plan.shape == other.plan.shape


class StatementCache:
    """The statements of one collection, at most `CACHED_SHAPES` of them; the least used go first."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._cached: Callable[[_ByShape], Statement] = lru_cache(CACHED_SHAPES)(self._build)

    def statement(self, plan: QueryPlan) -> Statement:
        """The statement for `plan`'s shape."""
        return self._cached(_ByShape(plan))

    def _build(self, key: _ByShape) -> Statement:
        builder = _Builder(self._collection, key.plan)
        query = builder.one_row() if key.plan.page is None else builder.page()
        compiled = query.compile(dialect=_DIALECT)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return Statement(str(compiled), constants)


_DIALECT = postgresql.psycopg2.dialect()


@dataclass(frozen=True, slots=True)
class _SortKey:
    expression: ColumnElement[Any]
    descending: bool
    nullable: bool


class _Builder:
    def __init__(self, collection: Collection, plan: QueryPlan) -> None:
        self._collection = collection
        self._plan = plan
        self._model = collection.model
        self._schema = collection.schema_for(plan)

    # -- one row --------------------------------------------------------------------------------------------------

    def one_row(self) -> Select[Any]:
        """`body` and `version` of the row whose key is bound as `key`."""
        key = inspect(self._model).primary_key[0]
        names = self._attributes() | ({"version"} if hasattr(self._model, "version") else set())
        rows = (
            select(*(getattr(self._model, name).label(name) for name in sorted(names)))
            .where(key == bindparam("key", type_=key.type), *self._scope())
            .subquery()
        )
        body, joined = row_json(self._schema, self._model, rows, rows.c.__getitem__)
        version = rows.c.version if "version" in names else literal_column("NULL")
        return select(cast(body, Text).label("body"), version.label("version")).select_from(joined)

    # -- a page ---------------------------------------------------------------------------------------------------

    def page(self) -> Select[Any]:
        """`items` as a JSON array; how many rows were `fetched`; sort keys of the `first` and `last` one; `total` if asked."""
        picked, key_count = self._picked_rows()
        ordinal = func.row_number().over().label("ordinal")
        numbered = select(picked, ordinal).subquery()
        body, joined = row_json(self._schema, self._model, numbered, numbered.c.__getitem__)
        size = bindparam("size")
        shown = numbered.c.ordinal <= size
        backward = self._position is not None and self._position.backward
        order = numbered.c.ordinal.desc() if backward else numbered.c.ordinal
        items = func.string_agg(cast(body, Text), aggregate_order_by(literal_column("','"), order)).filter(shown)
        keys = _text_array(numbered, key_count)
        return select(
            func.concat("[", items, "]").label("items"),
            func.count().label("fetched"),
            func.max(keys).filter(numbered.c.ordinal == 1).label("first"),
            func.max(keys).filter(numbered.c.ordinal == size).label("last"),
            self._total().label("total"),
        ).select_from(joined)

    @property
    def _position(self) -> Position | None:
        return self._plan.page.position if self._plan.page else None

    def _attributes(self) -> set[str]:
        return needed_attributes(self._schema, self._model)

    def _scope(self) -> list[ColumnElement[bool]]:
        """The rows that exist for this caller, in one place for every read."""
        if self._plan.deleted == "include":
            return []
        if self._plan.deleted == "only":
            return [self._model.deleted_at.is_not(None)]
        return live(self._model, self._model)

    def _conditions(self) -> list[ColumnElement[bool]]:
        writer = Conditions(self._collection.attribute)
        return [writer.write(condition, self._model, self._model) for condition in self._plan.where]

    def _picked_rows(self) -> tuple[Any, int]:
        """The page's rows and one more that tells whether there are others, with their sort keys as text."""
        wanted = [getattr(self._model, name).label(name) for name in sorted(self._attributes())]
        query = select(*wanted).select_from(self._model)
        keys: list[_SortKey] = []
        for sort in self._plan.sort:
            query, key = self._sort_key(query, sort)
            keys.append(key)
        labels = [cast(key.expression, Text).label(f"sort_key_{number}") for number, key in enumerate(keys)]
        query = query.add_columns(*labels).where(*self._scope(), *self._conditions())
        backward = False
        if self._position is not None:
            backward = self._position.backward
            query = query.where(_behind(keys, self._position))
        query = query.order_by(*(_ordered(key, backward=backward) for key in keys)).limit(bindparam("size") + 1)
        if self._plan.page is not None and self._plan.page.offset is not None:
            query = query.offset(bindparam("skip"))
        return query.subquery(), len(keys)

    def _sort_key(self, query: Select[Any], sort: Sort) -> tuple[Select[Any], _SortKey]:
        model: type[Any] = self._model
        entity: Any = self._model
        for relation in sort.path[:-1]:
            attribute = self._collection.attribute(model, relation)
            relationship = inspect(model).relationships[attribute]
            model, entity_before = relationship.entity.class_, entity
            entity = aliased(model)
            path = getattr(entity_before, attribute).of_type(entity)
            hidden = live(entity, model)
            query = query.outerjoin(path.and_(*hidden) if hidden else path)
        column = getattr(entity, self._collection.attribute(model, sort.path[-1]))
        nullable = len(sort.path) > 1 or bool(inspect(model).columns[column.key].nullable)
        return query, _SortKey(column, sort.descending, nullable)

    def _total(self) -> ColumnElement[Any]:
        if self._plan.count == "none":
            return literal_column("NULL")
        counted = select(func.count()).select_from(self._model).where(*self._scope(), *self._conditions())
        return counted.scalar_subquery()


def _text_array(rows: Any, count: int) -> ColumnElement[Any]:
    return postgresql.array([rows.c[f"sort_key_{number}"] for number in range(count)])


def _ordered(key: _SortKey, *, backward: bool) -> ColumnElement[Any]:
    """PostgreSQL's default puts NULLs last ascending and first descending, which is what an index gives both ways."""
    return key.expression.desc() if key.descending != backward else key.expression.asc()


def _behind(keys: list[_SortKey], position: Position) -> ColumnElement[bool]:
    """The rows behind `position` in the order of `keys`, NULLs and mixed directions included."""
    values = [
        None if value is None else cast(bindparam(f"k{number}", type_=Text()), key.expression.type)
        for number, (key, value) in enumerate(zip(keys, position.keys, strict=True))
    ]
    directions = {key.descending for key in keys}
    if len(directions) == 1 and not any(key.nullable for key in keys):
        left, right = tuple_(*(key.expression for key in keys)), tuple_(*values)
        return left < right if keys[0].descending != position.backward else left > right
    alternatives = []
    for number, key in enumerate(keys):
        ties = [_equal(keys[i], values[i]) for i in range(number)]
        alternatives.append(and_(*ties, _after(key, values[number], backward=position.backward)))
    return or_(*alternatives)


def _equal(key: _SortKey, value: Any) -> ColumnElement[bool]:
    return key.expression.is_(None) if value is None else key.expression == value


def _after(key: _SortKey, value: Any, *, backward: bool) -> ColumnElement[bool]:
    if key.descending != backward:
        return key.expression.is_not(None) if value is None else key.expression < value
    if value is None:
        return false()
    return or_(key.expression > value, key.expression.is_(None)) if key.nullable else key.expression > value
