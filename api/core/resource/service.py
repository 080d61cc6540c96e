"""Rules around a repository. A service flushes and never commits; whoever calls it owns the transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sqlalchemy import JSON, inspect, select
from sqlalchemy.orm import selectinload

from api.core.database import soft_delete
from api.core.database.mixins import INCLUDE_DELETED
from api.core.database.session import transaction
from api.core.errors import PreconditionFailedError
from api.core.resource import upsert
from api.core.resource.merge_patch import merged
from api.core.resource.references import References
from api.core.resource.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from api.core.resource.unique import ModelKey
    from api.core.resource.upsert import Upserted

M = TypeVar("M")


class Service(Generic[M]):
    """Create, change, delete and restore rows of one model. Subclass it where a resource has rules of its own.

    `references` tells which input fields hold keys of which relationship, such as `{"tag_ids": "tags"}`; `owners` are
    the attributes that tell whose a row is.
    """

    saves_together: ClassVar[bool] = False
    """Set it in a subclass whose own `create`, `update` and `delete` need no row to be flushed: then the rows of a list
    are saved at once. Where a method is not the subclass's own, they are anyway."""

    def __init__(
        self,
        model: type[M],
        session: Session,
        references: Mapping[str, str] | None = None,
        *,
        owners: Collection[str] = (),
    ) -> None:
        self.model = model
        self.session = session
        self.references = dict(references or {})
        self.repository: Repository[M] = Repository(model, session)
        self._refers_to = References(model, session, self.references, owners)
        self._is_acquainted = False
        self.asks_later = False
        """Whether what `prepared` looks for is looked for in front of the next statement: what is not there ends the
        transaction then, which is all the same to a view."""

    def create(self, data: Mapping[str, Any]) -> M:
        """Insert a row made of `data`.

        Raises:
            InvalidError: for a value that breaks a rule, or a reference to what is not there.
            ConflictError: for a unique value that is taken.
        """
        return self.repository.create(self.prepared(data))

    def update(self, row: M, data: Mapping[str, Any]) -> M:
        """Change the attributes of `row` that `data` names; raises as `create` does."""
        values = self.prepared(data)
        names = [name for name in self.references.values() if name in values]
        if not self._is_acquainted or not inspect(row).unloaded.isdisjoint(names):
            self._load([row], names)
        return self.repository.update(row, values)

    def merge(self, row: M, data: Mapping[str, Any]) -> M:
        """Like `update`, but a JSON document in `data` is merged into the row's (RFC 7396) and does not replace it."""
        columns = inspect(self.model).columns
        documents = {name for name in data if name in columns and isinstance(columns[name].type, JSON)}
        return self.update(
            row,
            {name: merged(getattr(row, name), value) if name in documents else value for name, value in data.items()},
        )

    def touch(self, row: M) -> None:
        """Move the time and the version of `row`: a change of what belongs to it is a change of the resource, too."""
        self.repository.touch(row)

    def delete(self, row: M) -> None:
        """Delete `row`, softly where its model can, and then with all that it cascades to.

        Raises:
            ConflictError: for a row, here or below, that must not be deleted in its state.
        """
        self.repository.delete(row)

    def restore(self, row: M) -> M:
        """Bring a deleted row back with what it took along; a live one stays as it is.

        Raises:
            ConflictError: when unique values have been taken in the meantime, or what the row belongs to is deleted.
        """
        return self.repository.restore(row)

    def locked(self, key: Any, *, versions: Collection[int] | None = None, include_deleted: bool = False) -> M:
        """The row with this key, locked until the transaction ends; before a deleted one, what it belongs to.

        Raises:
            NotFoundError: when there is none.
            PreconditionFailedError: when `versions` are given and the row's is none of them.
        """
        if include_deleted:
            soft_delete.lock_parents(self.session, self.model, key)
        row = self.repository.require(key, lock=True, include_deleted=include_deleted)
        if versions is not None and getattr(row, "version", None) not in versions:
            raise PreconditionFailedError
        return row

    def lock_references(self, *items: Mapping[str, Any]) -> None:
        """Lock the rows that `items` refer to, before the rows that are to refer to them.

        A delete that cascades locks in this order, too: so the two cannot wait for each other.
        """
        self._refers_to.lock(items)

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with references turned into rows, after a check that all that it refers to is there."""
        return self._refers_to.resolved(data, later=self.asks_later and not self._is_acquainted)

    # -- many rows ------------------------------------------------------------------------------------------------

    def create_many(self, items: Sequence[Mapping[str, Any]]) -> Sequence[M]:
        """`create` for each of `items`, in as few statements as its rules allow."""
        with self.acquainted(items), self._together("create"):
            return [self.create(item) for item in items]

    def merge_many(self, rows: Sequence[M], items: Sequence[Mapping[str, Any]]) -> Sequence[M]:
        """`merge` for each of `rows`, which are locked, with the item at its place."""
        with self.acquainted(items, rows), self._together("update"):
            return [self.merge(row, item) for row, item in zip(rows, items, strict=True)]

    def delete_many(self, rows: Sequence[M]) -> None:
        """`delete` for each of `rows`, which are locked."""
        with self.acquainted((), rows), self._together("delete"):
            for row in rows:
                self.delete(row)

    def upsert_many(
        self, items: Sequence[Mapping[str, Any]], key: ModelKey, *, kept: Collection[str] = ()
    ) -> Sequence[Upserted[M]]:
        """`create` for each item whose key no row has, and `update` for the others, but for the fields in `kept`."""
        new: dict[int, dict[str, Any]] = {}

        def insert(numbers: list[int]) -> Iterable[Any]:
            if type(self).create is not Service.create:
                # Within a savepoint: what somebody else inserts first is looked for again.
                with transaction(self.session):
                    return [inspect(row).identity[0] for row in self.create_many([items[number] for number in numbers])]
            new.update({number: self.prepared(items[number]) for number in numbers})
            return upsert.insert_missing(self.session, key, [new[number] for number in numbers])

        with self.acquainted(items):
            found: list[Upserted[M]] = upsert.claimed(self.session, key, items, insert)
            there = [(place.row, item) for place, item in zip(found, items, strict=True) if not place.inserted]
            self._load([row for row, _ in there], self._named_references(items))
            with self._together("update"):
                for row, item in there:
                    self.update(row, {name: value for name, value in item.items() if name not in kept})
                for number, values in new.items():
                    if found[number].inserted:
                        upsert.relate(found[number].row, values)
        self.session.flush()
        return found

    def locked_many(self, keys: Iterable[Any]) -> dict[Any, M]:
        """The rows with these keys, read anew and locked in the order of their keys until the transaction ends."""
        key = inspect(self.model).primary_key[0]
        statement = select(self.model).where(key.in_([*keys])).order_by(key).with_for_update(of=self.model)
        rows = self.session.scalars(statement, execution_options={"populate_existing": True})
        return {inspect(row).identity[0]: row for row in rows}

    @contextmanager
    def acquainted(self, items: Sequence[Mapping[str, Any]], rows: Sequence[M] = ()) -> Iterator[None]:
        """Look up at once what `items` refer to, instead of for each of them in the block."""
        if self._is_acquainted:
            yield
            return
        self.look_up(items, rows)
        self._is_acquainted = True
        try:
            yield
        finally:
            self._is_acquainted = False
            self._refers_to.forget()

    def look_up(self, items: Sequence[Mapping[str, Any]], rows: Sequence[M]) -> None:
        """Find what `items` refer to, which are about to be written to `rows` or to new ones.

        A subclass locks here, in the order of their keys, the rows of other tables that its rules will change: so two
        lists with the same rows wait for each other and never both.
        """
        self._refers_to.look_up(items)
        self._load(rows, self._named_references(items))

    @contextmanager
    def _together(self, method: str) -> Iterator[None]:
        """Flush what `method` writes in the block at its end, unless it is a subclass's own that flushes each row."""
        if not self.saves_together and getattr(type(self), method) is not getattr(Service, method):
            yield
            return
        with self.session.no_autoflush, self.repository.deferred():
            yield
        self.session.flush()

    def _named_references(self, items: Sequence[Mapping[str, Any]]) -> list[str]:
        return [name for field, name in self.references.items() if any(field in item for item in items)]

    def _load(self, rows: Sequence[M], relationships: Sequence[str]) -> None:
        """Load what is about to be replaced, so that only the difference is written."""
        if not relationships or not rows:
            return
        options = [selectinload(getattr(self.model, name)) for name in relationships]
        key = inspect(self.model).primary_key[0]
        statement = select(self.model).where(key.in_([inspect(row).identity[0] for row in rows])).options(*options)
        self.session.scalars(statement, execution_options={"populate_existing": True, INCLUDE_DELETED: True}).all()
