"""The connections that no thread has: for what and until when each is waited, and which has to go for others."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from selectors import BaseSelector

    from api.core.http.server.arrival import Inbox
    from api.core.http.server.sockets import Budget, PatientSocket

BLOCK = 65_536
"""Bytes that are taken at once."""


@dataclass(slots=True, eq=False)
class Wait:
    """A connection, what to do when its socket is ready, until when it is waited for, and what to do then."""

    conn: Any
    ready: Callable[[Wait, Any], None]
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
    """All connections that are waited for.

    One that a thread answers in between stays with the poller: taking it out and in again would cost each request two
    system calls, and with each the interpreter's lock. What arrives meanwhile is kept, in its order.
    """

    def __init__(self, poller: BaseSelector, budget: Budget) -> None:
        """Wait with `poller`, which calls the data that a socket is registered with; keep what `budget` allows."""
        self._poller = poller
        self._budget = budget
        self._waits: dict[int, Wait] = {}
        self._polled: dict[int, int] = {}
        """What the poller looks for at each socket."""
        self._early: dict[int, bytes] = {}
        """What has arrived while a thread was answering what came before."""
        self._lock = Lock()

    def __iter__(self) -> Iterator[Wait]:
        """All of them, as they are now."""
        return iter([*self._waits.values()])

    def __contains__(self, wait: Wait) -> bool:
        """Whether this is still waited for."""
        return self._waits.get(wait.conn.sock.fileno()) is wait

    def admit(self, wait: Wait, events: int) -> None:
        """Call `wait.ready` on `events` until `park()` or `dismiss()`."""
        sock = wait.conn.sock
        number = sock.fileno()
        self._waits[number] = wait
        polled = self._polled.get(number)
        if polled is None:
            self._poller.register(sock, events, self._ready)
        elif polled != events:
            self._poller.modify(sock, events, self._ready)
        self._polled[number] = events

    def park(self, conn: Any) -> None:
        """Leave this connection to a thread until `resume()`, or `admit()`."""
        self._waits.pop(conn.sock.fileno(), None)

    def resume(self, wait: Wait) -> bool:
        """From any thread: have `wait.ready` called when something arrives. False where something may have."""
        number = wait.conn.sock.fileno()
        with self._lock:
            if number in self._early or self._polled.get(number) != EVENT_READ:
                return False
            self._waits[number] = wait
            return True

    def take_early(self, conn: Any, is_enough: Callable[[bytes], bool] = bool) -> bytes:
        """From any thread: what has arrived while it was parked, where that is enough; it stays where it is not."""
        number = conn.sock.fileno()
        with self._lock:
            early = self._early.get(number, b"")
            if not early or not is_enough(early):
                return b""
            del self._early[number]
        return early

    def dismiss(self, conn: Any) -> None:
        """Wait for this connection no longer; what has arrived early is kept."""
        number = conn.sock.fileno()
        self._waits.pop(number, None)
        if self._polled.pop(number, None) is not None:
            self._poller.unregister(conn.sock)

    def _ready(self, sock: PatientSocket) -> None:
        number = sock.fileno()
        with self._lock:
            wait = self._waits.get(number)
            # One that has been closed a moment ago may still be among what the poller has told.
            if wait is None and number in self._polled and not self._keep(number, sock):
                # Of more, and of its end, nobody is told until it is admitted again.
                del self._polled[number]
                self._poller.unregister(sock)
        if wait is not None:
            wait.ready(wait, sock)

    def _keep(self, number: int, sock: PatientSocket) -> bool:
        """Keep what arrives early, once; whether there was room, and anything."""
        if number in self._early or not self._budget.take(BLOCK):
            return False
        data = b""
        with suppress(OSError):
            data = sock.take(BLOCK)
        self._budget.give_back(BLOCK - len(data))
        if data:
            self._early[number] = data
        return bool(data)

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
