"""A Redis of the tests' own, where the machine has one."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time

import pytest


class RedisServer:
    """A redis-server that keeps nothing, and can be frozen and ended."""

    def __init__(self, program: str, directory: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        pytest.fail("redis-server does not start")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path):
    """A running Redis."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on this machine")
    server = RedisServer(program, str(tmp_path))
    yield server
    server.stop()
