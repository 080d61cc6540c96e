"""Many rows in one request: all or nothing, or a verdict for each item. Below HTTP; the rules are the service's.

A list is first written as a whole, in as few statements as the rules allow. Only when that fails is it written item by
item, each in a savepoint, to find out which ones are wrong. Rows are locked before anything is written, in the order of
their keys, so that two lists with the same rows wait for each other and never both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from api.core.database.session import transaction
from api.core.errors import (
    APIError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
    Violation,
    pointer_to,
)
from api.core.resource.unique import unique_keys

if TYPE_CHECKING:
    from api.core.resource.service import Service
    from api.core.resource.unique import ModelKey, Place

CREATED, CHANGED, DELETED = 201, 200, 204


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list: new or changed values, the key and version of the row that is meant, or why it is refused."""

    index: int
    data: Mapping[str, Any] = field(default_factory=dict)
    key: Any = None
    version: int | None = None
    row: Any = None
    error: APIError | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an item: a status as a request of its own would have had, and the row or the error."""

    index: int
    status: int
    id: Any = None
    version: int | None = None
    error: APIError | None = None


Guard = Callable[[Item, Any], None]
"""Raises what an item is refused with that names this row."""

_Work = Callable[[Sequence[Item]], Sequence[tuple[Any, int]]]


def _open(_item: Item, _row: Any) -> None:
    """Let every item pass."""


class Bulk:
    """Bulk writes through a service, in the caller's transaction; `one` is what a row is called in messages."""

    def __init__(self, service: Service[Any], one: str) -> None:
        self._service = service
        self._session = service.session
        self._one = one

    def create(self, items: Sequence[Item]) -> list[Verdict]:
        """Create a row of each item."""
        items = self._in_order([key for key in unique_keys(self._service.model) if not key.is_primary], items)

        def work(good: Sequence[Item]) -> Sequence[tuple[Any, int]]:
            return [(row, CREATED) for row in self._service.create_many([item.data for item in good])]

        return self._run(items, work)

    def upsert(self, items: Sequence[Item], key: ModelKey, kept: Collection[str] = ()) -> list[Verdict]:
        """Create the rows of those items whose key is free, change the others; `kept` names what is not changed."""
        items = self._in_order([key], [_with_key(item, key) for item in items])

        def work(good: Sequence[Item]) -> Sequence[tuple[Any, int]]:
            found = self._service.upsert_many([item.data for item in good], key, kept=kept)
            return [(place.row, CREATED if place.inserted else CHANGED) for place in found]

        return self._run(items, work)

    def update(self, items: Sequence[Item], guard: Guard = _open) -> list[Verdict]:
        """Change the rows that the items name, where `guard` lets them pass."""

        def work(good: Sequence[Item]) -> Sequence[tuple[Any, int]]:
            rows = self._service.merge_many([item.row for item in good], [item.data for item in good])
            return [(row, CHANGED) for row in rows]

        return self._run(self._locked(items, guard), work)

    def delete(self, items: Sequence[Item], guard: Guard = _open) -> list[Verdict]:
        """Delete the rows that the items name, where `guard` lets them pass."""

        def work(good: Sequence[Item]) -> Sequence[tuple[Any, int]]:
            self._service.delete_many([item.row for item in good])
            return [(item.row, DELETED) for item in good]

        return self._run(self._locked(items, guard), work)

    # -- what can be told before anything is written --------------------------------------------------------------

    def _in_order(self, keys: Iterable[ModelKey], items: Sequence[Item]) -> list[Item]:
        """The items in the order of their unique keys; of several with one key, all but the first are refused."""
        ranks: dict[int, list[int]] = {item.index: [] for item in items}
        judged = {item.index: item for item in items}
        for key in keys:
            keyed = [item for item in judged.values() if not item.error and _has_key(item, key)]
            for item, place in zip(keyed, self._places(key, keyed), strict=True):
                ranks[item.index].append(place.rank)
                first = keyed[place.first]
                if first is not item:
                    detail = f"The same as in item {first.index}."
                    violations = [Violation(detail, pointer=pointer_to([name])) for name in key.fields]
                    judged[item.index] = replace(item, error=InvalidError(violations=violations))
        return sorted(judged.values(), key=lambda item: ranks[item.index])

    def _places(self, key: ModelKey, items: Sequence[Item]) -> Sequence[Place]:
        return key.places(self._session, [item.data for item in items]) if items else ()

    def _locked(self, items: Sequence[Item], guard: Guard) -> list[Item]:
        """The items with their rows, which are locked; refused where there is none, or in another version."""
        self._service.lock_references(*(item.data for item in items))
        rows = self._service.locked_many({item.key for item in items if not item.error})
        first: dict[Any, int] = {}
        for item in items:
            first.setdefault(item.key, item.index)
        return [item if item.error else self._found(item, rows.get(item.key), first[item.key], guard) for item in items]

    def _found(self, item: Item, row: Any, first: int, guard: Guard) -> Item:
        if first != item.index:
            return _refused(item, InvalidError, f"The same as in item {first}.", "id")
        try:
            if row is None:
                raise NotFoundError  # noqa: TRY301 - as the guard does of a row that is out of sight
            guard(item, row)
        except NotFoundError:
            return _refused(item, NotFoundError, f"There is no {self._one} {item.key}.", "id")
        except APIError as error:
            return replace(item, error=error)
        version = getattr(row, "version", None)
        if item.version is not None and item.version != version:
            detail = f"The {self._one} has changed since this version; fetch it again."
            return _refused(item, PreconditionFailedError, detail, "version")
        return replace(item, row=row)

    # -- writing --------------------------------------------------------------------------------------------------

    def _run(self, items: Sequence[Item], work: _Work) -> list[Verdict]:
        """A verdict for each item, by its index; what fails has left nothing behind."""
        good = [item for item in items if item.error is None]
        verdicts = [_failure(item, item.error) for item in items if item.error is not None]
        if good:
            with self._service.acquainted([item.data for item in good], [item.row for item in good if item.row]):
                verdicts += self._written(good, work)
        return sorted(verdicts, key=lambda verdict: verdict.index)

    def _written(self, items: Sequence[Item], work: _Work) -> list[Verdict]:
        try:
            return self._in_savepoint(items, work)
        except UnavailableError:
            raise
        except APIError as error:
            if len(items) == 1:
                return [_failure(items[0], error)]
        return [verdict for item in items for verdict in self._written([item], work)]

    def _in_savepoint(self, items: Sequence[Item], work: _Work) -> list[Verdict]:
        with transaction(self._session):
            return [_success(item, row, status) for item, (row, status) in zip(items, work(items), strict=True)]


