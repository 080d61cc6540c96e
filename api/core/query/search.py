"""What a plan searches for as SQL: the rows that are found, how well each is, and what of it is marked.

Rows with the words come first; where there are few, rows follow whose leading field is like the text. What is searched
for is bound as `q`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from api.core.query.relations import mapper_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import CTE, Select, Subquery

    from api.core.query.plan import TextSearch

Bool = ColumnElement[bool]

KEY = "#key"
RANK_COLUMN = "#rank"
BY_WORDS = "#by_words"
"""The column that tells whether a row was found by its words, or else by likeness."""
_VECTOR = "#vector"
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


class Matches:
    """What `search` finds among the rows of a list: their keys and ranks, and none of what a page shows of them."""

    def __init__(self, model: type[Any], search: TextSearch, rows: Callable[[], Select[Any]]) -> None:
        """`rows` writes the list anew each time: the rows' primary key as `KEY`, and their sort keys."""
        self._search = search
        self._rows = rows
        self._text = bindparam("q", type_=Text())
        declared = model.__search__
        self._rank: Callable[..., ColumnElement[float]] = declared.rank
        self._vector: ColumnElement[Any] = declared.vector(model)
        self._field: ColumnElement[str] = declared.leading(model)
        # As a subquery it is worked out once, where the plan is for any text, and not for each row.
        self._query = select(declared.query(self._text)).scalar_subquery()
        self._has_words = self._vector.bool_op("@@")(self._query)
        self._has_words_of_text = self._vector.bool_op("@@")(declared.query(self._text))

    def found(self) -> Subquery:
        """All that is found, with `RANK_COLUMN` and `BY_WORDS` behind the columns of the list."""
        if self._search.kind == "similar":
            return self._similar().subquery()
        return (self._words() if self._search.kind == "exact" else union_all(self._words(), self._like())).subquery()

    def expected(self) -> Bool:
        """A condition by which the planner can tell how many rows there are.

        Whether likeness counts is not known before the query runs, and so it does not.
        """
        return self._is_similar if self._search.kind == "similar" else self._has_words_of_text

    @cached_property
    def _hits(self) -> CTE:
        """The rows that have the words. They are looked for once, as they are counted before they are ranked."""
        # A query of nothing but exclusions would read all of the index, and rank every row alike.
        searchable = func.querytree(self._query).not_in([literal_column("''"), literal_column("'T'")])
        rows = self._rows().add_columns(self._vector.label(_VECTOR)).where(searchable, self._has_words)
        return rows.cte("hits").prefix_with("MATERIALIZED")

    def _counted_hits(self, most: int) -> ColumnElement[int]:
        """How many rows have the words, counted up to `most`."""
        counted: Select[Any] = select(literal_column("1")).select_from(self._hits).limit(literal_column(str(most)))
        return select(func.count()).select_from(counted.subquery()).scalar_subquery()

    def _words(self) -> Select[Any]:
        exact, rough = (self._rank(self._hits.c[_VECTOR], self._query, nearness=near) for near in (True, False))
        # Above any likeness.
        rank = 1 + case((self._counted_hits(MANY + 1) > literal_column(str(MANY)), rough), else_=exact)
        columns = [column for column in self._hits.c if column.key != _VECTOR]
        return _ranked(select(*columns), rank, by_words=True)

    def _like(self) -> Select[Any]:
        is_few = self._counted_hits(FEW) < literal_column(str(FEW))
        is_like = self._text.bool_op("<%")(self._field)
        rows = self._rows().where(is_few, self._has_trigrams, not_(self._has_words), is_like)
        return _ranked(rows, cast(func.word_similarity(self._text, self._field), Double), by_words=False)

    def _similar(self) -> Select[Any]:
        likeness = cast(func.similarity(self._field, self._text), Double)
        return _ranked(self._rows().where(self._is_similar), likeness, by_words=False)

    @property
    def _is_similar(self) -> Bool:
        return and_(self._has_trigrams, self._field.bool_op("%")(self._text))

    @property
    def _has_trigrams(self) -> Bool:
        """Without any, all of the index would be read, for nothing."""
        return func.cardinality(func.show_trgm(self._text)) > 0


def _ranked(rows: Select[Any], rank: ColumnElement[float], *, by_words: bool) -> Select[Any]:
    told: ColumnElement[bool] = literal_column(str(by_words))
    return rows.add_columns(rank.label(RANK_COLUMN), told.label(BY_WORDS))


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
