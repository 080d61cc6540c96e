"""What a plan searches for as SQL: the rows that are found, how well each is, and what of it is marked.

Rows with the words come first; where there are few, rows follow whose leading field is like the text. What is searched
for is bound as `q`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Double, Text, and_, bindparam, case, cast, func, literal_column, not_, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from api.core.query.relations import mapper_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import CTE, Select

    from api.core.query.plan import TextSearch

Bool = ColumnElement[bool]

BY_WORDS = "#by_words"
"""The column that tells whether a row was found by its words, or else by likeness."""
FEW = 5
"""Where fewer rows than these have the words, typing errors are forgiven."""
MANY = 5_000
"""Where more rows than these have the words, it does not count how near to one another the words stand."""
_WHOLE_LENGTH_MAX = 255
"""A column that can be longer is shown by a passage."""
_HEADLINE = "StartSel=<mark>, StopSel=</mark>"
# In this order: an ampersand that stands for another character must not be replaced itself.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_PIECES = r"\w+|\W+"


@dataclass(frozen=True)
class Match:
    """Rows that are found in one way, and the rank of each."""

    condition: Bool
    rank: ColumnElement[float]
    by_words: bool


class Matches:
    """What `search` finds among the rows of `model` that meet the other conditions."""

    def __init__(self, model: type[Any], search: TextSearch, others: Callable[[], list[Bool]]) -> None:
        """`others` writes the other conditions anew each time."""
        self._model = model
        self._search = search
        self._others = others
        self._declared = model.__search__
        self._text = bindparam("q", type_=Text())

    def ways(self) -> list[Match]:
        """The ways to be found, which have no row in common."""
        if self._search.kind == "similar":
            return [self._similar()]
        return [self._words()] if self._search.kind == "exact" else [self._words(), self._like()]

    @cached_property
    def _query(self) -> ColumnElement[Any]:
        return self._declared.query(self._text)  # type: ignore[no-any-return]

    @cached_property
    def _has_words(self) -> Bool:
        return self._declared.vector(self._model).bool_op("@@")(self._query)  # type: ignore[no-any-return]

    @cached_property
    def _field(self) -> ColumnElement[str]:
        return self._declared.leading(self._model)  # type: ignore[no-any-return]

    @property
    def _has_trigrams(self) -> Bool:
        """Without any, all of the index would be read, for nothing."""
        return func.cardinality(func.show_trgm(self._text)) > 0

    def _words(self) -> Match:
        # A query of nothing but exclusions would read all of the index, and rank every row alike.
        searchable = func.querytree(self._query).not_in([literal_column("''"), literal_column("'T'")])
        exact, rough = (self._declared.rank(self._model, self._query, nearness=near) for near in (True, False))
        # Above any likeness.
        rank = 1 + case((self._hits(MANY + 1) > literal_column(str(MANY)), rough), else_=exact)
        return Match(and_(searchable, self._has_words), rank, by_words=True)

    def _like(self) -> Match:
        is_few = self._hits(FEW) < literal_column(str(FEW))
        is_like = self._text.bool_op("<%")(self._field)
        likeness = cast(func.word_similarity(self._text, self._field), Double)
        return Match(and_(is_few, self._has_trigrams, not_(self._has_words), is_like), likeness, by_words=False)

    def _hits(self, most: int) -> ColumnElement[int]:
        """How many rows have the words, counted up to `most`."""
        counted: Select[Any] = (
            select(literal_column("1")).select_from(self._rows_with_words).limit(literal_column(str(most)))
        )
        return select(func.count()).select_from(counted.subquery()).scalar_subquery()

    @cached_property
    def _rows_with_words(self) -> CTE:
        """Materialized, so that it is planned for all of them, and not for the first few."""
        rows: Select[Any] = select(literal_column("1").label("hit")).select_from(self._model)
        return rows.where(*self._others(), self._has_words).cte("hits").prefix_with("MATERIALIZED")

    def _similar(self) -> Match:
        is_like = and_(self._has_trigrams, self._field.bool_op("%")(self._text))
        return Match(is_like, cast(func.similarity(self._field, self._text), Double), by_words=False)


class Highlights:
    """The fields that are searched, with what was found in `<mark>`; all else is escaped, so that it is safe as HTML.

    `names` tells the attributes that are searched, and what they are called in the answer.
    """

    def __init__(self, model: type[Any], names: Mapping[str, str]) -> None:
        self._model = model
        self._names = names
        self._declared = model.__search__
        self._text = bindparam("q", type_=Text())

    def json(self, column_of: Callable[[str], ColumnElement[Any]]) -> ColumnElement[Any]:
        """The JSON object of one row; `column_of` finds an attribute of it."""
        cells = [self._marked(attribute, column_of).label(name) for attribute, name in self._names.items()]
        row = select(*cells).correlate(column_of(BY_WORDS).table).subquery()
        return select(func.row_to_json(row.table_valued())).scalar_subquery()

    def _marked(self, attribute: str, column_of: Callable[[str], ColumnElement[Any]]) -> ColumnElement[Any]:
        column = column_of(attribute)
        by_words = self._headline(attribute, column)
        if attribute != self._declared.fields[0]:
            return by_words
        return case((column_of(BY_WORDS), by_words), else_=self._like_words(column))

    def _headline(self, attribute: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
        length = getattr(mapper_of(self._model).columns[attribute].type, "length", None)
        whole = length is not None and length <= _WHOLE_LENGTH_MAX
        options: ColumnElement[str] = literal_column(f"'{_HEADLINE}{', HighlightAll=true' if whole else ''}'")
        return func.ts_headline(self._declared.config, _escaped(column), self._declared.query(self._text), options)

    def _like_words(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The text with each word marked that is like the text that is searched for, or a part of it."""
        pieces = (
            func.regexp_matches(column, literal_column(f"'{_PIECES}'"), literal_column("'g'"), type_=ARRAY(Text))
            .table_valued("piece", with_ordinality="place")
            .render_derived()
        )
        piece: ColumnElement[str] = func.array_to_string(pieces.c.piece, literal_column("''"))
        is_like = or_(piece.bool_op("<%")(self._text), self._text.bool_op("<%")(piece))
        mark = literal_column("'<mark>'").concat(_escaped(piece)).concat(literal_column("'</mark>'"))
        marked = case((is_like, mark), else_=_escaped(piece))
        joined = func.string_agg(marked, aggregate_order_by(literal_column("''"), pieces.c.place))
        return select(joined).select_from(pieces).scalar_subquery()


def _escaped(text: ColumnElement[Any]) -> ColumnElement[Any]:
    for character, entity in _ENTITIES.items():
        text = func.replace(text, literal_column(_quoted(character)), literal_column(_quoted(entity)))
    return text


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
