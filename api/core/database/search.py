"""Full-text search, declared on a model: what makes it possible in the database, and how Python asks for it.

    class Product(IntIDModel, db.Model):
        __search__ = Search("name", "description")

gives the table a stored `tsvector` of the two columns, a GIN index on it, and a trigram index on the first column, in
which words with typing errors are looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Computed,
    Double,
    Index,
    Select,
    String,
    Table,
    cast,
    event,
    func,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, TSVECTOR
from sqlalchemy.orm import Mapper

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData
    from sqlalchemy.orm import InstrumentedAttribute

M = TypeVar("M")

SEARCH = "search"
"""Where the metadata's `info` names the tables that are searched."""
VECTOR = "search_vector"
"""The stored `tsvector`. It is a column of the table, and no attribute of the model: no object loads it."""
TRIGRAMS = "pg_trgm"
CREATE_EXTENSION = f"CREATE EXTENSION IF NOT EXISTS {TRIGRAMS}"
# Stays where others need it, or have made it.
DROP_EXTENSION = f"""
DO $$
BEGIN
    DROP EXTENSION IF EXISTS {TRIGRAMS};
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
    NULL;
END
$$
""".strip()

_WEIGHTS = "ABCD"
_LANGUAGE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
# Divided by the logarithm of the document's length: a word says less of a long text.
_NORMALIZATION = 1
_PREPARER = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Search:
    """`Search("name", "description")`: what full-text search finds rows by.

    `weights` holds a letter from A to D for each field: how much a word counts there, 1.0, 0.4, 0.2 or 0.1. Words are
    reduced to their stems as in `language`, one of PostgreSQL's text search configurations; `simple` reduces nothing.
    """

    fields: tuple[str, ...]
    weights: str
    language: str

    def __init__(self, *fields: str, weights: str = _WEIGHTS, language: str = "english") -> None:
        """Declare it.

        Raises:
            ValueError: for no field, too few or unknown weights, or what cannot be a language.
        """
        weights = weights[: len(fields)]
        if not fields or len(weights) < len(fields) or not set(weights) <= set(_WEIGHTS):
            message = f"search in {fields} needs a weight from A to D for each field, not {weights!r}"
            raise ValueError(message)
        if not _LANGUAGE.fullmatch(language):
            message = f"{language!r} is no text search configuration"
            raise ValueError(message)
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "language", language)

    def vector(self, model: type[Any]) -> ColumnElement[Any]:
        """The stored `tsvector` of `model`'s rows."""
        vector: ColumnElement[Any] = model.__table__.c[VECTOR]
        return vector

    def leading(self, model: type[Any]) -> InstrumentedAttribute[str]:
        """The field whose trigrams are indexed: the first."""
        attribute: InstrumentedAttribute[str] = getattr(model, self.fields[0])
        return attribute

    @property
    def config(self) -> ColumnElement[Any]:
        """The text search configuration, as an argument of PostgreSQL's functions."""
        return literal_column(f"'{self.language}'::regconfig", REGCONFIG())

    def query(self, text: Any) -> ColumnElement[Any]:
        """The `tsquery` of `text` as people write it: words, `"a phrase"`, `or`, and `-` before what is not wanted."""
        return func.websearch_to_tsquery(self.config, text, type_=TSQUERY())

    def rank(
        self, vector: ColumnElement[Any], query: ColumnElement[Any], *, nearness: bool = True
    ) -> ColumnElement[float]:
        """How well a row with this `vector` meets `query`: by the words' weights, and how near they are to one another.

        Without `nearness` it takes a quarter of the time.
        """
        function = func.ts_rank_cd if nearness else func.ts_rank
        return cast(function(vector, query, _NORMALIZATION), Double)

    def expression(self, columns: list[Column[Any]]) -> str:
        """The `tsvector` of a row, in the words in which PostgreSQL repeats it: autogenerate compares them."""
        parts = zip(columns, self.weights, strict=True)
        return " || ".join(
            f"setweight(to_tsvector('{self.language}'::regconfig, {_text_of(column)}), '{weight}'::\"char\")"
            for column, weight in parts
        )


def _text_of(column: Column[Any]) -> str:
    name = _PREPARER.quote(column.name)
    type_ = column.type.compile(postgresql.dialect()).partition("(")[0].lower()  # type: ignore[no-untyped-call]
    type_ = "character varying" if type_ == "varchar" else type_
    filled = f"COALESCE({name}, ''::{type_})" if column.nullable else name
    return filled if type_ == "text" else f"({filled})::text"


# -- in the database --------------------------------------------------------------------------------------------------


@event.listens_for(Mapper, "after_mapper_constructed")
def add_to_table(mapper: Mapper[Any], model: type) -> None:
    """Give the table of a model with `__search__` the vector and its indexes; the model gets no attribute of it.

    Raises:
        TypeError: for a field that is no column of text.
    """
    search: Search | None = model.__dict__.get("__search__")
    table = mapper.local_table
    if search is None or not isinstance(table, Table) or VECTOR in table.c:
        return
    columns = [_column_of(mapper, field) for field in search.fields]
    # Not in the table's own info, which autogenerate would write into the migration.
    table.metadata.info.setdefault(SEARCH, set()).add(table.key)
    table.append_column(Column(VECTOR, TSVECTOR(), Computed(search.expression(columns), persisted=True)))
    Index(f"ix_{table.name}_{VECTOR}", table.c[VECTOR], postgresql_using="gin")
    first = columns[0]
    Index(
        f"ix_{table.name}_{first.name}_trigrams",
        first,
        postgresql_using="gin",
        postgresql_ops={first.name: "gin_trgm_ops"},
    )


def _column_of(mapper: Mapper[Any], field: str) -> Column[Any]:
    column = mapper.columns.get(field)
    if column is None or not isinstance(column.type, String):
        message = f"{mapper.class_.__name__} cannot be searched by {field!r}, which is no column of text"
        raise TypeError(message)
    return column


def needs_extension(metadata: MetaData) -> bool:
    """Whether a model is searched, and so `pg_trgm` is needed."""
    return bool(metadata.info.get(SEARCH))


@event.listens_for(Table, "before_create")
def _create_extension(table: Table, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the extension that a migration would make."""
    if connection.dialect.name == "postgresql" and table.key in table.metadata.info.get(SEARCH, ()):
        connection.exec_driver_sql(CREATE_EXTENSION)


# -- in Python --------------------------------------------------------------------------------------------------------


def search_of(model: type) -> Search:
    """How `model` is searched.

    Raises:
        TypeError: when it declares no search.
    """
    search: Search | None = getattr(model, "__search__", None)
    if search is None:
        message = f"{model.__name__} declares no __search__"
        raise TypeError(message)
    return search


def matching(model: type[M], text: str) -> Select[M]:
    """A SELECT of the rows of `model` that have the words of `text`, best first, to go on with.

    Raises:
        TypeError: when `model` declares no search.
    """
    search = search_of(model)
    query = search.query(text)
    found = select(model).where(search.vector(model).bool_op("@@")(query))
    return found.order_by(search.rank(search.vector(model), query).desc(), *_key(model))


def similar(model: type[M], text: str) -> Select[M]:
    """A SELECT of the rows of `model` whose first searched field is like `text`, likest first, to go on with.

    Raises:
        TypeError: when `model` declares no search.
    """
    field = search_of(model).leading(model)
    found = select(model).where(field.bool_op("%")(text))
    return found.order_by(func.similarity(field, text).desc(), *_key(model))


def _key(model: type[Any]) -> tuple[ColumnElement[Any], ...]:
    return inspect(model, raiseerr=True).primary_key  # type: ignore[no-any-return]
