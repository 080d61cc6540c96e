"""Connections whose clients are waited for only so long."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients, and their requests, are waited for. Times are in seconds.

    `head` is from the first byte of a request to the end of its head, and of a new connection to its first byte; `body`
    from there to the end of a body of at most `body_bytes`. `silence` is the longest pause while a longer body is read,
    or an answer is taken. `rate` are the bytes per second that must move on the average, beyond these times. `answer`
    is the longest that a thread works on a request, unless that asks for more. `outbox_bytes` of an answer are kept
    without its thread; `buffered` are the bytes of requests and answers that are kept in one worker.
    """

    head: float = 10.0
    body: float = 30.0
    body_bytes: int = 1_048_576
    silence: float = 20.0
    rate: int = 1024
    answer: float = 30.0
    outbox_bytes: int = 1_048_576
    buffered: int = 64 * 1_048_576


class Budget:
    """Bytes that may be kept for connections, all together."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = Lock()

    def take(self, size: int) -> bool:
        """Take so much, if there is so much."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Have so much again."""
        if size:
            with self._lock:
                self._left += size


class PatientSocket(socket.socket):
    """A connection whose threads do not wait for its client.

    What the client does not take at once of an answer is kept in the `outbox`, up to a limit, for the event loop to
    send. Where a thread has to wait all the same, for the rest of a long body or of a long answer, the connection is
    reset when its client is silent for too long, or sends too slowly.
    """

    patience = Patience()
    budget = Budget(0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outbox = bytearray()
        self.deadline = math.inf
        """When the request has to be answered, by `time.monotonic()`."""
        self.has_answered = False
        """Whether anything of the answer has been sent, or kept to be sent."""
        self._head: bytes | None = None
        self._waited, self._moved = 0.0, 0

    def begin_request(self) -> None:
        """Measure anew from here."""
        self._waited, self._moved = 0.0, 0
        self.has_answered = False

    def begin_answer(self) -> None:
        """Hold what is sent first back: gunicorn writes an answer's head by itself, and it can go with the body."""
        self._head = b""

    def end_answer(self) -> None:
        """Send what is held back, as no more follows."""
        if self._head:
            self.sendall(b"")

    def drop_answer(self) -> None:
        """Forget what is held back."""
        self._head = None

    def settimeout(self, value: float | None, /) -> None:
        """How long `recv` and `send` wait; to set it again is a system call that is saved."""
        if value != self.gettimeout():
            super().settimeout(value)

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the signature of the standard library
        """Do nothing: the kernel never blocks, `recv` and `sendall` wait in a thread, and `take` never does."""

    def take(self, size: int) -> bytes:
        """Receive what has arrived; nothing at its end.

        Raises:
            BlockingIOError: when nothing has.
        """
        return os.read(self.fileno(), size)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive what there is.

        Raises:
            ConnectionResetError: when there has been nothing, or too little, for too long.
        """
        started = time.monotonic()
        try:
            data = super().recv(size, flags)
        except TimeoutError as error:
            raise _given_up() from error
        self._note(started, len(data))
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send what the client takes at once, and keep the rest; wait only where it is too much to be kept.

        Raises:
            ConnectionResetError: when the client does not take it, or too slowly.
        """
        if self._head == b"":
            self._head = bytes(data)
            return
        if self._head:
            data, self._head = self._head + data, None
        self.has_answered = True
        rest = memoryview(data)
        if self.flush():
            rest = rest[self._sent(rest) :]
        if not rest:
            return
        if len(self.outbox) + len(rest) <= self.patience.outbox_bytes and self.budget.take(len(rest)):
            self.outbox += rest
            return
        with memoryview(bytes(self.outbox)) as kept:
            self.emptied()
            self._push(kept, flags)
        self._push(rest, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file, behind what is held back."""
        self.end_answer()
        return super().sendfile(file, offset, count)

    def _push(self, rest: memoryview, flags: int) -> None:
        """Send all of it, as fast as the client takes it."""
        while rest:
            started = time.monotonic()
            try:
                sent = super().send(rest, flags)
            except TimeoutError as error:
                raise _given_up() from error
            self._note(started, sent)
            rest = rest[sent:]

    def _note(self, started: float, moved: int) -> None:
        """Give up when all waiting since the request began was too long for what came of it."""
        self._waited += time.monotonic() - started
        self._moved += moved
        if self._waited > self.patience.silence + self._moved / self.patience.rate:
            raise _given_up()

    def flush(self) -> bool:
        """Send of the outbox what the client takes at once; whether that was all."""
        if not self.outbox:
            return True
        with memoryview(self.outbox) as content:
            sent = self._sent(content)
        self.budget.give_back(sent)
        del self.outbox[:sent]
        return not self.outbox

    def emptied(self) -> None:
        """Forget what is in the outbox."""
        self.budget.give_back(len(self.outbox))
        self.outbox.clear()

    def close(self) -> None:
        """End the connection, and leave the rest to `release`: gunicorn calls this in threads, too.

        A number that the loop still polls must not be given to another connection.
        """
        self.emptied()
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the connection, which nobody polls any more."""
        self.emptied()
        super().close()

    def _sent(self, data: memoryview) -> int:
        """Bytes that could be sent without waiting, which `send()` would do."""
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return 0


def _given_up() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "The client was too slow")


class PatientListener:
    """A listening socket that makes patient connections."""

    def __init__(self, listener: socket.socket, patience: Patience, budget: Budget) -> None:
        self._listener = listener
        self._patience = patience
        self._budget = budget

    def accept(self) -> tuple[PatientSocket, Any]:
        """The next connection, and its address."""
        plain, address = self._listener.accept()
        sock = PatientSocket(fileno=plain.detach())
        sock.patience, sock.budget = self._patience, self._budget
        sock.settimeout(self._patience.silence)
        return sock, address

    def getsockname(self) -> Any:
        """Where it listens."""
        return self._listener.getsockname()
