"""Rows as a file has them: the JSON of `row_json` as a line, or each field as a text of its own.

Bytes are those of `row_json`, at a lower price for many rows: `row_to_json` makes a record of each row, and looks its
types up for each. Forms of times rely on `DATE_STYLE`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    Cast,
    Integer,
    Numeric,
    String,
    Text,
    Uuid,
    case,
    cast,
    func,
    literal,
    literal_column,
)

from api.core.query.projection import attribute_of, cells_of, dumped_fields, is_embed, sql_form
from api.core.query.relations import is_nullable, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from marshmallow import Schema
    from marshmallow.fields import Field
    from sqlalchemy import ColumnElement, FromClause, Label

    from api.core.query.projection import Shown

    SQLForm = Callable[[Any, ColumnElement[Any]], ColumnElement[Any]]
    TextForm = Callable[[ColumnElement[Any]], ColumnElement[Any]]

_ARGUMENTS_MAX = 98
"""Of a function, an even number (PostgreSQL documentation, Appendix K: 100)."""
_WRITTEN_AS_TEXT = (String, Integer, Numeric, Uuid, JSON)
"""Not booleans, for one: COPY writes `t` where a cast gives `true`."""
_WRITTEN_AS_JSON = (Integer, JSON)
_NULL: ColumnElement[Any] = literal_column("'null'::json")
_TEXT = "#text_{}"

DATE_STYLE = "ISO"
"""What `DateStyle` has to be for the statement of a file."""

_text_forms: dict[SQLForm, TextForm] = {}


def in_files(form: SQLForm) -> Callable[[TextForm], TextForm]:
    """Let the decorated function write in files what `form` writes, of the value alone, with `DATE_STYLE`.

    The texts must have nothing in them that JSON escapes.
    """

    def register(text_form: TextForm) -> TextForm:
        _text_forms[form] = text_form
        return text_form

    return register


def file_form(field: Field[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What `sql_form` writes, in the form for files where there is one; of a field with a form of its own, that."""
    text_form = _text_form(field)
    return sql_form(field, column) if text_form is None else text_form(column)


class FileRows:
    """The fields of one kind of row.

    Of dates that a row has several of, most are equal, as in a row that was never changed. So the text of the first is
    one of the `shared_texts` that `source` has to offer, worked out once, and the others are compared with it.
    """

    def __init__(self, schema: Schema, model: type) -> None:
        self._schema = schema
        self._model = model
        self._leaders = _leaders(schema, model)

    @property
    def shared_texts(self) -> list[Label[Any]]:
        """Columns to be worked out in a subquery of their own."""
        names = dict.fromkeys(self._leaders.values())
        fields = {attribute_of(field): field for field in dumped_fields(self._schema).values()}
        return [file_form(fields[name], getattr(self._model, name)).label(_TEXT.format(name)) for name in names]

    def lines(self, source: FromClause, shown: Shown) -> tuple[ColumnElement[Any], FromClause]:
        """The JSON of one row of `source`, and `source` joined with what it needs."""
        cells, joined = self._cells(source, shown)
        pieces: list[ColumnElement[Any]] = []
        text = "{"
        for cell, field in zip(cells, dumped_fields(self._schema).values(), strict=True):
            value, is_quoted = self._json_of(field, cell.element)
            quote = '"' if is_quoted else ""
            pieces += literal(f"{text}{json.dumps(cell.name, ensure_ascii=False)}:{quote}"), value
            text = f"{quote},"
        pieces.append(literal(f"{text.removesuffix(',')}}}"))
        parts = [func.concat(*pieces[at : at + _ARGUMENTS_MAX]) for at in range(0, len(pieces), _ARGUMENTS_MAX)]
        return parts[0] if len(parts) == 1 else func.concat(*parts), joined

    def texts(
        self, source: FromClause, shown: Shown, wrap: Callable[[Field[Any], ColumnElement[Any]], ColumnElement[Any]]
    ) -> tuple[list[ColumnElement[Any]], FromClause]:
        """Each field apart, as the text that stands in the JSON, unquoted; a null is NULL.

        A single related row is taken apart, too, and its fields are labelled as a path: `category.name`. `wrap` has the
        last word on each text.
        """
        cells, joined = self._cells(source, shown)
        texts: list[ColumnElement[Any]] = []
        for cell, field in zip(cells, dumped_fields(self._schema).values(), strict=True):
            if is_embed(field) and not field.many:  # type: ignore[attr-defined]
                texts += _taken_apart(field, cell.element, cell.name, wrap)
            else:
                texts.append(wrap(field, _text_of(cell.element)).label(cell.name))
        return texts, joined

    def _cells(self, source: FromClause, shown: Shown) -> tuple[list[Label[Any]], FromClause]:
        def form(field: Field[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
            leader = self._leaders.get(attribute_of(field))
            if leader is None:
                return file_form(field, column)
            text = source.c[_TEXT.format(leader)]
            if leader == attribute_of(field):
                return text
            return case((column == source.c[leader], text), else_=file_form(field, column))

        cells, joined, _ = cells_of(self._schema, self._model, source, source.c.__getitem__, shown, form)
        return cells, joined

    def _json_of(self, field: Field[Any], value: ColumnElement[Any]) -> tuple[ColumnElement[Any], bool]:
        """What to write for a field, and whether it has yet to be put between quotes."""
        if is_embed(field):
            return func.coalesce(value, _NULL), False
        if is_nullable(self._model, attribute_of(field)):
            return func.coalesce(func.to_json(value), _NULL), False
        if isinstance(value.type, _WRITTEN_AS_JSON):
            return value, False
        plain = _text_of(value)
        if _text_form(field) is not None or not isinstance(plain.type, String):
            return plain, True
        return func.to_json(value), False


def _leaders(schema: Schema, model: type) -> Mapping[str, str]:
    """The attributes that have a form for files and a type in common, each with the first of its kind."""
    groups: defaultdict[tuple[Any, str], list[str]] = defaultdict(list)
    for field in dumped_fields(schema).values():
        text_form = None if is_embed(field) else _text_form(field)
        if text_form is not None:
            attribute = attribute_of(field)
            groups[text_form, repr(type_of(model, attribute))].append(attribute)
    return {name: group[0] for group in groups.values() if len(group) > 1 for name in group}


def _text_form(field: Field[Any]) -> TextForm | None:
    return _text_forms.get(sql_form.dispatch(type(field)))


def _text_of(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """`value` as COPY has to write it: most types are what their cast to text is, and the cast takes time."""
    if isinstance(value, Cast) and isinstance(value.clause.type, _WRITTEN_AS_TEXT) and type(value.type) is Text:
        return value.clause
    return value if isinstance(value.type, _WRITTEN_AS_TEXT) else cast(value, Text)


def _taken_apart(
    field: Any,
    document: ColumnElement[Any],
    name: str,
    wrap: Callable[[Field[Any], ColumnElement[Any]], ColumnElement[Any]],
) -> list[ColumnElement[Any]]:
    """The fields of the JSON object `document` as texts."""
    texts: list[ColumnElement[Any]] = []
    for inner_name, inner in dumped_fields(field.schema).items():
        label = f"{name}.{inner_name}"
        if is_embed(inner) and not inner.many:  # type: ignore[attr-defined]
            inside = document.op("->", return_type=JSON())(literal(inner_name, Text()))
            texts += _taken_apart(inner, inside, label, wrap)
        else:
            text = document.op("->>", return_type=Text())(literal(inner_name, Text()))
            texts.append(wrap(inner, text).label(label))
    return texts
