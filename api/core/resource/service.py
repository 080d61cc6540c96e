"""Rules around a repository. A service flushes and never commits; whoever calls it owns the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import JSON, ForeignKey, inspect, select
from sqlalchemy.orm import selectinload

from api.core.database import soft_delete
from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin
from api.core.errors import InvalidError, PreconditionFailedError, Violation, pointer_to
from api.core.resource.merge_patch import merged
from api.core.resource.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

M = TypeVar("M")


class Service(Generic[M]):
    """Create, change, delete and restore rows of one model. Subclass it where a resource has rules of its own.

    `references` tells which input fields hold keys of which relationship, such as `{"tag_ids": "tags"}`.
    """

    def __init__(self, model: type[M], session: Session, references: Mapping[str, str] | None = None) -> None:
        self.model = model
        self.session = session
        self.references = dict(references or {})
        self.repository: Repository[M] = Repository(model, session)

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
        self._load(row, [name for name in self.references.values() if name in values])
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

    def lock_references(self, data: Mapping[str, Any]) -> None:
        """Lock the rows that `data` refers to, before the row that is to refer to them.

        A delete that cascades locks in this order, too: so the two cannot wait for each other.
        """
        for _, key, value in self._references(data):
            self._is_live(key, value)

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with references turned into rows, after a check that all that it refers to is there."""
        values = dict(data)
        violations = [*self._missing_parents(values)]
        for field, relationship in self.references.items():
            if field in values:
                rows, missing = self._related(field, relationship, values.pop(field))
                values[relationship] = rows
                violations += missing
        if violations:
            raise InvalidError(violations=violations)
        return values

    def _load(self, row: M, relationships: Sequence[str]) -> None:
        """Load what is about to be replaced, so that only the difference is written."""
        if not relationships:
            return
        options = [selectinload(getattr(self.model, name)) for name in relationships]
        key = inspect(self.model).primary_key[0]
        statement = select(self.model).where(key == inspect(row).identity[0]).options(*options)
        self.session.scalars(statement, execution_options={"populate_existing": True, INCLUDE_DELETED: True}).one()

    def _missing_parents(self, values: Mapping[str, Any]) -> Iterator[Violation]:
        """A foreign key accepts a deleted parent; a client must not be able to refer to one."""
        for name, key, value in self._references(values):
            if not self._is_live(key, value):
                yield Violation(f"There is no {name.removesuffix('_id')} {value}.", pointer=pointer_to([name]))

    def _references(self, values: Mapping[str, Any]) -> list[tuple[str, ForeignKey, Any]]:
        """Attributes that refer to other rows, with their foreign keys, in the order in which to lock the rows."""
        found = [
            (name, key, values[name])
            for name, column in inspect(self.model).columns.items()
            if values.get(name) is not None
            for key in column.foreign_keys
        ]
        return sorted(found, key=lambda reference: (reference[1].column.table.name, reference[2]))

    def _is_live(self, key: ForeignKey, value: Any) -> bool:
        target = key.column
        parent = next(
            mapper.class_ for mapper in inspect(self.model).registry.mappers if mapper.local_table is target.table
        )
        statement = select(target).where(target == value)
        if issubclass(parent, SoftDeleteMixin):
            # Locked against a delete that runs at the same time; other references may be made meanwhile.
            statement = statement.where(parent.deleted_at.is_(None)).with_for_update(read=True, key_share=True)
        return self.session.scalar(statement) is not None

    def _related(self, field: str, relationship: str, keys: Sequence[Any]) -> tuple[list[Any], list[Violation]]:
        target = inspect(self.model).relationships[relationship].entity.class_
        found = {row.id: row for row in self.session.scalars(select(target).where(target.id.in_(keys)))} if keys else {}
        name = field.removesuffix("_ids")
        missing = [
            Violation(f"There is no {name} {key}.", pointer=pointer_to([field, number]))
            for number, key in enumerate(keys)
            if key not in found
        ]
        return [*{key: found[key] for key in keys if key in found}.values()], missing
