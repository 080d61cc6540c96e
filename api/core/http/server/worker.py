"""gunicorn's threaded worker, made safe against slow clients.

gunicorn gives a new connection a thread, which waits for the request: some dozens of silent or dripping clients take
all threads. Here a connection waits in the worker's event loop, in which it costs a little memory, and gets a thread
when its request has arrived: the head, and a body that is not too long to be kept in memory. What is read of a longer
body must come at a least speed, and what is left of an answer is sent by the loop, too.

What arrives is looked at only to find the request's end. It is parsed by gunicorn, once, from its first byte.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.core.http.server.errors import LAST_WORDS, write_problem
from api.core.http.server.sockets import Budget, Patience, PatientListener, PatientSocket

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BLOCK = 65_536
_HEAD_MAX = 65_536
"""Bytes of a head after which it is gunicorn's business, which has limits of its own and says which is exceeded."""
_LOOK_INTERVAL = 0.5
_LINGER = 1.0
"""Seconds that a stopping worker waits for the rest of a request whose beginning has arrived."""


@dataclass(slots=True, eq=False)
class _Wait:
    """A connection that no thread has, until when, and what to do then."""

    conn: Any
    deadline: float
    expire: Callable[[], None]
    is_idle: bool = False
    """Whether nothing has arrived and nothing is to be sent: it can be closed for another one, and when we stop."""


