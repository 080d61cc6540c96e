"""A marshmallow schema as SQL: the JSON of a row, written by PostgreSQL exactly as the schema's `dump` writes it."""

from __future__ import annotations

from functools import singledispatch
from itertools import count
from typing import TYPE_CHECKING, Any

from marshmallow import fields
from sqlalchemy import (
    Label,
    Text,
    UnaryExpression,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, array

from api.core.query.relations import (
    attribute_name,
    expression_of,
    mapper_of,
    related_model,
    related_rows,
    relationship_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from marshmallow import Schema
    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.orm import RelationshipProperty
    from sqlalchemy.sql.selectable import LateralFromClause

    from api.core.access.visibility import Visibility
    from api.core.query.documents import Excerpt, Tree


class NoSQLFormError(TypeError):
    """A schema has a field that only Python can dump."""

    def __init__(self, field: fields.Field[Any]) -> None:
        super().__init__(
            f"{type(field.parent).__name__}.{field.name} is a {type(field).__name__} that PostgreSQL cannot write: "
            "show a column or a hybrid_property of the model; of a field type of your own, register the SQL with "
            "api.core.query.projection.sql_form.register"
        )


@singledispatch
def sql_form(field: fields.Field[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What PostgreSQL has to put into the row's JSON for `field`, whose value is in `column`.

    Raises:
        NoSQLFormError: for a field that only Python can dump.
    """
    del column
    raise NoSQLFormError(field)


@sql_form.register(fields.String)
@sql_form.register(fields.Integer)
@sql_form.register(fields.Float)
@sql_form.register(fields.Boolean)
@sql_form.register(fields.UUID)
@sql_form.register(fields.Date)
@sql_form.register(fields.Raw)
def _as_it_is(field: fields.Field[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """PostgreSQL's own JSON of these types is what marshmallow dumps, unless a subclass dumps something else."""
    registered: Any = next(base for base in type(field).__mro__ if base in sql_form.registry)
    if type(field)._serialize is not registered._serialize:  # noqa: SLF001 - marshmallow's documented extension point
        raise NoSQLFormError(field)
    if getattr(field, "as_string", False):
        if not isinstance(field, fields.Integer):
            raise NoSQLFormError(field)
        return cast(column, Text)
    return column


def check_forms(schema: Schema, model: type) -> None:
    """Find out early whether PostgreSQL can write every field of `schema`; embeds are not looked into.

    Raises:
        NoSQLFormError: for the first one that only Python can dump.
    """
    for field in dumped_fields(schema).values():
        if is_embed(field):
            continue
        expression = expression_of(model, attribute_of(field))
        if expression is None:
            raise NoSQLFormError(field)
        sql_form(field, expression)  # type: ignore[arg-type]  # an attribute stands for its expression


def is_embed(field: fields.Field[Any]) -> bool:
    """Whether `field` embeds a related resource."""
    return isinstance(field, fields.Nested)


def dumped_fields(schema: Schema) -> dict[str, fields.Field[Any]]:
    """The fields that `schema` writes, under the names it writes them with, in their order."""
    return {str(field.data_key or name): field for name, field in schema.dump_fields.items()}


def attribute_of(field: fields.Field[Any]) -> str:
    """The model's attribute that `field` shows."""
    return str(field.attribute or field.name)


def needed_attributes(schema: Schema, model: type) -> set[str]:
    """Attributes of `model` that a row's JSON is made of; for an embed, the columns that lead there."""
    needed: set[str] = set()
    for field in dumped_fields(schema).values():
        if is_embed(field):
            columns = relationship_of(model, attribute_of(field)).local_columns
            needed |= {attribute_name(mapper_of(model), column) for column in columns}
        else:
            needed.add(attribute_of(field))
    return needed


class Shown:
    """What is shown of rows: of embedded ones those in sight, and parts of documents.

    Excerpts are in the plan's order, so that their n-th key is bound as `fN`.
    """

    def __init__(self, visibility: Visibility, excerpts: Sequence[Excerpt] = (), place: str = "") -> None:
        """`place` is the embed in which names are looked up, with a dot behind it."""
        self.visibility = visibility
        self._place = place
        self._keys: dict[str, list[_Key]] = {}
        numbers = count()
        for excerpt in excerpts:
            self._keys[excerpt.name] = _numbered(excerpt.tree, numbers)

    def inside(self, embed: str) -> Shown:
        """The same, for the fields of `embed`."""
        inner = Shown(self.visibility, place=f"{self._place}{embed}.")
        inner._keys = self._keys
        return inner

    def of(self, name: str, document: ColumnElement[Any]) -> ColumnElement[Any]:
        """`document`, which is the field `name`, or the part of it that is wanted; NULL stays NULL."""
        keys = self._keys.get(f"{self._place}{name}")
        if keys is None:
            return document
        return case((document.is_not(None), func.coalesce(_picked(document, keys), _EMPTY)))


_Key = tuple[int, list["_Key"]]
_EMPTY: ColumnElement[Any] = literal_column("'{}'::jsonb", JSONB)


def _numbered(tree: Tree, numbers: Iterator[int]) -> list[_Key]:
    return [(next(numbers), _numbered(below, numbers)) for below in tree.values()]


def _picked(value: ColumnElement[Any], keys: Sequence[_Key]) -> ColumnElement[Any]:
    """An object with those of `keys` that the object `value` has; NULL where it has none of them, or is no object."""
    picked: ColumnElement[Any] = _EMPTY
    for number, below in keys:
        key = cast(bindparam(f"f{number}", type_=Text()), Text)
        found = value.op("->", return_type=JSONB())(key)
        # It gives NULL for NULL, where jsonb_build_object would give a null.
        member = func.jsonb_set(_EMPTY, array([key]), _picked(found, below) if below else found, type_=JSONB())
        picked = picked.op("||", return_type=JSONB())(func.coalesce(member, _EMPTY))
    return func.nullif(picked, _EMPTY, type_=JSONB())


def row_json(
    schema: Schema,
    model: type,
    source: FromClause,
    column_of: Callable[[str], ColumnElement[Any]],
    shown: Shown,
    extra: Iterable[ColumnElement[Any]] = (),
) -> tuple[ColumnElement[Any], FromClause]:
    """The JSON expression of one row of `source`, and `source` joined with what the expression needs.

    `column_of` finds an attribute of `model` in `source`; `extra` are labelled expressions to add at the end.
    """
    cells, joined, used = cells_of(schema, model, source, column_of, shown)
    row = select(*cells, *extra).correlate(*used).lateral()
    return func.row_to_json(row.table_valued()), joined.join(row, true())


def cells_of(
    schema: Schema,
    model: type,
    source: FromClause,
    column_of: Callable[[str], ColumnElement[Any]],
    shown: Shown,
    form: Callable[[fields.Field[Any], ColumnElement[Any]], ColumnElement[Any]] = sql_form,
) -> tuple[list[Label[Any]], FromClause, list[FromClause]]:
    """The fields of one row, `source` joined with what they need, and all that they are taken from.

    `form` makes of a column what is shown; of embedded rows it is always `sql_form`.
    """
    cells: list[Label[Any]] = []
    used: list[FromClause] = [source]
    joined = source
    for name, field in dumped_fields(schema).items():
        if is_embed(field):
            relationship = relationship_of(model, attribute_of(field))
            related = _embedded(field, relationship, source, column_of, shown.inside(name))
            used.append(related)
            joined = joined.outerjoin(related, true())
            cells.append(related.c.j.label(name))
        else:
            cells.append(shown.of(name, form(field, column_of(attribute_of(field)))).label(name))
    return cells, joined, used


def _embedded(
    field: Any,
    relationship: RelationshipProperty[Any],
    referring: FromClause,
    column_of: Callable[[str], ColumnElement[Any]],
    shown: Shown,
) -> LateralFromClause:
    """The rows that one row refers to, as JSON: an object or null for a single one, an array for many."""
    target, rows = related_rows(relationship, column_of, shown.visibility)
    model = related_model(relationship)
    wanted = [getattr(target, name).label(name) for name in sorted(needed_attributes(field.schema, model))]
    ordering = _ordering(relationship, target)
    order = [column.label(f"#order_{number}") for number, (column, _) in enumerate(ordering)]
    picked = rows.with_only_columns(*wanted, *order).correlate(referring)
    if not relationship.uselist:
        picked = picked.limit(1)
    source = picked.lateral()
    expression, joined = row_json(field.schema, model, source, source.c.__getitem__, shown)
    if not relationship.uselist:
        return select(expression.label("j")).select_from(joined).lateral()
    keys = [_directed(source.c[f"#order_{number}"], modifiers) for number, (_, modifiers) in enumerate(ordering)]
    array = func.coalesce(func.json_agg(aggregate_order_by(expression, *keys)), literal_column("'[]'::json"))
    return select(array.label("j")).select_from(joined).lateral()


def _ordering(
    relationship: RelationshipProperty[Any], target: Any
) -> list[tuple[ColumnElement[Any], list[Callable[[Any], Any]]]]:
    """The columns of `target` that the relationship is ordered by, the primary key last, each with its direction."""
    found: dict[str, list[Callable[[Any], Any]]] = {}
    for clause in (*(relationship.order_by or ()), *relationship.entity.primary_key):
        modifiers: list[Callable[[Any], Any]] = []
        column: Any = clause
        while isinstance(column, UnaryExpression) and column.modifier is not None:
            modifiers.insert(0, column.modifier)
            column = column.element
        found.setdefault(attribute_name(relationship.entity, column), modifiers)
    return [(getattr(target, name), modifiers) for name, modifiers in found.items()]


def _directed(column: Any, modifiers: list[Callable[[Any], Any]]) -> Any:
    """`column` with DESC, NULLS FIRST and the like around it, as the relationship has them."""
    for modifier in modifiers:
        column = modifier(column)
    return column
