"""A plan's shape as one SELECT that returns the response body as finished JSON; built once, executed many times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from marshmallow.fields import String
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, array
from sqlalchemy.orm import aliased

import api.core.query.estimate  # noqa: F401 - for its listener, which makes the function that is called here
from api.core.query.compiled import ShapeCache, Statement, compiled
from api.core.query.conditions import Conditions
from api.core.query.file_rows import FileRows
from api.core.query.json_values import sortable_at
from api.core.query.plan import RANK
from api.core.query.projection import Shown, needed_attributes, row_json
from api.core.query.relations import is_nullable, live, mapper_of, related_model, relationship_of, scope
from api.core.query.search import BY_WORDS, KEY, RANK_COLUMN, Highlights, Matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from marshmallow.fields import Field
    from sqlalchemy import Subquery

    from api.core.query.collection import Collection
    from api.core.query.plan import Position, QueryPlan, Sort

ExportForm = Literal["json", "texts", "escaped texts"]
CACHED_SHAPES = 512
COUNTED = "counted"
"""The parameter for the text of `Statement.counted`."""

# Names that no attribute can have.
_ORDINAL = "#ordinal"
_SORT_KEY = "#sort_key_{}"
_FOUND_KEY = "#found_key_{}"


class StatementCache(ShapeCache["QueryPlan"]):
    """The statements of one collection, at most `CACHED_SHAPES` of them."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        super().__init__(self._build, CACHED_SHAPES)

    def _build(self, plan: QueryPlan) -> Statement:
        builder = _Builder(self._collection, plan)
        text = compiled(builder.one_row() if plan.page is None else builder.page())
        counted = compiled(builder.counted(literal_column("1"))) if builder.estimates else None
        return Statement(text, counted)


def export_statement(collection: Collection, plan: QueryPlan, form: ExportForm) -> Statement:
    """The statement of all rows that `plan` asks for, in a column of JSON or with each field as a text of its own."""
    return Statement(compiled(_Builder(collection, plan).all_rows(form)))


def _as_it_is(_field: Field[Any], text: ColumnElement[Any]) -> ColumnElement[Any]:
    return text


def _formula_escaped(field: Field[Any], text: ColumnElement[Any]) -> ColumnElement[Any]:
    """With an apostrophe in front of what a spreadsheet would take for a formula (OWASP, CSV injection)."""
    if not isinstance(field, String):
        return text
    text = cast(text, Text)
    return case((text.regexp_match(r"^[=+\-@\t\r]"), func.concat("'", text)), else_=text)


@dataclass(frozen=True, slots=True)
class _SortKey:
    expression: ColumnElement[Any]
    descending: bool
    nullable: bool


