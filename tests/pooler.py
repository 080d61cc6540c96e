"""A pooler as PgBouncer is one in transaction mode, small enough for tests.

Each transaction of a client goes to the server connection that has rested longest, so that they change hands all the
time. The `options` of a client are dropped, its process id is made up, and nothing of a session is reset.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import psycopg2
from sqlalchemy import make_url

if TYPE_CHECKING:
    from psycopg2.extensions import connection as ServerConnection  # noqa: N812

_NO_ENCRYPTION = {80877103, 80877104}
_BUFFER = 65_536
_STATUS = ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes")
_STATUS += ("standard_conforming_strings", "is_superuser", "session_authorization")


class Pooler:
    """`with Pooler(url, 2) as pooler:` clients of `pooler.url` share so many connections to the server at `url`."""

    def __init__(self, url: str, size: int) -> None:
        self._server = make_url(url).set(drivername="postgresql")
        self.connections: list[ServerConnection] = [psycopg2.connect(_text(self._server)) for _ in range(size)]
        """Those to the server; libpq has opened them, and knows nothing of what goes on there afterwards."""
        self._sockets = [socket.socket(fileno=os.dup(connection.fileno())) for connection in self.connections]
        self._resting: queue.Queue[socket.socket] = queue.Queue()
        for server in self._sockets:
            server.setblocking(True)
            self._resting.put(server)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        port = self._listening.getsockname()[1]
        self.url = _text(self._server.set(drivername="postgresql+psycopg2", host="127.0.0.1", port=port))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for each in (self._listening, *self._clients, *self._sockets, *self.connections):
            each.close()

    def on_each(self, statement: str) -> list[list[str | None]]:
        """The values of the first column of `statement` on each server connection, none of which is in use."""
        found = []
        for _ in self.connections:
            server = self._resting.get(timeout=5)
            server.sendall(_message(b"Q", statement.encode() + b"\0"))
            values: list[str | None] = []
            while (received := _received(server))[0] != b"Z":
                if received[0] == b"D":
                    (length,) = struct.unpack_from("!i", received[1], 2)
                    values.append(None if length < 0 else received[1][6 : 6 + length].decode())
            found.append(values)
            self._resting.put(server)
        return found

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = None
        try:
            self._greet(client)
            while (received := _received(client))[0] != b"X":
                server = server or self._resting.get(timeout=30)
                server.sendall(_message(*received))
                if _relay(server, client) == b"I":
                    self._resting.put(server)
                    server = None
        except (OSError, EOFError):
            pass
        finally:
            if server is not None:
                server.sendall(_message(b"Q", b"ROLLBACK\0"))
                while _received(server)[0] != b"Z":
                    pass
                self._resting.put(server)
            client.close()

    def _greet(self, client: socket.socket) -> None:
        while True:
            (length,) = struct.unpack("!i", _exactly(client, 4))
            body = _exactly(client, length - 4)
            if struct.unpack_from("!i", body)[0] not in _NO_ENCRYPTION:
                break
            client.sendall(b"N")
        told = {name: self.connections[0].get_parameter_status(name) for name in _STATUS}
        status = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items())
        made_up = _message(b"K", struct.pack("!ii", 1, 1))
        client.sendall(_message(b"R", struct.pack("!i", 0)) + status + made_up + _message(b"Z", b"I"))


def _relay(server: socket.socket, client: socket.socket) -> bytes:
    """Hand on what the server answers, until it is ready for the next query; the state of its transaction."""
    answer = bytearray()
    while True:
        kind, body = _received(server)
        answer += _message(kind, body)
        if kind in b"ZG" or len(answer) > _BUFFER:
            client.sendall(answer)
            answer.clear()
        if kind == b"Z":
            return body
        while kind == b"G":
            given, content = _received(client)
            server.sendall(_message(given, content))
            if given in b"cf":
                break


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _received(sock: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(sock, 5)
    return head[:1], _exactly(sock, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if not (part := sock.recv(size - len(parts))):
            raise EOFError
        parts += part
    return bytes(parts)


def _text(url: object) -> str:
    return url.render_as_string(hide_password=False)  # type: ignore[attr-defined]
