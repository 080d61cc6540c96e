"""What is recorded of a row, in the form in which its resource's schema shows the row."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    inspect,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.types import JSON, Numeric, String

from api.core.database.history import History, recorded_attributes
from api.core.database.mixins import SoftDeleteMixin
from api.core.errors import invalid_field
from api.core.query.collection import Collection
from api.core.query.plan import Filter
from api.core.query.projection import attribute_of, dumped_fields, is_embed, sql_form
from api.core.query.relations import granted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from marshmallow import Schema, fields
    from sqlalchemy.orm import Session
    from sqlalchemy.types import TypeEngine

    from api.core.access.grants import Grant
    from api.core.query.plan import Deleted

# Every change moves them, and the entry itself tells what they became.
_BOOKKEEPING = frozenset({"updated_at", "version"})
_SCOPE: dict[tuple[str, ...], tuple[str, ...]] = {("table_name",): ("table_name",), ("row_id",): ("row_id",)}
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed


class HistoryCollection(Collection):
    """The entries of one model's rows, to which a plan is narrowed by `scope()`."""

    def attributes_of(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Also what a client cannot name: of which row the entries are."""
        return _SCOPE.get(path) or super().attributes_of(path)


def scope(model: type, key: Any) -> tuple[Filter, ...]:
    """The conditions that leave the entries of the row with this key."""
    table = str(inspect(model, raiseerr=True).local_table.name)
    return (Filter(("table_name",), "eq", (table,)), Filter(("row_id",), "eq", (str(key),)))


# -- what an entry shows ----------------------------------------------------------------------------------------------


def changes_json(
    states: ColumnElement[Any], schema: Schema, model: type, hidden: frozenset[str] = frozenset()
) -> ColumnElement[Any]:
    """An object of the public fields that differ between the two `states` of a row: `{"name": {"old": …, "new": …}}`.

    Left out are the fields in `hidden`, and `version` and `updated_at`, which every change moves.
    """
    old, new = (states.op("->", return_type=JSONB())(literal_column(place)) for place in ("0", "1"))
    cells = []
    for name, field, column in _shown_columns(schema, model):
        if column in _BOOKKEEPING or name in hidden:
            continue
        before, after = (_json_text(field, _value(state, model, column)) for state in (old, new))
        key = _text(f'{json.dumps(name)}:{{"old":')
        cell = func.concat(key, before, _text(',"new":'), after, _text("}"))
        cells.append(case((_member(old, column).is_distinct_from(_member(new, column)), cell)))
    return cast(func.concat(_text("{"), func.concat_ws(_text(","), *cells), _text("}")), JSON)


def _shown_columns(schema: Schema, model: type) -> Iterator[tuple[str, fields.Field[Any], str]]:
    """The fields of `schema` that show what is recorded: public name, field, column."""
    recorded = recorded_attributes(model)
    for name, field in dumped_fields(schema).items():
        if not is_embed(field) and attribute_of(field) in recorded:
            yield name, field, recorded[attribute_of(field)]


def _value(state: ColumnElement[Any], model: type, column: str) -> ColumnElement[Any]:
    """The value of `column` in a recorded row, as it was: not cut to the length or precision of today's type."""
    type_: TypeEngine[Any] = inspect(model, raiseerr=True).local_table.columns[column].type
    if isinstance(type_, JSON):
        return state.op("->", return_type=type_)(_text(column))
    if isinstance(type_, String):
        return _member(state, column)
    if type(type_) is Numeric:
        type_ = Numeric()
    return cast(_member(state, column), type_)


def _member(state: ColumnElement[Any], column: str) -> ColumnElement[Any]:
    return state.op("->>", return_type=Text())(_text(column))


def _json_text(field: fields.Field[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(cast(func.to_json(sql_form(field, value)), Text), _text("null"))


def _text(value: str) -> ColumnElement[str]:
    """A literal: the statement is built once for each shape, and these texts are all ours."""
    quoted = value.replace("'", "''")
    return literal_column(f"'{quoted}'", Text())


# -- whether there is such a row --------------------------------------------------------------------------------------


@cache
def visible(model: type, deleted: Deleted, grant: Grant) -> str:
    """The SQL condition under which a row's history is shown, with the parameters of `visible_values()`.

    It is shown where the row itself would be, if `grant` opens it; of a row that is gone altogether, where deleted ones
    are, and to whom all are open, since nobody can tell any more whose it was.
    """
    key: Any = inspect(model, raiseerr=True).primary_key[0]
    here = exists().where(key == bindparam("row_key", type_=key.type), *granted(model, grant))
    recorded: ColumnElement[bool] = false()
    if grant.everything:
        recorded = exists().where(History.table_name == bindparam("row_table"), History.row_id == bindparam("row_text"))
    condition: ColumnElement[bool]
    if not issubclass(model, SoftDeleteMixin) or deleted == "include":
        condition = here | recorded
    elif deleted == "only":
        condition = here.where(model.deleted_at.is_not(None)) | and_(~here, recorded)
    else:
        condition = here.where(model.deleted_at.is_(None))
    return str(condition.compile(dialect=_DIALECT))


def visible_values(model: type, key: Any) -> dict[str, Any]:
    """The parameters of `visible()`."""
    return {"row_key": key, "row_table": inspect(model, raiseerr=True).local_table.name, "row_text": str(key)}


# -- going back -------------------------------------------------------------------------------------------------------


def recorded_values(
    session: Session, model: type, schema: Schema, key: Any, *, version: int | None = None, entry: int | None = None
) -> dict[str, Any]:
    """What the public fields of a row were at a version, or behind an entry of its history, as JSON has them.

    Columns that were not recorded then are left out.

    Raises:
        InvalidError: when this is not in the history of the row.
    """
    chosen = History.version == version if entry is None else History.id == entry
    columns = [*_shown_columns(schema, model)]
    cells = [sql_form(field, _value(History.new, model, column)).label(name) for name, field, column in columns]  # type: ignore[arg-type]
    row = select(*cells).correlate(History).lateral()
    found = session.execute(
        select(History.new, func.row_to_json(row.table_valued()))
        .join_from(History, row, true())
        .where(*_entries_of(model, key), chosen)
        .order_by(History.id.desc())
        .limit(1)
    ).one_or_none()
    if found is None or found[0] is None:
        raise invalid_field(*_not_recorded(session, model, key, version, entry))
    return {name: found[1][name] for name, _, column in columns if column in found[0]}


def _entries_of(model: type, key: Any) -> tuple[ColumnElement[bool], ...]:
    values = visible_values(model, key)
    return History.table_name == values["row_table"], History.row_id == values["row_text"]


def _not_recorded(session: Session, model: type, key: Any, version: int | None, entry: int | None) -> tuple[str, str]:
    """The field of the body that is wrong, and why."""
    if entry is not None:
        return "entry", f"There is no entry {entry} in this history that the row could go back to."
    first, last = session.execute(
        select(func.min(History.version), func.max(History.version)).where(
            *_entries_of(model, key), History.new.is_not(None)
        )
    ).one()
    if first is None:
        return "version", "No version of this row is in the history."
    if version is not None and version < first:
        return "version", f"Version {version} is no longer in the history, which goes back to version {first}."
    return "version", f"There is no version {version} in the history; the newest is {last}."
