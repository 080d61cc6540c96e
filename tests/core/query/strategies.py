"""Rows and plans at random. Rows follow the tables' own declarations, so that a new resource is covered as it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from marshmallow import ValidationError, validate

from api.core.database.text_rules import Readable
from api.core.database.types import UTCDateTime
from api.core.database.validation import validators_of
from api.core.query.documents import Excerpt
from api.core.query.plan import Page, QueryPlan, Sort

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from api.core.query.allowlist import AllowList


def examples(number: int) -> settings:
    """Try so many examples, however long they take: a busy machine is no failure."""
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])


calm = examples(100)

World = dict[str, list[dict[str, Any]]]

# Everything that PostgreSQL can store: all but NUL and lone surrogates. Plain letters more often than the rest.
characters = st.characters(codec="utf-8", exclude_characters="\x00")
texts = st.text(st.sampled_from("aAbB%_\\\"',() ") | characters, max_size=12)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
times = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [FIRST, LAST, datetime(2026, 1, 31, 12, 30, tzinfo=UTC), datetime(2026, 1, 31, 12, 30, 0, 1, tzinfo=UTC)]
)
days = st.dates() | st.sampled_from([FIRST.date(), LAST.date()])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)


def _nested(depth: int) -> Any:
    return {"a": [_nested(depth - 1)]} if depth else None


deep = st.integers(1, 20).map(_nested)
documents = st.dictionaries(
    st.sampled_from("ab") | texts,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab") | texts, inner, max_size=3),
        max_leaves=6,
    )
    | deep,
    max_size=3,
)


_PLAIN = {
    sa.Boolean: st.booleans(),
    sa.LargeBinary: st.binary(max_size=8),
    sa.Uuid: st.uuids(),
    sa.JSON: documents,
    sa.ARRAY: st.lists(texts, max_size=3),
    sa.Date: days,
    sa.Float: st.floats(allow_nan=False, allow_infinity=False),
    UTCDateTime: times,
}


def value_of(column: sa.Column[Any], number: int) -> st.SearchStrategy[Any]:
    """A value for `column` in row `number` that its type and rules allow."""
    strategy = _typed(column, number)
    if column.name == "deleted_at":
        # Rows that are there are worth more than others.
        return st.integers(0, 3).flatmap(lambda turn: st.none() if turn else strategy)
    return st.none() | strategy if column.nullable else strategy


def _typed(column: sa.Column[Any], number: int) -> st.SearchStrategy[Any]:
    choices = _rule(column, validate.OneOf)
    if choices is not None:
        return st.sampled_from(list(choices.choices))
    if isinstance(column.type, sa.String):
        return _text(column, number)
    if isinstance(column.type, sa.Integer | sa.Numeric):
        return _number(column)
    return next(strategy for kind, strategy in _PLAIN.items() if isinstance(column.type, kind))


_BITS = {sa.SmallInteger: 15, sa.BigInteger: 63}


def _number(column: sa.Column[Any]) -> st.SearchStrategy[Any]:
    kind, rule = column.type, _rule(column, validate.Range)
    least = rule.min if rule else None
    if isinstance(kind, sa.Numeric):
        most = Decimal(10) ** (kind.precision - kind.scale) - Decimal(10) ** -kind.scale
        return st.decimals(-most if least is None else least, most, places=kind.scale)
    limit = 2 ** next((bits for of, bits in _BITS.items() if isinstance(kind, of)), 31)
    return st.integers(-limit if least is None else least, limit - 1) | st.integers(1, 3)


def _text(column: sa.Column[Any], number: int) -> st.SearchStrategy[str]:
    length = _rule(column, validate.Length)
    least, most = (length.min or 0) if length else 0, getattr(column.type, "length", None) or 10_000
    prefix = f"{number}:" if _is_unique(column) else ""
    allowed = _readable(column)
    return texts.map(lambda text: allowed((prefix + text).ljust(least, "x")[:most]))


def _readable(column: sa.Column[Any]) -> Callable[[str], str]:
    """A function that leaves what the column's rule allows, or shows an x where nothing can be seen."""
    rule = _rule(column, Readable)
    if rule is None:
        return lambda text: text

    def is_valid(text: str) -> bool:
        try:
            rule(text)
        except ValidationError:
            return False
        return True

    def allowed(text: str) -> str:
        kept = "".join(character for character in text if is_valid(f"x{character}"))
        return kept if is_valid(kept) and len(kept) == len(text) else f"x{kept}"[: len(text)]

    return allowed


