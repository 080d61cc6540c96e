"""Who is acting: the sender of a request, or the service itself."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, nobody that is known, or the service itself.

    `name` is the same in each of the caller's requests, and shown in the history: `user:17`. `scopes` None means all
    that the roles allow, as after a login; an API key is limited to those that it names. `is_trusted` is code of the
    service that acts for nobody, such as a command: nothing is refused to it.
    """

    name: str
    user_id: int | None = None
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    is_trusted: bool = False
    is_authenticated: bool = field(init=False, repr=False, compare=False)
    """Whether it is known who this is."""
    kind: tuple[bool, frozenset[str], frozenset[str] | None] = field(init=False, repr=False, compare=False)
    """What permissions depend on; which rows are the caller's own is another matter."""

    def __post_init__(self) -> None:
        """Work out once what each request asks several times."""
        object.__setattr__(self, "is_authenticated", self.user_id is not None)
        object.__setattr__(self, "kind", (self.is_authenticated, self.roles, self.scopes))


ANONYMOUS = Caller("anonymous")
SYSTEM = Caller("system", is_trusted=True)

_CURRENT: ContextVar[Caller] = ContextVar("caller", default=SYSTEM)


def current_caller() -> Caller:
    """Who is acting now; outside of requests it is the service itself."""
    return _CURRENT.get()


def set_caller(caller: Caller) -> None:
    """Let `caller` act from now on, in this thread or task."""
    _CURRENT.set(caller)


@contextmanager
def calling_as(caller: Caller) -> Iterator[None]:
    """Let `caller` act in the block."""
    before = _CURRENT.get()
    _CURRENT.set(caller)
    try:
        yield
    finally:
        _CURRENT.set(before)
