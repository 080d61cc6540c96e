"""gunicorn as the project configures it, on a port of its own, and raw connections to it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Served:
    """A running gunicorn."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def exchange(self, content: bytes) -> bytes:
        """Everything that is answered to these bytes until the server closes."""
        with self.connect() as sock:
            sock.sendall(content)
            return read_all(sock)

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@contextmanager
def served(application: str, directory: Path, **settings: str) -> Iterator[Served]:
    """`application` on two threads of one worker, unless `settings` say otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "APP_ENV": "test",
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "WEB_THREADS": "2",
        "LOG_LEVEL": "WARNING",
        "RATE_LIMIT_ADDRESS": "",
        "RATE_LIMIT_CALLER": "",
        "TMPDIR": str(directory),
        **settings,
    }
    log = directory / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", application]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=file, stderr=file)
    running = Served(process, port, log)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_until_ready(running: Served) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), running.connect() as sock:
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if read_all(sock):
                return
        assert running.process.poll() is None, running.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_all(sock: socket.socket) -> bytes:
    """What the server sends until it closes."""
    content = b""
    with suppress(ConnectionResetError):
        while data := sock.recv(65_536):
            content += data
    return content


def statuses(answers: bytes) -> list[int]:
    """The statuses of all answers, 100 Continue included."""
    return [int(status) for status in _STATUS.findall(answers)]
