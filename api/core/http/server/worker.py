"""gunicorn's threaded worker, made safe against slow clients.

gunicorn gives a new connection a thread, which waits for the request: some dozens of silent or dripping clients take
all threads. Here a connection waits in the worker's event loop, in which it costs a little memory, and gets a thread
when its request has arrived: the head, and a body that is not too long to be kept in memory. What is read of a longer
body must come at a least speed, and what is left of an answer is sent by the loop, too.

What arrives is looked at only to find the request's end. It is parsed by gunicorn, once, from its first byte.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import UnsupportedTransferCoding  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.core.http.server.arrival import Inbox
from api.core.http.server.crew import Crew
from api.core.http.server.errors import write_last_words, write_refusal
from api.core.http.server.sockets import Budget, Patience, PatientListener, PatientSocket
from api.core.http.server.time_limit import OutOfTimeError, TimeLimit
from api.core.http.server.waiting import BLOCK, Wait, WaitingRoom

if TYPE_CHECKING:
    from socket import socket

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LOOK_INTERVAL = 0.5
_NOTIFY_INTERVAL = 1.0
_LINGER = 1.0
"""Seconds that a stopping worker waits for the rest of a request whose beginning has arrived."""

_OVERRIDDEN = (
    "accept",
    "enqueue_req",
    "handle",
    "handle_request",
    "_keepalive_after",
    "handle_error",
    "murder_pending",
    "notify",
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
        self._looked = self._notified = 0.0
        self._answered: deque[tuple[Any, bool]] = deque()
        self._is_called = False

    def init_process(self) -> None:
        """Start, with nobody waiting."""
        for name in _OVERRIDDEN:
            if not hasattr(ThreadWorker, name):
                raise RuntimeError(f"This version of gunicorn's ThreadWorker has no {name}; see {__name__}")
        # gunicorn looks for some dozens of its settings in each request; as plain attributes they are found at once.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self._is_ssl = self.cfg.is_ssl
        super().init_process()

    def run(self) -> None:
        """Serve until the worker is to stop, and then until all has been answered."""
        self._waiting = WaitingRoom(self.poller, self._budget)
        self._crew = Crew(self.cfg.threads, self._answer)
        super().run()

    # -- what gunicorn calls --------------------------------------------------------------------------------------

    def accept(self, listener: socket) -> None:
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
        if self._is_ssl:
            super().enqueue_req(conn)
        else:
            self._expect(conn, self.patience.head)

    def notify(self) -> None:
        """Tell the master that this worker is alive; gunicorn's loop calls it each round."""
        now = time.monotonic()
        if now - self._notified >= _NOTIFY_INTERVAL:
            self._notified = now
            super().notify()

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer `req`, in a thread, within the time that a request may take; whether the connection can be kept."""
        if not isinstance(conn.sock, PatientSocket):
            return bool(super().handle_request(req, conn))
        _refuse_stacked_codings(req)
        if not conn.streams:
            # It has been told to go on.
            req._expected_100_continue = False  # noqa: SLF001 - gunicorn has no other name for it
        try:
            return self._answered_in_time(req, conn)
        except OutOfTimeError:
            conn.sock.drop_answer()
            if not conn.sock.has_answered:
                write_last_words(conn.sock, HTTPStatus.SERVICE_UNAVAILABLE, "The request took too long.")
            return False

    def _answered_in_time(self, req: Any, conn: Any) -> bool:
        """Have `req` answered; what has been written is there or held back.

        Raises:
            OutOfTimeError: when it takes too long.
        """
        self._time_limit.begin(conn.sock)
        try:
            conn.sock.begin_answer()
            keep = bool(super().handle_request(req, conn))
            conn.sock.end_answer()
        finally:
            self._time_limit.end()
            conn.sock.drop_answer()
        return keep

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:  # noqa: FBT001 - gunicorn's signature
        """Whether the connection can be used again; not where its thread would have to wait for the rest of a body."""
        if not keepalive:
            return False
        body = conn.parser.mesg.body.reader
        if getattr(body, "length", None) == 0:
            return True
        if getattr(conn, "streams", False):
            keepalive = getattr(body, "parser", body) is None
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
        wait = self._wait_for_request(conn, seconds)
        self._waiting.admit(wait, EVENT_READ)
        if leftover:
            self._take(wait, wait.inbox, leftover)  # type: ignore[arg-type]
        if wait in self._waiting:
            self._receive(wait, conn.sock)

    def _wait_for_request(self, conn: Any, seconds: float) -> Wait:
        inbox = Inbox(self.patience.body_bytes, self.cfg.limit_request_line)
        return Wait(conn, self._receive, time.monotonic() + seconds, self._give_up, inbox)

    def _receive(self, wait: Wait, sock: PatientSocket) -> None:
        """Take what has arrived, and go on when it is all there."""
        inbox: Inbox = wait.inbox  # type: ignore[assignment]
        try:
            data = sock.take(BLOCK)
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
                conn.sock.sendall(_CONTINUE)

    def _hand_over(self, wait: Wait, inbox: Inbox) -> None:
        """Let a thread answer the request."""
        conn = wait.conn
        if inbox.streams:
            self._waiting.dismiss(conn)
        else:
            self._waiting.park(conn)
        conn.kept = len(inbox.content)
        conn.init()
        conn.sock.begin_request()
        conn.data_ready = True
        conn.streams = inbox.streams
        conn.parser.unreader.unread(bytes(inbox.content))
        self._crew.hand_over(conn)

    def _answer(self, conn: Any) -> None:
        """Answer the request on `conn`, in a thread, and wait for the next one or leave that to the loop."""
        keep = False
        try:
            keep = bool(self.handle(conn))
        except BaseException:
            # A view may exit, and its thread is needed.
            self.log.exception("Error handling a connection")
        self._budget.give_back(conn.kept)
        if keep and not conn.sock.outbox and self._goes_on(conn):
            return
        self._answered.append((conn, keep))
        if not self._is_called:
            self._is_called = True
            self.method_queue.defer(self._see_answered_off)

    def _goes_on(self, conn: Any) -> bool:
        """Wait for the next request, or let it be answered where it is there; False where more is to be done."""
        if not self.alive or conn.parser.unreader.buf.getvalue():
            return False
        wait = self._wait_for_request(conn, self.cfg.keepalive)
        if self._waiting.resume(wait):
            return True
        inbox: Inbox = wait.inbox  # type: ignore[assignment]

        def is_request(early: bytes) -> bool:
            return inbox.add(early) and not inbox.refusal and not inbox.streams

        if not self._waiting.take_early(conn, is_request):
            return False
        self._hand_over(wait, inbox)
        return True

    def _see_answered_off(self) -> None:
        """Go on with what threads have answered."""
        self._is_called = False
        while self._answered:
            conn, keep = self._answered.popleft()
            self._see_off(conn, keep=keep)

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
            wait = Wait(conn, partial(self._send, keep), time.monotonic() + self.patience.silence, self._abandon)
            self._waiting.admit(wait, EVENT_WRITE)
        elif not keep:
            self._part(conn)
        else:
            self._expect(conn, self.cfg.keepalive, conn.parser.unreader.take_buffered() + self._taken_early(conn))

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
            conn.sock.shutdown(SHUT_WR)
        except OSError:
            self._close(conn)
            return
        wait = Wait(conn, self._drain, time.monotonic() + _LINGER, self._abandon)
        self._waiting.admit(wait, EVENT_READ)
        self._drain(wait, conn.sock)

    def _drain(self, wait: Wait, sock: PatientSocket) -> None:
        """Throw away what still arrives."""
        try:
            data = sock.take(BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(wait.conn)

    def _abandon(self, wait: Wait) -> None:
        self._close(wait.conn)

    def _taken_early(self, conn: Any) -> bytes:
        """What has arrived while its thread was busy; whoever takes it counts it."""
        early = self._waiting.take_early(conn)
        self._budget.give_back(len(early))
        return early

    def _close(self, conn: Any) -> None:
        self._waiting.dismiss(conn)
        self._taken_early(conn)
        self.nr_conns -= 1
        conn.sock.release()


def _refuse_stacked_codings(req: Any) -> None:
    """Refuse bodies that are coded in more ways than chunked, or say it in an unusual way; nobody reads them the same.

    Raises:
        UnsupportedTransferCoding: which is gunicorn's.
    """
    for name, value in req.headers:
        if name == "TRANSFER-ENCODING" and value.lower() != "chunked":
            raise UnsupportedTransferCoding(value)