def refuse_failures(verdicts: Sequence[Verdict], place: Callable[[Verdict, Violation], Violation]) -> None:
    """Refuse the whole list when an item of it failed; `place` says where in the request a violation is.

    Raises:
        APIError: of the failures' kind, or an `InvalidError` where they are of several, with all that is wrong.
    """
    failures = [verdict for verdict in verdicts if verdict.error is not None]
    if not failures:
        return
    kinds = {type(verdict.error) for verdict in failures}
    kind: Any = kinds.pop() if len(kinds) == 1 else InvalidError
    detail = f"{len(failures)} of {len(verdicts)} failed, and nothing was written."
    raise kind(detail, violations=[place(verdict, found) for verdict in failures for found in violations_of(verdict)])


def violations_of(verdict: Verdict) -> Sequence[Violation]:
    """What is wrong with an item, as its own request would have been told; at least one thing for one that failed."""
    if verdict.error is None:
        return ()
    return verdict.error.violations or (Violation(verdict.error.detail),)


def _refused(item: Item, kind: type[APIError], detail: str, name: str) -> Item:
    return replace(item, error=kind(violations=[Violation(detail, pointer=pointer_to([name]))]))


def _has_key(item: Item, key: ModelKey) -> bool:
    return all(item.data.get(name) is not None for name in key.attributes)


def _with_key(item: Item, key: ModelKey) -> Item:
    missing = [name for name in key.attributes if item.data.get(name) is None]
    return (
        item if item.error or not missing else _refused(item, InvalidError, "Is needed to tell rows apart.", missing[0])
    )


def _success(item: Item, row: Any, status: int) -> Verdict:
    version = None if status == DELETED else getattr(row, "version", None)
    return Verdict(item.index, status, inspect(row).identity[0], version)


def _failure(item: Item, error: APIError) -> Verdict:
    return Verdict(item.index, error.status, item.key, error=error)
