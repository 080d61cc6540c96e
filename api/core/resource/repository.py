"""Rows of one model in one session: find, list, stream, count, add, upsert, change, delete, restore."""

from __future__ import annotations

import builtins
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from sqlalchemy import Select, delete, func, literal, select, update

from api.core.database import inserting, soft_delete
from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin, TimestampMixin, now
from api.core.database.search import matching, similar
from api.core.database.validation import check_values
from api.core.errors import ConflictError, NotFoundError
from api.core.resource import upsert
from api.core.resource.attributes import check_columns, check_names, mapper_of
from api.core.resource.unique import unique_key
from api.core.resource.upsert import Upserted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, CursorResult, Delete, Update
    from sqlalchemy.orm import Session

    from api.core.database.showing import Shown

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)

CHUNK = 1000
"""Rows that a stream fetches at a time."""


class ReadableRepository(Protocol[M_co]):
    """What code that only reads may rely on, whatever stands behind it."""

    def get(self, key: Any) -> M_co | None:
        """The row with this key, or None."""

    def list(self, *conditions: ColumnElement[bool], limit: int | None = None, offset: int = 0) -> Sequence[M_co]:
        """Rows that meet all conditions."""

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """How many rows meet all conditions."""


class ReadOnlyRepository(Generic[M]):
    """`ReadOnlyRepository(Product, bind="reporting")`: what a repository reads, and nothing that writes.

    Without a session it is that of the current application context, with the model's own database or, with `bind`, the
    database of that name. Deleted rows are out of sight unless asked for. Add methods of your own in a subclass.
    """

    def __init__(self, model: type[M], session: Session | None = None, *, bind: str | None = None) -> None:
        """Both `session` and `bind` at once are refused with a `TypeError`."""
        if session is not None and bind is not None:
            raise TypeError("give a session or the name of a database, not both")
        self.model = model
        self._session = session
        self._bind = bind

    @property
    def session(self) -> Session:
        """The session that was given, else the one of the current application context."""
        if self._session is not None:
            return self._session
        database = getattr(self.model, "__fsa__", None)
        if database is None:
            raise TypeError(f"{self.model.__name__} belongs to no Flask-SQLAlchemy extension; give a session")
        return cast("Session", database.session_for(self._bind))

    def select(self) -> Select[M]:
        """A SELECT of the model, to go on with where the methods end."""
        return select(self.model)

    def get(self, key: Any, *, include_deleted: bool = False) -> M | None:
        """The row with this primary key, or None."""
        statement = self.select().where(mapper_of(self.model).primary_key[0] == key)
        return self.session.scalars(statement, execution_options={INCLUDE_DELETED: include_deleted}).one_or_none()

    def one(self, *conditions: ColumnElement[bool], include_deleted: bool = False) -> M:
        """The row that meets all conditions.

        Raises:
            NotFoundError: when there is none.
            ConflictError: when there are several.
        """
        rows = self.list(*conditions, limit=2, include_deleted=include_deleted)
        if not rows:
            raise NotFoundError(f"There is no {self.model.__name__} that meets the conditions.")
        if len(rows) > 1:
            raise ConflictError(f"There is more than one {self.model.__name__} that meets the conditions.")
        return rows[0]

    def first(
        self, *conditions: ColumnElement[bool], order_by: Iterable[Any] = (), include_deleted: bool = False
    ) -> M | None:
        """The first row that meets all conditions, or None."""
        rows = self.list(*conditions, order_by=order_by, limit=1, include_deleted=include_deleted)
        return rows[0] if rows else None

    def exists(self, *conditions: ColumnElement[bool], include_deleted: bool = False) -> bool:
        """Whether a row meets all conditions."""
        statement = select(literal(True)).select_from(self.model).where(*conditions).limit(1)
        return self.session.scalar(statement, execution_options={INCLUDE_DELETED: include_deleted}) is not None

    def list(
        self,
        *conditions: ColumnElement[bool],
        order_by: Iterable[Any] = (),
        limit: int | None = None,
        offset: int = 0,
        include_deleted: bool = False,
    ) -> Sequence[M]:
        """Rows that meet all conditions, by primary key unless `order_by` says otherwise."""
        statement = self._ordered(conditions, order_by).limit(limit).offset(offset or None)
        return self.session.scalars(statement, execution_options={INCLUDE_DELETED: include_deleted}).all()

    def stream(
        self,
        *conditions: ColumnElement[bool],
        order_by: Iterable[Any] = (),
        chunk: int = CHUNK,
        include_deleted: bool = False,
    ) -> Iterator[M]:
        """As `list`, through a cursor of the server: at any time about `chunk` rows are in memory.

        The cursor ends with the transaction: commit behind the loop, not in it.
        """
        options = {INCLUDE_DELETED: include_deleted, "yield_per": chunk}
        statement = self._ordered(conditions, order_by)
        with closing(self.session.scalars(statement, execution_options=options)) as rows:
            yield from rows

    def count(self, *conditions: ColumnElement[bool], include_deleted: bool = False) -> int:
        """How many rows meet all conditions."""
        statement = select(func.count()).select_from(self.model).where(*conditions)
        return self.session.scalar(statement, execution_options={INCLUDE_DELETED: include_deleted}) or 0

    def search(self, words: str, *conditions: ColumnElement[bool], limit: int | None = None) -> Sequence[M]:
        """Rows that have `words`, best first, and meet all conditions; web-search syntax, typing errors not forgiven.

        Raises:
            TypeError: when the model declares no search.
        """
        return self.session.scalars(matching(self.model, words).where(*conditions).limit(limit)).all()

    def similar_to(self, text: str, *conditions: ColumnElement[bool], limit: int | None = None) -> Sequence[M]:
        """Rows whose first searched field is like `text`, likest first; raises as `search` does."""
        return self.session.scalars(similar(self.model, text).where(*conditions).limit(limit)).all()

    def _ordered(self, conditions: Iterable[ColumnElement[bool]], order_by: Iterable[Any]) -> Select[M]:
        return self.select().where(*conditions).order_by(*(tuple(order_by) or mapper_of(self.model).primary_key))