class _Builder:
    """Writes the statement of one shape."""

    def __init__(self, collection: Collection, plan: QueryPlan) -> None:
        self._collection = collection
        self._plan = plan
        self._model = collection.model
        self._schema = collection.schema_for(plan)
        self._shown = Shown(plan.visibility, plan.excerpts)
        self._matches = Matches(self._model, plan.search, self._listed_keys) if plan.search else None

    @property
    def estimates(self) -> bool:
        """Whether the total is an estimate. It is made of what is known of all rows, and so only for who sees all."""
        return self._plan.count == "estimated" and all(
            self._plan.visibility.rows_of(model).everything for model in self._looked_at()
        )

    def _looked_at(self) -> Iterator[type]:
        """The models whose rows decide which rows are found."""
        yield self._model
        for condition in self._plan.where:
            for path in condition.paths:
                model = self._model
                for attribute in self._collection.attributes_of(path)[:-1]:
                    model = related_model(relationship_of(model, attribute))
                    yield model

    # -- one row --------------------------------------------------------------------------------------------------

    def one_row(self) -> Select[Any]:
        """`body` and `version` of the row whose key is bound as `key`."""
        key = mapper_of(self._model).primary_key[0]
        names = needed_attributes(self._schema, self._model)
        versioned = "version" in mapper_of(self._model).columns
        rows = (
            select(*self._columns(names | ({"version"} if versioned else set())))
            .where(key == bindparam("key", type_=key.type), *self._scope())
            .subquery()
        )
        body, joined = row_json(self._schema, self._model, rows, rows.c.__getitem__, self._shown)
        version = rows.c.version if versioned else literal_column("NULL")
        shown: ColumnElement[Any] = cast(body, Text)
        if self._plan.known:
            is_known = version == any_(bindparam("known", type_=ARRAY(Integer)))
            shown = case((is_known, None), else_=shown)
        return select(shown.label("body"), version.label("version")).select_from(joined)

    # -- a page ---------------------------------------------------------------------------------------------------

    def page(self) -> Select[Any]:
        """One row: `items` as a JSON array, `fetched`, the sort keys of the `first` and the `last` row, and `total`.

        One row more than the page has is fetched, to tell whether there are others; `last` is NULL without it.
        """
        rows = self._numbered_rows()
        column_of = rows.c.__getitem__
        body, joined = row_json(self._schema, self._model, rows, column_of, self._shown, self._extra(column_of))
        size: ColumnElement[int] = bindparam("size")
        ordinal = rows.c[_ORDINAL]
        order = ordinal.desc() if self._plan.page and self._plan.page.backward else ordinal
        items = func.string_agg(cast(body, Text), aggregate_order_by(literal_column("','"), order))
        sort_keys: ColumnElement[Any] = array(
            [rows.c[_SORT_KEY.format(number)] for number in range(len(self._plan.sort))]
        )
        return select(
            func.concat("[", items.filter(ordinal <= size), "]").label("items"),
            func.count().label("fetched"),
            func.max(sort_keys).filter(ordinal == 1).label("first"),
            func.max(sort_keys).filter(ordinal == size).label("last"),
            self._total(func.count(), size).label("total"),
        ).select_from(joined)

    # -- all rows -------------------------------------------------------------------------------------------------

    def all_rows(self, form: ExportForm) -> Select[Any]:
        """Every row in its order."""
        if self._matches is None:
            query, order = self._rows(*self._columns(self._needed))
        else:
            found, order = self._found_rows(self._matches)
            query = self._of_keys(found)
        file = FileRows(self._schema, self._model)
        query = query.add_columns(*_labelled(order, _SORT_KEY))
        if shared := file.shared_texts:
            # OFFSET keeps the planner from working them out wherever they stand.
            in_order = (_ordered(key, backward=False) for key in order)
            query = query.add_columns(*shared).order_by(*in_order).offset(literal_column("0"))
        rows = query.subquery()
        what: list[ColumnElement[Any]]
        if form == "json":
            body, joined = file.lines(rows, self._shown)
            what = [body]
        else:
            wrap = _formula_escaped if form == "escaped texts" else _as_it_is
            what, joined = file.texts(rows, self._shown, wrap)
        keys = [replace(key, expression=rows.c[_SORT_KEY.format(number)]) for number, key in enumerate(order)]
        return select(*what).select_from(joined).order_by(*(_ordered(key, backward=False) for key in keys))

    def counted(self, what: ColumnElement[Any]) -> Select[Any]:
        """`what` of all rows that meet the conditions."""
        if self._matches is None:
            return select(what).select_from(self._model).where(*self._restrictions())
        if self.estimates:
            return select(what).select_from(self._model).where(*self._restrictions(), self._matches.expected())
        return select(what).select_from(self._matches.found())

    def _total(self, fetched: ColumnElement[int], size: ColumnElement[int]) -> ColumnElement[Any]:
        """How many rows there are on all pages; not counted where this page shows it."""
        page = self._plan.page
        if self._plan.count == "none" or page is None:
            return literal_column("NULL")
        exact = not self.estimates
        total: ColumnElement[Any]
        if exact:
            total = self.counted(func.count()).scalar_subquery()
        else:
            total = func.greatest(func.public.estimated_rows(bindparam(COUNTED, type_=Text())), fetched)
        if page.position is not None:
            return total
        if page.offset is None:
            return case((fetched <= size, fetched), else_=total)
        skipped: ColumnElement[int] = bindparam("skip")
        shown = and_(fetched <= size, or_(fetched > 0, skipped == 0))
        return case((shown, skipped + fetched), else_=total if exact else func.greatest(total, skipped + fetched))

    # -- the page's rows ------------------------------------------------------------------------------------------

    def _columns(self, names: set[str]) -> list[ColumnElement[Any]]:
        return [getattr(self._model, name).label(name) for name in sorted(names)]

    def _scope(self) -> list[ColumnElement[bool]]:
        return scope(self._model, self._plan.deleted, self._plan.visibility)

    def _conditions(self) -> list[ColumnElement[bool]]:
        writer = Conditions(self._model, self._model, self._collection.attributes_of, self._plan.visibility)
        return [writer.write(condition) for condition in self._plan.where]

    def _restrictions(self) -> list[ColumnElement[bool]]:
        """What holds for every row of the list, whatever is searched for."""
        return [*self._scope(), *self._conditions()]

    def _numbered_rows(self) -> Subquery:
        """The page's rows and one more, each with its number and its sort keys as text."""
        picked = self._picked_rows()
        sort_keys = [_SORT_KEY.format(number) for number in range(len(self._plan.sort))]
        others = [column for column in picked.c if column.key not in sort_keys]
        texts = [cast(picked.c[name], Text).label(name) for name in sort_keys]
        numbered = select(*others, *texts, func.row_number().over().label(_ORDINAL)).subquery()
        if self._matches is None:
            return numbered
        return self._of_keys(numbered, *(column for column in numbered.c if column.key != KEY)).subquery()

    def _picked_rows(self) -> Subquery:
        """The page's rows and one more with their sort keys, in their order; of what is found only the keys."""
        if self._matches is None:
            query, keys = self._rows(*self._columns(self._needed))
        else:
            found, keys = self._found_rows(self._matches)
            query = select(found.c[KEY], found.c[BY_WORDS])
        query = query.add_columns(*_labelled(keys, _SORT_KEY))
        page = self._plan.page
        if page is not None and page.position is not None and page.position.keys:
            query = query.where(_behind(keys, page.position))
        backward = page is not None and page.backward
        query = query.order_by(*(_ordered(key, backward=backward) for key in keys)).limit(bindparam("size") + 1)
        if page is not None and page.offset is not None:
            query = query.offset(bindparam("skip"))
        return query.subquery()

    def _rows(self, *columns: ColumnElement[Any]) -> tuple[Select[Any], list[_SortKey]]:
        """`columns` of the rows of the list on all pages, in no order, and what they are sorted by, but for a rank."""
        query = select(*columns).select_from(self._model).where(*self._restrictions())
        keys: list[_SortKey] = []
        for number, sort in enumerate(self._plan.sort):
            if sort.path == RANK:
                key = _SortKey(null(), sort.descending, nullable=False)
            else:
                query, key = self._sort_key(query, sort, f"s{number}")
            keys.append(key)
        return query, keys

    def _listed_keys(self) -> Select[Any]:
        """The primary key of each row of the list, and its sort keys but for the rank."""
        query, keys = self._rows(mapper_of(self._model).primary_key[0].label(KEY))
        labelled = _labelled(keys, _FOUND_KEY)
        ranks = [sort.path == RANK for sort in self._plan.sort]
        return query.add_columns(*(column for column, is_rank in zip(labelled, ranks, strict=True) if not is_rank))

    def _found_rows(self, matches: Matches) -> tuple[Subquery, list[_SortKey]]:
        """The keys of the rows that are found, and what they are sorted by."""
        found = matches.found()
        _, keys = self._rows()
        names = [
            RANK_COLUMN if sort.path == RANK else _FOUND_KEY.format(number)
            for number, sort in enumerate(self._plan.sort)
        ]
        return found, [replace(key, expression=found.c[name]) for key, name in zip(keys, names, strict=True)]

    def _of_keys(self, found: Subquery, *others: ColumnElement[Any]) -> Select[Any]:
        """The rows whose primary keys are `found`, with `others` of its columns."""
        key = mapper_of(self._model).primary_key[0]
        columns = (*self._columns(self._needed), *others)
        return select(*columns).select_from(found).join(self._model, key == found.c[KEY])

    @cached_property
    def _needed(self) -> set[str]:
        """The attributes that the rows' JSON is made of."""
        marked = self._collection.searched if self._plan.search and self._plan.search.highlight else ()
        return {*needed_attributes(self._schema, self._model), *marked}

    def _extra(self, column_of: Callable[[str], ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """What a row's JSON has besides the fields of the schema."""
        if self._plan.search is None or not self._plan.search.highlight:
            return []
        highlights = Highlights(self._model, self._collection.searched)
        return [highlights.json(column_of).label("highlights")]

    def _sort_key(self, query: Select[Any], sort: Sort, json_path: str) -> tuple[Select[Any], _SortKey]:
        """The sort key, and `query` joined with the rows that it comes from.

        A path into a document is bound as `json_path`.
        """
        model: type[Any] = self._model
        entity: Any = self._model
        *relations, last = self._collection.attributes_of(sort.path)
        for attribute in relations:
            model, referring = related_model(relationship_of(model, attribute)), entity
            entity = aliased(model)
            path = getattr(referring, attribute).of_type(entity)
            hidden = live(entity, model, self._plan.visibility)
            query = query.outerjoin(path.and_(*hidden) if hidden else path)
        if sort.json_path:
            return query, _SortKey(sortable_at(getattr(entity, last), json_path), sort.descending, nullable=True)
        nullable = bool(relations) or is_nullable(model, last)
        return query, _SortKey(getattr(entity, last), sort.descending, nullable)


def _labelled(keys: list[_SortKey], label: str) -> list[ColumnElement[Any]]:
    """The keys as columns."""
    return [key.expression.label(label.format(number)) for number, key in enumerate(keys)]


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
        # For None, SQLAlchemy writes IS NULL.
        ties = [keys[i].expression == values[i] for i in range(number)]
        alternatives.append(and_(*ties, _after(key, values[number], backward=position.backward)))
    return and_(_not_before(keys[0], values[0], backward=position.backward), or_(*alternatives))


def _not_before(key: _SortKey, value: Any, *, backward: bool) -> ColumnElement[bool]:
    """What the alternatives have in common, in a form for which an index on the first key can be used."""
    if key.nullable or value is None:
        return true()
    descending = key.descending != backward
    bound: ColumnElement[bool] = key.expression <= value if descending else key.expression >= value
    return bound


def _after(key: _SortKey, value: Any, *, backward: bool) -> ColumnElement[bool]:
    if key.descending != backward:
        return key.expression.is_not(None) if value is None else key.expression < value
    if value is None:
        return false()
    return or_(key.expression > value, key.expression.is_(None)) if key.nullable else key.expression > value