@dataclass(slots=True, eq=False)
class _Inbox:
    """What has arrived of the next request on a connection."""

    conn: Any
    wait: _Wait | None = None
    content: bytearray = field(default_factory=bytearray)
    head_end: int = 0
    """Where the body begins, once that has arrived."""
    wanted: int | None = None
    """Bytes of the whole request; None as long as it is not known, or a body ends where it says so."""


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """A `ThreadWorker` whose threads only see requests that are there, and do not see answers off."""

    patience = Patience()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._budget = Budget(self.patience.buffered)
        self._waits: dict[int, _Wait] = {}
        self._looked = 0.0

    # -- what gunicorn calls --------------------------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection; where there are too many, in the place of one that waits."""
        super().accept(PatientListener(listener, self.patience, self._budget))
        if self.nr_conns >= self.worker_connections:
            self._make_room()

    def enqueue_req(self, conn: Any) -> None:
        """Wait for the first request of `conn`."""
        if self.cfg.is_ssl:
            super().enqueue_req(conn)
        else:
            self._expect(_Inbox(conn), self.patience.head)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with `conn`, whose request a thread has answered."""
        if self.cfg.is_ssl or conn.is_http2:
            super().finish_request(conn, fs)
            return
        try:
            keep = not fs.cancelled() and bool(fs.result())
        except Exception:
            self.log.exception("Error handling a connection")
            self._close(conn)
            return
        self._see_off(conn, keep=keep)

    def murder_pending(self) -> None:
        """Close the connections that have been waited for long enough; gunicorn's loop calls it in each round."""
        now = time.monotonic()
        if now - self._looked < _LOOK_INTERVAL and self.alive:
            return
        self._looked = now
        for wait in [*self._waits.values()]:
            if not self.alive:
                wait.deadline = min(wait.deadline, now if wait.is_idle else now + _LINGER)
            if wait.deadline <= now:
                wait.expire()

    # -- requests -------------------------------------------------------------------------------------------------

    def _expect(self, inbox: _Inbox, seconds: float, leftover: bytes = b"") -> None:
        """Wait that long for the beginning of a request; `leftover` has arrived behind the one before it."""
        inbox.conn.sock.setblocking(False)
        inbox.wait = self._wait(
            inbox.conn, EVENT_READ, partial(self._receive, inbox), seconds, partial(self._give_up, inbox)
        )
        inbox.wait.is_idle = True
        if leftover:
            self._take(inbox, leftover)
        if self._waits.get(inbox.conn.sock.fileno()) is inbox.wait:
            self._receive(inbox, inbox.conn.sock)

    def _receive(self, inbox: _Inbox, sock: socket.socket) -> None:
        """Take what has arrived, and go on when it is all there."""
        try:
            data = socket.socket.recv(sock, _BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._take(inbox, data)
        elif inbox.content:
            # gunicorn finds out what is missing.
            self._hand_over(inbox)
        else:
            self._discard(inbox)

    def _take(self, inbox: _Inbox, data: bytes) -> None:
        """Add `data` to the request, and let it be answered when it is all there."""
        if not self._budget.take(len(data)):
            self._discard(inbox, HTTPStatus.SERVICE_UNAVAILABLE)
            return
        if inbox.wait is not None and not inbox.content:
            inbox.wait.is_idle = False
            inbox.wait.deadline = time.monotonic() + self.patience.head
        inbox.content += data
        if self._has_arrived(inbox):
            self._hand_over(inbox)

    def _has_arrived(self, inbox: _Inbox) -> bool:
        """Whether the request is all there, or is too long to be waited for here."""
        content = inbox.content
        if not inbox.head_end:
            found = content.find(_HEAD_END)
            if found < 0:
                return len(content) > _HEAD_MAX
            inbox.head_end = found + len(_HEAD_END)
            self._read_head(inbox)
        if inbox.wanted is None:
            return content.endswith(_LAST_CHUNK) or len(content) - inbox.head_end > self.patience.body_bytes
        return len(content) >= inbox.wanted

    def _read_head(self, inbox: _Inbox) -> None:
        """Find out how long the request is; a body that is too long to be kept does not count."""
        head = bytes(inbox.content[: inbox.head_end])
        length = _CONTENT_LENGTH.search(head)
        size = int(length[1]) if length else 0
        chunked = _CHUNKED.search(head) is not None
        if not chunked:
            inbox.wanted = inbox.head_end + (size if size <= self.patience.body_bytes else 0)
        if (chunked or size) and inbox.wait is not None:
            inbox.wait.deadline = time.monotonic() + self.patience.body
            if _EXPECTS.search(head) and size <= self.patience.body_bytes:
                with suppress(OSError):
                    inbox.conn.sock.send(_CONTINUE)

    def _hand_over(self, inbox: _Inbox) -> None:
        """Let a thread answer the request."""
        conn = inbox.conn
        self._forget(conn)
        self._budget.give_back(len(inbox.content))
        conn.init()
        conn.sock.begin_request()
        conn.data_ready = True
        conn.parser.unreader.unread(bytes(inbox.content))
        super().enqueue_req(conn)

    def _give_up(self, inbox: _Inbox) -> None:
        """Close a connection on which nothing has arrived, or not all of a request."""
        self._discard(inbox, HTTPStatus.REQUEST_TIMEOUT if inbox.content else None)

    def _discard(self, inbox: _Inbox, status: HTTPStatus | None = None) -> None:
        """Close the connection, with a last word where there is one."""
        self._budget.give_back(len(inbox.content))
        inbox.content.clear()
        if status is not None:
            with suppress(OSError):
                write_problem(inbox.conn.sock, status.value, status.phrase, LAST_WORDS[status])
        self._close(inbox.conn)

    # -- answers --------------------------------------------------------------------------------------------------

    def _see_off(self, conn: Any, *, keep: bool) -> None:
        """Send the rest of the answer, then wait for the next request or close."""
        if conn.sock.outbox:
            conn.sock.setblocking(False)
            send = partial(self._send, conn, keep)
            self._wait(conn, EVENT_WRITE, send, self.patience.silence, partial(self._close, conn))
        elif not keep:
            self._part(conn)
        else:
            self._expect(_Inbox(conn), self.cfg.keepalive, conn.parser.unreader.take_buffered())

    def _send(self, conn: Any, keep: bool, sock: PatientSocket) -> None:  # noqa: FBT001 - bound by partial
        """Send what the client takes now."""
        try:
            done = sock.flush()
        except OSError:
            self._close(conn)
            return
        if done:
            self._forget(conn)
            self._see_off(conn, keep=keep)

    def _part(self, conn: Any) -> None:
        """Say that there is no more, and close when the client has done so, too (RFC 9112, 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.sock.setblocking(False)
        self._wait(conn, EVENT_READ, partial(self._drain, conn), _LINGER, partial(self._close, conn)).is_idle = True
        self._drain(conn, conn.sock)

    def _drain(self, conn: Any, sock: socket.socket) -> None:
        """Throw away what still arrives."""
        try:
            data = socket.socket.recv(sock, _BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(conn)

    # -- waiting --------------------------------------------------------------------------------------------------

    def _wait(
        self, conn: Any, events: int, callback: Callable[[Any], None], seconds: float, expire: Callable[[], None]
    ) -> _Wait:
        """Call `callback` on `events`, and `expire` after that time."""
        self.poller.register(conn.sock, events, callback)
        wait = self._waits[conn.sock.fileno()] = _Wait(conn, time.monotonic() + seconds, expire)
        return wait

    def _forget(self, conn: Any) -> None:
        """Wait for this connection no longer."""
        if self._waits.pop(conn.sock.fileno(), None) is not None:
            self.poller.unregister(conn.sock)

    def _close(self, conn: Any) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _make_room(self) -> None:
        """Close a connection that waits: of the address that has the most of them, the one that has waited longest."""
        by_address: dict[Any, list[_Wait]] = {}
        for wait in self._waits.values():
            by_address.setdefault(_address(wait.conn), []).append(wait)
        if by_address:
            most = max(by_address.values(), key=len)
            min(most, key=lambda wait: wait.deadline).expire()


def _address(conn: Any) -> Any:
    client = conn.client
    return client[0] if isinstance(client, tuple) else client
