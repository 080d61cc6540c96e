"""`transaction()`: the only place that commits; and what is to happen when it has."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.exc import StaleDataError

from api.core.database.failures import raise_meaning
from api.core.errors import PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
"""What a transaction sees of others: PostgreSQL documentation, 13.2."""

_OPEN = "open_transaction"
STRICT_LOADING = "strict_loading"
"""Key of `session.info`: when set, a relationship that was not loaded on purpose raises instead of querying."""


_logger = logging.getLogger(__name__)


class LazyLoadError(RuntimeError):
    """A relationship was about to be loaded row by row where that is not allowed; load it with `selectinload`."""


@event.listens_for(Session, "do_orm_execute")
def _refuse_lazy_loads(state: ORMExecuteState) -> None:
    if state.is_select and state.session.info.get(STRICT_LOADING) and state.lazy_loaded_from is not None:
        message = f"{state.loader_strategy_path} was not loaded; name it in selectinload() or joinedload()"
        raise LazyLoadError(message)


class _Transaction:
    """A transaction that is open: its isolation, what it keeps, and what to call at its commit, by savepoint."""

    def __init__(self, isolation: Isolation | None) -> None:
        self.isolation = isolation
        self.hooks: list[list[Callable[[], object]]] = [[]]
        self.kept: dict[Any, Any] = {}


@contextmanager
def transaction(session: Session, *, isolation: Isolation | None = None) -> Iterator[Session]:
    """Commit when the block ends, roll back when it raises; inside another `transaction()`, a savepoint.

    `isolation` holds for this transaction only; without it, the server's default does.

    Raises:
        APIError: for what the database refused, in terms of the fields concerned.
        RuntimeError: for an isolation that comes too late, in a transaction that has begun with another one.
    """
    outer: _Transaction | None = session.info.get(_OPEN)
    if outer is not None:
        _refuse_isolation(wanted=isolation, given=outer.isolation)
        with _savepoint(session, outer):
            yield session
        return
    opened = session.info[_OPEN] = _Transaction(isolation)
    try:
        with translated_failures():
            if isolation is not None:
                _isolate(session, isolation)
            yield session
            session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info[_OPEN]
    _call(opened.hooks[0])


@contextmanager
def _savepoint(session: Session, outer: _Transaction) -> Iterator[None]:
    outer.hooks.append([])
    try:
        with translated_failures(), session.begin_nested():
            yield
    except BaseException:
        outer.hooks.pop()
        raise
    hooks = outer.hooks.pop()
    outer.hooks[-1] += hooks


def _refuse_isolation(*, wanted: Isolation | None, given: Isolation | None) -> None:
    if wanted not in {None, given}:
        raise RuntimeError(f"The transaction around this one has begun already; it would have to be {wanted}")


def _isolate(session: Session, isolation: Isolation) -> None:
    if session.in_transaction():
        raise RuntimeError(f"The session has begun a transaction already, which cannot become {isolation}")
    # The pool takes it back when the connection is returned.
    session.connection(execution_options={"isolation_level": isolation})


def in_transaction(session: Session) -> bool:
    """Whether a `transaction()` is open."""
    return _OPEN in session.info


def kept(session: Session) -> dict[Any, Any]:
    """What is to be kept until the transaction that is open ends; nothing is, where none is open."""
    opened: _Transaction | None = session.info.get(_OPEN)
    return {} if opened is None else opened.kept


def on_commit(session: Session, function: Callable[[], object]) -> None:
    """Call `function` once the outermost transaction has been committed; never, when it or the savepoint is undone.

    Functions are called in the order in which they were given, outside of the transaction; they may open a new one.
    What one of them raises is logged: the work is committed, and the others are called all the same. They are lost when
    the process dies first; what must not be lost is published by `outbox.publish()`.

    Raises:
        RuntimeError: outside of a transaction.
    """
    opened: _Transaction | None = session.info.get(_OPEN)
    if opened is None:
        raise RuntimeError("on_commit() waits for the end of a transaction; call it within `with db.transaction():`")
    opened.hooks[-1].append(function)


def _call(hooks: list[Callable[[], object]]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:
            _logger.exception("A function given to on_commit() has failed; the transaction is committed")


@contextmanager
def translated_failures() -> Iterator[None]:
    """Turn what the driver raises in the block into an `APIError` where it has a meaning for a client."""
    try:
        yield
    except StaleDataError as error:
        raise PreconditionFailedError from error
    except (DBAPIError, PoolTimeoutError) as error:
        raise_meaning(error)
