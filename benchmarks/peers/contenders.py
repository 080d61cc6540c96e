"""Who is compared: how each is started, and what it is told.

All are up at once, and those that are not being asked wait; what they cost then is measured and told (`idle_share`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.database import PROJECT, api_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WORKERS = 2
THREADS = 8
START_TIMEOUT = 60
HOST = "127.0.0.1"
OWN = "ours"
FLOOR = "floor"
# So high that no request is refused; they are counted all the same.
QUOTA = "100000000/minute"
_TICKS = os.sysconf("SC_CLK_TCK")

GUNICORN = ("-m", "gunicorn")
UVICORN = ("-m", "uvicorn", "--host", HOST, "--workers", str(WORKERS), "--no-access-log", "--log-level", "warning")
GTHREAD = (*GUNICORN, "-c", "benchmarks/peers/gthread.py")


@dataclass(frozen=True)
class Contender:
    """A server. `command` is of its Python, `{port}` in it is replaced; `title` and `stack` are for the report."""

    name: str
    title: str
    stack: str
    command: tuple[str, ...]
    own_venv: bool = True
    """Whether it runs on the peers' requirements, and not on the project's."""
    environment: Callable[[str], dict[str, str]] = field(default=lambda url: {"DATABASE_URL": url})


def shipped(url: str) -> dict[str, str]:
    """Our service as in production: everything on, with quotas that the load does not reach."""
    return {
        "APP_ENV": "production",
        "DATABASE_URL": api_url(url),
        "DATABASE_MIGRATION_URL": "",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": HOST,
        "RATE_LIMIT_ADDRESS": QUOTA,
        "RATE_LIMIT_CALLER": QUOTA,
        # Those of the development's `.env`, which production refuses; they are of other commands.
        "API_DB_PASSWORD": "",
        "READER_DB_PASSWORD": "",
        "ACCESS_TOKEN_TTL": "86400",
        "WEB_CONCURRENCY": str(WORKERS),
        "WEB_THREADS": str(THREADS),
    }


CONTENDERS = (
    Contender(
        OWN,
        "this framework",
        "as shipped: gunicorn, `backend_api`, authentication, permissions, rate limits, logs, metrics",
        (*GUNICORN, "-c", "gunicorn.conf.py", "api.wsgi:app"),
        own_venv=False,
        environment=shipped,
    ),
    Contender(
        FLOOR,
        "the floor",
        "a bare WSGI function, psycopg2's pool, SQL by hand that returns JSON, under our gunicorn and its settings",
        (*GUNICORN, "-c", "gunicorn.conf.py", "benchmarks.peers.floor.app:app"),
        own_venv=False,
        environment=lambda url: shipped(url) | {"FLOOR_DATABASE_URL": url},
    ),
    Contender(
        "fastapi",
        "FastAPI",
        "pydantic, async SQLAlchemy, asyncpg, uvicorn with uvloop and httptools",
        (*UVICORN, "--port", "{port}", "benchmarks.peers.fastapi.app:app"),
    ),
    Contender(
        "drf",
        "Django REST framework",
        "django-filter, psycopg 3 on connections that stay open, gunicorn with gthread",
        (*GTHREAD, "benchmarks.peers.drf.wsgi:app"),
    ),
    Contender(
        "classic",
        "classic Flask",
        "Flask-SQLAlchemy, marshmallow, `jsonify`, psycopg2, gunicorn with gthread",
        (*GTHREAD, "benchmarks.peers.classic_flask.app:app"),
    ),
    Contender(
        "litestar",
        "Litestar",
        "advanced-alchemy's services, msgspec, asyncpg, uvicorn with uvloop and httptools",
        (*UVICORN, "--port", "{port}", "benchmarks.peers.litestar.app:app"),
    ),
)


@dataclass
class Server:
    """A contender that runs."""

    contender: Contender
    port: int
    process: subprocess.Popen[bytes]
    token: str = ""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def headers(self) -> dict[str, str]:
        """What each request to it bears."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def cpu_seconds(self) -> float:
        """The CPU time of the server and its workers so far, without the database's."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                # Each server leads a session of its own.
                if int(fields[3]) == self.process.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(contenders: Sequence[Contender], url: str, python: Path, logs: Path) -> Iterator[list[Server]]:
    """All of them, started and answering; `python` is that of the peers' environment. Each logs to a file in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    servers: list[Server] = []
    try:
        servers.extend(started(contender, url, python, logs) for contender in contenders)
        for server in servers:
            _wait(server, logs)
        yield servers
    finally:
        for server in servers:
            stop(server)


def started(contender: Contender, url: str, python: Path, logs: Path) -> Server:
    """Start one, which need not answer yet."""
    port = free_port()
    with (logs / f"{contender.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(python if contender.own_venv else sys.executable),
                *(part.format(port=port) for part in contender.command),
            ],
            cwd=PROJECT,
            env=os.environ
            | contender.environment(url)
            | {"PORT": str(port), "BIND_HOST": HOST, "WORKERS": str(WORKERS), "THREADS": str(THREADS)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(contender, port, process)


def _wait(server: Server, logs: Path) -> None:
    """Until it answers.

    Raises:
        SystemExit: when it does not within a minute, or has ended; with the end of its log.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if fetch(server, "/api/v1/products/1").status == http.client.OK:
                return
        time.sleep(0.1)
    name = server.contender.name
    end = (logs / f"{name}.log").read_text(errors="replace")[-3000:]
    sys.exit(f"{name} does not answer. The end of its log:\n{end}")


def stop(server: Server) -> None:
    """End it, by force when it does not end in ten seconds."""
    server.process.terminate()
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def fetch(
    server: Server, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, Any] | None = None
) -> Answer:
    """Send one request, on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, server.headers() | content | (headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
