"""Rows of one model in one session: find, list, count, add, change, delete, restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sqlalchemy import Select, func, inspect, select

from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin
from api.core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)


class ReadableRepository(Protocol[M_co]):
    """What code that only reads may rely on, whatever stands behind it."""

    def get(self, key: Any) -> M_co | None:
        """The row with this key, or None."""

    def list(self, *conditions: ColumnElement[bool], limit: int | None = None, offset: int = 0) -> Sequence[M_co]:
        """Rows that meet all conditions."""

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """How many rows meet all conditions."""


class Repository(Generic[M]):
    """`Repository(Product, session)`. Deleted rows are out of sight unless asked for; nothing is committed here.

    Add methods of your own in a subclass.
    """

    def __init__(self, model: type[M], session: Session) -> None:
        self.model = model
        self.session = session

    def select(self) -> Select[M]:
        """A SELECT of the model, to go on with where the methods end."""
        return select(self.model)

    def get(self, key: Any, *, lock: bool = False, include_deleted: bool = False) -> M | None:
        """The row with this primary key, or None. `lock` keeps others from changing it until the transaction ends."""
        statement = self.select().where(inspect(self.model).primary_key[0] == key)
        if lock:
            statement = statement.with_for_update(of=self.model).execution_options(populate_existing=True)
        return self.session.scalars(statement, execution_options={INCLUDE_DELETED: include_deleted}).one_or_none()

    def require(self, key: Any, *, lock: bool = False, include_deleted: bool = False) -> M:
        """Like `get`.

        Raises:
            NotFoundError: when there is no such row.
        """
        row = self.get(key, lock=lock, include_deleted=include_deleted)
        if row is None:
            raise NotFoundError
        return row

    def list(
        self,
        *conditions: ColumnElement[bool],
        order_by: Iterable[Any] = (),
        limit: int | None = None,
        offset: int = 0,
        include_deleted: bool = False,
    ) -> Sequence[M]:
        """Rows that meet all conditions, by primary key unless `order_by` says otherwise."""
        order = tuple(order_by) or inspect(self.model).primary_key
        statement = self.select().where(*conditions).order_by(*order).limit(limit).offset(offset or None)
        return self.session.scalars(statement, execution_options={INCLUDE_DELETED: include_deleted}).all()

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """How many rows meet all conditions."""
        return self.session.scalar(select(func.count()).select_from(self.model).where(*conditions)) or 0

    def add(self, row: M) -> M:
        """Insert `row`; its key and defaults are known afterwards."""
        self.session.add(row)
        self.session.flush()
        return row

    def add_many(self, rows: Iterable[M]) -> Sequence[M]:
        """Insert all `rows` in as few statements as the database allows."""
        added = [*rows]
        self.session.add_all(added)
        self.session.flush()
        return added

    def update(self, row: M, values: Mapping[str, Any]) -> M:
        """Set attributes of `row` and save them.

        Raises:
            PreconditionFailedError: when somebody else has changed the row since it was read.
        """
        for name, value in values.items():
            setattr(row, name, value)
        self.session.flush()
        return row

    def delete(self, row: M, *, hard: bool = False) -> None:
        """Mark `row` as deleted where its model can do that; with `hard`, or where it cannot, remove it."""
        if isinstance(row, SoftDeleteMixin) and not hard:
            row.soft_delete()
        else:
            self.session.delete(row)
        self.session.flush()

    def restore(self, row: M) -> M:
        """Undo a soft delete.

        Raises:
            ConflictError: when its unique values have been taken in the meantime.
        """
        if isinstance(row, SoftDeleteMixin):
            row.restore()
            self.session.flush()
        return row