def _rule(column: sa.Column[Any], kind: type) -> Any:
    return next((rule for rule in validators_of(column) if isinstance(rule, kind)), None)


def _is_unique(column: sa.Column[Any]) -> bool:
    return any(index.unique and column.name in index.info.get("fields", ()) for index in column.table.indexes)


def _keys(table: sa.Table) -> list[list[str]]:
    constraints = [
        item for item in table.constraints if isinstance(item, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    ]
    return [[column.name for column in item.columns] for item in constraints]


_NOT_SHOWN = {"hash", "epoch", "sequence"}
"""Columns of tables that no resource shows: of credentials, and of events, which triggers write."""


@st.composite
def worlds(draw: st.DrawFn, metadata: sa.MetaData, most: int = 3) -> World:
    """Rows of all tables, at most `most` in each, that refer to one another."""
    world: World = {}
    for table in metadata.sorted_tables:
        if table.name != "alembic_version" and not _NOT_SHOWN & {*table.columns.keys()}:
            _fill(draw, table, world, most)
    return world


def _fill(draw: st.DrawFn, table: sa.Table, world: World, most: int) -> None:
    rows = world[table.name] = []
    taken: set[tuple[Any, ...]] = set()
    for number in range(draw(st.integers(0, most))):
        row: dict[str, Any] = {}
        for column in (column for column in table.columns if column.computed is None):
            references = [key.column for key in column.foreign_keys]
            if references:
                parents = [parent[references[0].name] for parent in world[references[0].table.name]]
                if not parents and not column.nullable:
                    return
                row[column.key] = draw(st.sampled_from([*parents, None] if column.nullable else parents))
            elif column.primary_key and isinstance(column.type, sa.Integer):
                row[column.key] = draw(st.integers(1, 2**63 - 1) | st.integers(1, 20))
            else:
                row[column.key] = draw(value_of(column, number))
        keys = {(*key, *(row[name] for name in key)) for key in _keys(table)}
        if not keys & taken:
            taken |= keys
            rows.append(row)


def store(session: Session, metadata: sa.MetaData, world: World) -> None:
    """Insert the rows as they are, past the ORM's listeners."""
    for table in metadata.sorted_tables:
        if world.get(table.name):
            session.execute(table.insert(), world[table.name])


keys = st.sampled_from(["a", "b", "0", 'c d"%\\{']) | texts
paths = st.lists(st.lists(keys, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(
    lambda found: tuple(sorted(set(found)))
)


@st.composite
def shown(draw: st.DrawFn, allowed: AllowList) -> dict[str, Any]:
    """The `fields`, `include` and `deleted` of a plan."""
    chosen = draw(st.sets(st.sampled_from(sorted(allowed.includes)), max_size=4)) if allowed.includes else set()
    include = {".".join(path.split(".")[: end + 1]) for path in chosen for end in range(path.count(".") + 1)}
    possible = sorted(
        name for name in allowed.fields if not name.rpartition(".")[0] or name.rpartition(".")[0] in include
    )
    fields = draw(st.just(set()) | st.sets(st.sampled_from(possible), max_size=4))
    modes = ("exclude", "include", "only") if allowed.deletable else ("exclude",)
    excerpts = [Excerpt(name, draw(paths)) for name in sorted(fields & allowed.documents) if draw(st.booleans())]
    return {
        "fields": tuple(sorted(fields)),
        "excerpts": tuple(excerpts),
        "include": tuple(sorted(include)),
        "deleted": draw(st.sampled_from(modes)),
        "resource": allowed.resource,
    }


@st.composite
def pages(draw: st.DrawFn, allowed: AllowList) -> QueryPlan:
    """The plan of a page, sorted by columns of its own."""
    own = sorted(name for name in allowed.sorts if "." not in name)
    names = draw(st.lists(st.sampled_from(own), unique=True, max_size=2))
    sort = [Sort((name,), draw(st.booleans())) for name in names if name != allowed.key]
    offset = draw(st.none() | st.integers(0, 2))
    return QueryPlan(
        sort=(*sort, Sort((allowed.key,), draw(st.booleans()))),
        page=Page(draw(st.integers(1, 4)), offset=offset),
        **draw(shown(allowed)),
    )
