"""gunicorn's threaded worker, made safe against slow clients.

gunicorn gives a new connection a thread, which waits for the request: some dozens of silent or dripping clients take
all threads. Here a connection waits in the worker's event loop, in which it costs a little memory, and gets a thread
when its request has arrived: the head, and a body that is not too long to be kept in memory. What is read of a longer
body must come at a least speed, and what is left of an answer is sent by the loop, too.

What arrives is looked at only to find the request's end. It is parsed by gunicorn, once, from its first byte.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.http.errors import UnsupportedTransferCoding  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.core.http.server.arrival import Inbox
from api.core.http.server.errors import write_last_words, write_refusal
from api.core.http.server.sockets import Budget, Patience, PatientListener, PatientSocket
from api.core.http.server.time_limit import OutOfTimeError, TimeLimit
from api.core.http.server.waiting import Wait, WaitingRoom

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BLOCK = 65_536
_LOOK_INTERVAL = 0.5
_LINGER = 1.0
"""Seconds that a stopping worker waits for the rest of a request whose beginning has arrived."""

_OVERRIDDEN = (
    "accept",
    "enqueue_req",
    "finish_request",
    "handle_request",
    "_keepalive_after",
    "handle_error",
    "murder_pending",
    "run",
)
_NOT_ENOUGH = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """A `ThreadWorker` whose threads only see requests that are there, and do not see answers off."""

    patience = Patience()
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._budget = Budget(self.patience.buffered)
        self._time_limit = TimeLimit(self.patience.answer)
        self._looked = 0.0

    def init_process(self) -> None:
        """Start, with nobody waiting."""
        for name in _OVERRIDDEN:
            if not hasattr(ThreadWorker, name):
                raise RuntimeError(f"This version of gunicorn's ThreadWorker has no {name}; see {__name__}")
        super().init_process()

    def run(self) -> None:
        """Serve until the worker is to stop, and then until all has been answered."""
        self._waiting = WaitingRoom(self.poller)
        super().run()

    # -- what gunicorn calls --------------------------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection; where there are too many, in the place of one that waits."""
        try:
            super().accept(PatientListener(listener, self.patience, self._budget))
        except OSError as error:
            if error.errno not in _NOT_ENOUGH:
                raise
            self._waiting.make_room()
        if self.nr_conns >= self.worker_connections:
            self._waiting.make_room()

    def enqueue_req(self, conn: Any) -> None:
        """Wait for the first request of `conn`."""
        if self.cfg.is_ssl:
            super().enqueue_req(conn)
        else:
            self._expect(conn, self.patience.head)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Go on with `conn`, whose request a thread has answered."""
        if self.cfg.is_ssl or conn.is_http2:
            super().finish_request(conn, fs)
            return
        self._budget.give_back(conn.kept)
        try:
            keep = not fs.cancelled() and bool(fs.result())
        except Exception:
            self.log.exception("Error handling a connection")
            self._close(conn)
            return
        self._see_off(conn, keep=keep)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer `req`, in a thread, within the time that a request may take; whether the connection can be kept."""
        if not isinstance(conn.sock, PatientSocket):
            return bool(super().handle_request(req, conn))
        _refuse_stacked_codings(req)
        if not conn.streams:
            # It has been told to go on.
            req._expected_100_continue = False  # noqa: SLF001 - gunicorn has no other name for it
        try:
            self._time_limit.begin(conn.sock)
            try:
                return bool(super().handle_request(req, conn))
            finally:
                self._time_limit.end()
        except OutOfTimeError:
            if not conn.sock.has_answered:
                write_last_words(conn.sock, HTTPStatus.SERVICE_UNAVAILABLE, "The request took too long.")
            return False

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:  # noqa: FBT001 - gunicorn's signature
        """Whether the connection can be used again; not where its thread would have to wait for the rest of a body."""
        if getattr(conn, "streams", False) and keepalive:
            body = conn.parser.mesg.body.reader
            keepalive = getattr(body, "length", None) == 0 or getattr(body, "parser", body) is None
        return bool(super()._keepalive_after(conn, keepalive))

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Tell the client what is wrong with its request, and the log no more than that it was refused."""
        if not write_refusal(client, exc):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("Refused a request of %s: %s", addr[0] if addr else "a local client", type(exc).__name__)

    def murder_pending(self) -> None:
        """Look who was waited for long enough, or has worked for long enough; gunicorn's loop calls it each round."""
        now = time.monotonic()
        if now - self._looked < _LOOK_INTERVAL and self.alive:
            return
        self._looked = now
        if not self.alive:
            self._hurry(now)
        self._waiting.look(now)
        if self._time_limit.interrupt_overdue() and self.alive:
            self.log.error(
                "A request took longer than %s s and is broken off; the worker is replaced", self.patience.answer
            )
            # Whatever the code that was broken off has left behind goes with the process.
            self.alive = False

    def _hurry(self, now: float) -> None:
        """Wait no longer than needed for requests, since the worker stops; answers are sent all the same."""
        for wait in self._waiting:
            if not wait.conn.sock.outbox:
                wait.deadline = min(wait.deadline, now + _LINGER if wait.held else now)

    # -- requests -------------------------------------------------------------------------------------------------

    def _expect(self, conn: Any, seconds: float, leftover: bytes = b"") -> None:
        """Wait that long for the beginning of a request; `leftover` has arrived behind the one before it."""
        conn.sock.setblocking(False)
        inbox = Inbox(self.patience.body_bytes, self.cfg.limit_request_line)
        wait = Wait(conn, time.monotonic() + seconds, self._give_up, inbox)
        self._waiting.admit(wait, EVENT_READ, self._receive)
        if leftover:
            self._take(wait, inbox, leftover)
        if wait in self._waiting:
            self._receive(wait, conn.sock)

    def _receive(self, wait: Wait, sock: socket.socket) -> None:
        """Take what has arrived, and go on when it is all there."""
        inbox: Inbox = wait.inbox  # type: ignore[assignment]
        try:
            data = socket.socket.recv(sock, _BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._take(wait, inbox, data)
        elif inbox.content:
            # gunicorn finds out what is missing.
            self._hand_over(wait, inbox)
        else:
            self._close(wait.conn)

    def _take(self, wait: Wait, inbox: Inbox, data: bytes) -> None:
        """Add `data` to the request, and let it be answered when it is all there."""
        if not self._budget.take(len(data)):
            self._waiting.make_space(wait)
            if not self._budget.take(len(data)):
                self._refuse(wait, HTTPStatus.SERVICE_UNAVAILABLE)
                return
        was_empty, had_head = not inbox.content, inbox.has_head
        if inbox.add(data):
            if inbox.refusal:
                self._refuse(wait, inbox.refusal)
            else:
                self._hand_over(wait, inbox)
            return
        if inbox.has_head:
            if not had_head:
                wait.deadline = time.monotonic() + self.patience.body
                self._tell_to_go_on(wait.conn, inbox)
            wait.deadline += len(data) / self.patience.rate
        elif was_empty:
            wait.deadline = time.monotonic() + self.patience.head

    def _tell_to_go_on(self, conn: Any, inbox: Inbox) -> None:
        if inbox.expects:
            with suppress(OSError):
                conn.sock.send(_CONTINUE)

    def _hand_over(self, wait: Wait, inbox: Inbox) -> None:
        """Let a thread answer the request."""
        conn = wait.conn
        self._waiting.dismiss(conn)
        conn.kept = len(inbox.content)
        conn.init()
        conn.sock.begin_request()
        conn.data_ready = True
        conn.streams = inbox.streams
        conn.parser.unreader.unread(bytes(inbox.content))
        super().enqueue_req(conn)

    def _give_up(self, wait: Wait) -> None:
        """Close a connection on which nothing has arrived, or not all of a request."""
        self._refuse(wait, HTTPStatus.REQUEST_TIMEOUT if wait.inbox and wait.inbox.content else None)

    def _refuse(self, wait: Wait, status: HTTPStatus | None) -> None:
        """Close the connection, with a last word where there is one."""
        self._waiting.dismiss(wait.conn)
        if wait.inbox is not None:
            self._budget.give_back(len(wait.inbox.content))
        if status is None:
            self._close(wait.conn)
            return
        with suppress(OSError):
            write_last_words(wait.conn.sock, status)
        self._see_off(wait.conn, keep=False)

    # -- answers --------------------------------------------------------------------------------------------------

    def _see_off(self, conn: Any, *, keep: bool) -> None:
        """Send the rest of the answer, then wait for the next request or close."""
        if conn.sock.outbox:
            conn.sock.setblocking(False)
            wait = Wait(conn, time.monotonic() + self.patience.silence, self._abandon)
            self._waiting.admit(wait, EVENT_WRITE, partial(self._send, keep))
        elif not keep:
            self._part(conn)
        else:
            self._expect(conn, self.cfg.keepalive, conn.parser.unreader.take_buffered())

    def _send(self, keep: bool, wait: Wait, sock: PatientSocket) -> None:  # noqa: FBT001 - bound by partial
        """Send what the client takes now."""
        before = len(sock.outbox)
        try:
            done = sock.flush()
        except OSError:
            self._close(wait.conn)
            return
        wait.deadline += (before - len(sock.outbox)) / self.patience.rate
        if done:
            self._waiting.dismiss(wait.conn)
            self._see_off(wait.conn, keep=keep)

    def _part(self, conn: Any) -> None:
        """Say that there is no more, and close when the client has done so, too (RFC 9112, 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.sock.setblocking(False)
        wait = Wait(conn, time.monotonic() + _LINGER, self._abandon)
        self._waiting.admit(wait, EVENT_READ, self._drain)
        self._drain(wait, conn.sock)

    def _drain(self, wait: Wait, sock: socket.socket) -> None:
        """Throw away what still arrives."""
        try:
            data = socket.socket.recv(sock, _BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(wait.conn)

    def _abandon(self, wait: Wait) -> None:
        self._close(wait.conn)

    def _close(self, conn: Any) -> None:
        self._waiting.dismiss(conn)
        self.nr_conns -= 1
        conn.close()


def _refuse_stacked_codings(req: Any) -> None:
    """Refuse bodies that are coded in more ways than chunked, or say it in an unusual way; nobody reads them the same.

    Raises:
        UnsupportedTransferCoding: which is gunicorn's.
    """
    for name, value in req.headers:
        if name == "TRANSFER-ENCODING" and value.lower() != "chunked":
            raise UnsupportedTransferCoding(value)
