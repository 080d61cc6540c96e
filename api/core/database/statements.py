"""Counts the SQL statements that a piece of code sends: the proof that a read is one statement.

Counted is what reaches the driver's `execute` or `executemany` through SQLAlchemy; one `executemany` is one statement.
Not counted: `BEGIN`, `COMMIT` and `ROLLBACK`, which the driver sends by itself, and the pool's pre-ping.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Engine, event

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Connection

_current: ContextVar[StatementCounter | None] = ContextVar("statement_counter", default=None)


class StatementCounter:
    """How many statements this thread (more exactly: this context) has sent since `start()`, over all engines.

    Counters nest: a statement counts in every counter that is running.
    """

    __slots__ = ("_outer", "count", "statements")

    def __init__(self, *, keep_texts: bool = False) -> None:
        self.count = 0
        self.statements: list[str] | None = [] if keep_texts else None
        """The texts with placeholders, oldest first; None unless they were asked for."""
        self._outer: StatementCounter | None = None

    def start(self) -> None:
        """Count from now on."""
        self._outer = _current.get()
        _current.set(self)

    def stop(self) -> None:
        """Count no further; the counter that ran before goes on."""
        # Not ContextVar.reset(): a streamed answer may end in another context than the one that it began in.
        _current.set(self._outer)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def counting(*, keep_texts: bool = False) -> StatementCounter:
    """Count the statements of a `with` block into `.count`; with `keep_texts`, list them in `.statements`, too."""
    return StatementCounter(keep_texts=keep_texts)


@event.listens_for(Engine, "before_cursor_execute")
def _count(_connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
    count_statement(statement)


def count_statement(statement: str) -> None:
    """Count a statement that is sent past SQLAlchemy."""
    counter = _current.get()
    while counter is not None:
        counter.count += 1
        if counter.statements is not None:
            counter.statements.append(statement)
        counter = counter._outer  # noqa: SLF001 - its own class
