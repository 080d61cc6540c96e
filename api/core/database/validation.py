"""A column's validators at work: in the ORM's insert and update listeners, and as CHECK constraints of its table."""

from __future__ import annotations

import math
import re
from functools import singledispatch
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from marshmallow import ValidationError, validate
from marshmallow.exceptions import SCHEMA
from sqlalchemy import (
    JSON,
    CheckConstraint,
    ClauseElement,
    Column,
    ColumnElement,
    String,
    and_,
    event,
    func,
    literal_column,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state

from api.core.database.text_rules import Readable
from api.core.database.types import CHECK_DETAIL, VALIDATORS, JSONDocument
from api.core.errors import InvalidError, Violation, pointer_to
from api.core.json_text import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Table


_SURROGATE = re.compile("[\ud800-\udfff]")
_UNREADABLE_NUMBER = "This stored number is too long to be written again; send another one."
_VALIDATED: WeakKeyDictionary[Mapper[Any], list[tuple[str, Column[Any]]]] = WeakKeyDictionary()


def validators_of(column: Column[Any]) -> tuple[Any, ...]:
    """The validators that `column` was declared with."""
    return tuple(column.info.get(VALIDATORS, ()))


@event.listens_for(Mapper, "before_insert")
@event.listens_for(Mapper, "before_update")
def check_row(mapper: Mapper[Any], _connection: Connection, target: object) -> None:
    """Run the validators of every column that is set or changed.

    Raises:
        InvalidError: pointing at each field that breaks a rule.
    """
    state = instance_state(target)
    known, is_stored = state.dict, state.has_identity
    violations = [
        violation
        for key, column in _validated(mapper)
        if key in known and not (is_stored and not state.attrs[key].history.has_changes())
        for violation in _broken_rules(column, known[key])
    ]
    if violations:
        raise InvalidError(violations=violations)


def _validated(mapper: Mapper[Any]) -> list[tuple[str, Column[Any]]]:
    """Attribute names and columns that have rules, worked out once a mapper."""
    if mapper not in _VALIDATED:
        _VALIDATED[mapper] = [
            (attribute.key, column)
            for attribute in mapper.column_attrs
            for column in attribute.columns
            if isinstance(column, Column) and (validators_of(column) or isinstance(column.type, String | JSON))
        ]
    return _VALIDATED[mapper]


def _broken_rules(column: Column[Any], value: object) -> list[Violation]:
    # What SQL is to work out, only SQL can check.
    if value is None or isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
        return []
    return [Violation(message, pointer=pointer_to([column.name, *path])) for path, message in problems(column, value)]


def check_values(mapper: Mapper[Any], values: Mapping[str, Any]) -> None:
    """Run the validators on values for attributes of `mapper`, where no object goes through its listeners.

    Raises:
        InvalidError: pointing at each field that breaks a rule.
    """
    columns = [(values[key], column) for key, column in _validated(mapper) if key in values]
    if violations := [violation for value, column in columns for violation in _broken_rules(column, value)]:
        raise InvalidError(violations=violations)


def problems(column: Column[Any], value: object) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What is wrong with `value` for `column`, and where in it; nothing when it is right."""
    if isinstance(value, str):
        for message in _text_messages(column, value):
            yield (), message
    if isinstance(value, dict):
        yield from ((path, _UNREADABLE_NUMBER) for path in unwritable(value))
    for validator in validators_of(column):
        try:
            validator(value)
        except ValidationError as error:
            yield from flat_messages(error.messages)
        except TypeError:
            # Such as a text where the rule compares with a number; a request never gets this far with one.
            yield (), f"Must be a {column.type.python_type.__name__}."


def _text_messages(column: Column[Any], value: str) -> Iterator[str]:
    length = getattr(column.type, "length", None)
    if length is not None and len(value) > length:
        yield f"Longer than maximum length {length}."
    if "\x00" in value:
        yield "Must not contain the NUL character."
    if not value.isascii() and _SURROGATE.search(value):
        yield "Must not contain a lone surrogate."


def flat_messages(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Marshmallow's nested messages one by one, each with the path to what it is about."""
    if isinstance(content, dict):
        for key, item in content.items():
            # marshmallow's key for the object itself
            yield from flat_messages(item, path if key == SCHEMA else (*path, key))
    elif isinstance(content, list):
        for item in content:
            yield from flat_messages(item, path)
    else:
        yield path, str(content)


@event.listens_for(Mapper, "instrument_class")
def add_check_constraints(mapper: Mapper[Any], _model: type) -> None:
    """Give the model's table a named CHECK for every rule that SQL can express."""
    table = mapper.local_table
    for column in getattr(table, "columns", ()):
        if column.type is JSONDocument:
            is_object = func.jsonb_typeof(column) == literal_column("'object'")
            _add_check(table, column, "object", is_object, "Must be a JSON object.")  # type: ignore[arg-type]
        for validator in validators_of(column):
            condition = as_sql(validator, column)
            if condition is not None:
                name = type(validator).__name__.lower()
                _add_check(table, column, name, condition, _describe(validator))  # type: ignore[arg-type]


def _add_check(table: Table, column: Column[Any], rule: str, condition: ColumnElement[bool], detail: str) -> None:
    name = f"{column.name}_{rule}"
    if any(getattr(existing, "info", {}).get("check") == name for existing in table.constraints):
        return
    info = {"check": name, "fields": [column.name], CHECK_DETAIL: detail}
    table.append_constraint(CheckConstraint(condition, name=name, info=info))


@singledispatch
def as_sql(validator: Any, column: Column[Any]) -> ColumnElement[bool] | None:
    """The condition that `validator` sets on `column`, or None where SQL has no same words for it."""
    del validator, column
    return None


@as_sql.register
def _range(validator: validate.Range, column: Column[Any]) -> ColumnElement[bool] | None:
    bounds = []
    if validator.min is not None:
        bounds.append(column >= validator.min if validator.min_inclusive else column > validator.min)
    if validator.max is not None:
        bounds.append(column <= validator.max if validator.max_inclusive else column < validator.max)
    return and_(*bounds) if bounds else None


@as_sql.register
def _length(validator: validate.Length, column: Column[Any]) -> ColumnElement[bool] | None:
    if not isinstance(column.type, String):
        return None
    bounds = []
    if validator.min:
        bounds.append(func.char_length(column) >= validator.min)
    # The column's own VARCHAR(n) says this already.
    if validator.max is not None and validator.max < (getattr(column.type, "length", None) or math.inf):
        bounds.append(func.char_length(column) <= validator.max)
    return and_(*bounds) if bounds else None


@as_sql.register
def _one_of(validator: validate.OneOf, column: Column[Any]) -> ColumnElement[bool] | None:
    return column.in_(list(validator.choices))


@as_sql.register
def _readable(validator: Readable, column: Column[Any]) -> ColumnElement[bool] | None:
    shown, hidden = validator.sql_patterns
    matches = column.op("~")(literal_column(f"'{shown}'"))
    return matches if hidden is None else and_(matches, column.op("!~")(literal_column(f"'{hidden}'")))


def _describe(validator: Any) -> str:
    if isinstance(validator, Readable):
        return validator.message
    if isinstance(validator, validate.OneOf):
        return f"Must be one of: {', '.join(map(str, validator.choices))}."
    if isinstance(validator, validate.Range):
        low = f"at least {validator.min}" if validator.min is not None else ""
        high = f"at most {validator.max}" if validator.max is not None else ""
        return f"Must be {' and '.join(part for part in (low, high) if part)}."
    return "This value is not allowed."
