"""The connections that no thread has: for what and until when each is waited, and which has to go for others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from selectors import BaseSelector

    from api.core.http.server.arrival import Inbox


@dataclass(slots=True, eq=False)
class Wait:
    """A connection, until when it is waited for, and what to do then."""

    conn: Any
    deadline: float
    expire: Callable[[Wait], None]
    inbox: Inbox | None = None
    """What has arrived of a request; None where an answer is sent, or the client is to close."""

    @property
    def held(self) -> int:
        """Bytes that are kept for it."""
        return len(self.conn.sock.outbox) + (len(self.inbox.content) if self.inbox else 0)

    @property
    def address(self) -> Any:
        """Where the client is; nothing but that, of a client on this machine's own socket."""
        client = self.conn.client
        return client[0] if isinstance(client, tuple) else client


class WaitingRoom:
    """All connections that are waited for."""

    def __init__(self, poller: BaseSelector) -> None:
        """Wait with `poller`, which calls the data that a socket is registered with."""
        self._poller = poller
        self._waits: dict[int, Wait] = {}

    def __iter__(self) -> Iterator[Wait]:
        """All of them, as they are now."""
        return iter([*self._waits.values()])

    def __contains__(self, wait: Wait) -> bool:
        """Whether this is still waited for."""
        return self._waits.get(wait.conn.sock.fileno()) is wait

    def admit(self, wait: Wait, events: int, callback: Callable[[Wait, socket.socket], None]) -> Wait:
        """Call `callback` on `events` until `dismiss()`."""
        self._poller.register(wait.conn.sock, events, partial(callback, wait))
        self._waits[wait.conn.sock.fileno()] = wait
        return wait

    def dismiss(self, conn: Any) -> None:
        """Wait for this connection no longer."""
        if self._waits.pop(conn.sock.fileno(), None) is not None:
            self._poller.unregister(conn.sock)

    def look(self, now: float) -> None:
        """Let those expire whose time is over."""
        for wait in self:
            if wait.deadline <= now and wait in self:
                wait.expire(wait)

    def make_room(self) -> None:
        """Let one expire: of the address that has the most, the one that has to end first."""
        if most := self._of_whom(lambda _: 1):
            first = min(most, key=lambda wait: wait.deadline)
            first.expire(first)

    def make_space(self, newcomer: Wait) -> None:
        """Let one expire: of the address for which the most bytes are kept, the one that has the most of them."""
        most = self._of_whom(lambda wait: wait.held)
        largest = max(most, key=lambda wait: wait.held, default=newcomer)
        if largest is not newcomer:
            largest.expire(largest)

    def _of_whom(self, weight: Callable[[Wait], int]) -> list[Wait]:
        """Those of the address that weighs the most."""
        by_address: dict[Any, list[Wait]] = defaultdict(list)
        for wait in self:
            by_address[wait.address].append(wait)
        return max(by_address.values(), key=lambda waits: sum(map(weight, waits)), default=[])