class Repository(ReadOnlyRepository[M]):
    """`Repository(Product)`: rows of a model, to read and to write. Nothing is committed here."""

    _defers = False
    shown: Shown | None = None
    """What reads each row that is added here, in the message of its INSERT."""

    def get(self, key: Any, *, lock: bool = False, include_deleted: bool = False) -> M | None:
        """The row with this primary key, or None. `lock` keeps others from changing it until the transaction ends."""
        if not lock:
            return super().get(key, include_deleted=include_deleted)
        statement = self.select().where(mapper_of(self.model).primary_key[0] == key).with_for_update(of=self.model)
        options = {INCLUDE_DELETED: include_deleted, "populate_existing": True}
        return self.session.scalars(statement, execution_options=options).one_or_none()

    def require(self, key: Any, *, lock: bool = False, include_deleted: bool = False) -> M:
        """Like `get`.

        Raises:
            NotFoundError: when there is no such row.
        """
        row = self.get(key, lock=lock, include_deleted=include_deleted)
        if row is None:
            raise NotFoundError
        return row

    # -- rows -----------------------------------------------------------------------------------------------------

    def build(self, values: Mapping[str, Any]) -> M:
        """A row with these attributes, in no session yet.

        Raises:
            UnknownAttributeError: for a name that is no attribute.
        """
        check_names(self.model, values)
        return self.model(**values)

    def create(self, values: Mapping[str, Any]) -> M:
        """Insert a row with these attributes; raises as `build` does."""
        return self.add(self.build(values))

    def add(self, row: M) -> M:
        """Insert `row`; its key and defaults are known afterwards."""
        if self._defers or not inserting.insert(self.session, row, self.shown):
            self.session.add(row)
            self._flush()
        return row

    def add_many(self, rows: Iterable[M]) -> Sequence[M]:
        """Insert all `rows` in as few statements as the database allows."""
        added = [*rows]
        self.session.add_all(added)
        self._flush()
        return added

    def update(self, row: M, values: Mapping[str, Any]) -> M:
        """Set attributes of `row` and save them; a change of its related rows is a change of the row, too.

        Raises:
            UnknownAttributeError: for a name that is no attribute.
            PreconditionFailedError: when somebody else has changed the row since it was read.
        """
        check_names(self.model, values)
        self._set(row, values)
        self._flush()
        return row

    def touch(self, row: M) -> None:
        """Move the time and the version of `row` with the next flush."""
        if isinstance(row, TimestampMixin):
            row.updated_at = now()

    def delete(self, row: M, *, hard: bool = False) -> None:
        """Mark `row` as deleted where its model can do that; with `hard`, or where it cannot, remove it.

        Raises:
            ConflictError: for a row, here or below, that must not be deleted in its state.
        """
        if isinstance(row, SoftDeleteMixin) and not hard:
            row.soft_delete()
        else:
            self.session.delete(row)
        self._flush()

    def restore(self, row: M) -> M:
        """Undo a soft delete, with all that it took along.

        Raises:
            ConflictError: when unique values have been taken in the meantime, or what the row belongs to is deleted.
        """
        if isinstance(row, SoftDeleteMixin):
            row.restore()
            self._flush()
        return row

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Leave it to the caller to flush what the methods for single rows write in the block."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False

    def _flush(self) -> None:
        if not self._defers:
            self.session.flush()

    # -- sets of rows ---------------------------------------------------------------------------------------------

    def upsert(
        self, rows: Iterable[Mapping[str, Any]], *, on: str | Sequence[str], update: Sequence[str] | None = None
    ) -> builtins.list[Upserted[M]]:
        """Insert each of `rows`, or change the row that has its key already; in the order of `rows`.

        `on` names attributes of a unique key, such as "sku", or a unique index. `update` names what to change of a row
        that is there; all that is given, by default. Of an index over live rows, a deleted row is none that is there.

        Raises:
            ValueError: when there is no such key.
            UnknownAttributeError: for a name that is no attribute.
            InvalidError: for values that break a rule, and for one key twice, pointing at the item (`/3/sku`).
        """
        key = unique_key(self.model, on)
        items = [dict(row) for row in rows]
        check_names(self.model, {name: None for item in items for name in item} | dict.fromkeys(update or ()))
        upsert.check_items(self.model, items)

        def insert(numbers: builtins.list[int]) -> Sequence[Any]:
            return upsert.insert_missing(self.session, key, [items[number] for number in numbers])

        found = upsert.claimed(self.session, key, items, insert) if items else []
        with self.session.no_autoflush:
            for item, values in zip(found, items, strict=True):
                if item.inserted:
                    upsert.relate(item.row, values)
                else:
                    self._set(item.row, {name: values[name] for name in values if update is None or name in update})
        self.session.flush()
        return found

    def update_where(
        self, *conditions: ColumnElement[bool], values: Mapping[str, Any], include_deleted: bool = False
    ) -> int:
        """Change all rows that meet the conditions, in one statement, and return how many.

        Validators see `values`; SQL expressions and listeners of single rows they do not. Every row is meant by
        `sqlalchemy.true()`.

        Raises:
            UnknownAttributeError: for a name that is no column attribute.
            InvalidError: for a value that breaks a rule.
        """
        check_columns(self.model, values)
        check_values(mapper_of(self.model), values)
        statement = update(self.model).where(*_some(conditions)).values(dict(values))
        return self._run(statement, include_deleted=include_deleted)

    def delete_where(self, *conditions: ColumnElement[bool], hard: bool = False, include_deleted: bool = False) -> int:
        """Delete all rows that meet the conditions, as `delete` does, in a few statements, and return how many.

        Raises:
            ConflictError: naming rows that must not be deleted in their state; then none is.
        """
        if issubclass(self.model, SoftDeleteMixin) and not hard:
            return soft_delete.mark(self.session, self.model, *_some(conditions)).rows
        return self._run(delete(self.model).where(*_some(conditions)), include_deleted=include_deleted)

    def _set(self, row: M, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(row, name, value)
        if self.session.is_modified(row):
            self.touch(row)

    def _run(self, statement: Update | Delete, *, include_deleted: bool) -> int:
        # Loaded objects follow; where there are none, nothing needs to be fetched for them.
        loaded = any(isinstance(row, self.model) for row in self.session.identity_map.values())
        options = {INCLUDE_DELETED: include_deleted, "synchronize_session": "fetch" if loaded else False}
        result = cast("CursorResult[Any]", self.session.execute(statement, execution_options=options))
        return result.rowcount


def _some(conditions: tuple[ColumnElement[bool], ...]) -> tuple[ColumnElement[bool], ...]:
    if not conditions:
        raise ValueError("name a condition; sqlalchemy.true() means every row")
    return conditions
