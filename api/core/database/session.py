"""`transaction()`: the only place that commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.exc import StaleDataError

from api.core.database.failures import translate
from api.core.errors import PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACTIVE = "transaction_active"
STRICT_LOADING = "strict_loading"
"""Key of `session.info`: when set, a relationship that was not loaded on purpose raises instead of querying."""


class LazyLoadError(RuntimeError):
    """A relationship was about to be loaded row by row where that is not allowed; load it with `selectinload`."""


@event.listens_for(Session, "do_orm_execute")
def _refuse_lazy_loads(state: ORMExecuteState) -> None:
    if state.is_select and state.session.info.get(STRICT_LOADING) and state.lazy_loaded_from is not None:
        message = f"{state.loader_strategy_path} was not loaded; name it in selectinload() or joinedload()"
        raise LazyLoadError(message)


@contextmanager
def transaction(session: Session) -> Iterator[Session]:
    """Commit when the block ends, roll back when it raises; inside another `transaction()`, a savepoint.

    Raises:
        APIError: for what the database refused, in terms of the fields concerned.
    """
    if session.info.get(_ACTIVE):
        with translated_failures(), session.begin_nested():
            yield session
        return
    session.info[_ACTIVE] = True
    try:
        with translated_failures():
            yield session
            session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.info.pop(_ACTIVE, None)


@contextmanager
def translated_failures() -> Iterator[None]:
    """Turn what the driver raises in the block into an `APIError` where it has a meaning for a client."""
    try:
        yield
    except StaleDataError as error:
        raise PreconditionFailedError from error
    except (DBAPIError, PoolTimeoutError) as error:
        meaning = translate(error)
        if meaning is None:
            raise
        raise meaning from error
