"""`flask serve`: everything that a developer needs, started by one command and ended by one Ctrl-C."""

from __future__ import annotations

import ctypes
import errno
import http.client
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy import text

from api.core.database.embedded import EmbeddedPostgresError
from api.core.database.history_partitions import make_partitions
from api.core.database.roles import url_as
from api.extensions import db

if TYPE_CHECKING:
    from api.config import Settings
    from api.core.database.embedded import EmbeddedPostgres

CHECK_INTERVAL: Final = 1.0
RETRY_INTERVAL: Final = 5.0
# What gunicorn may need beyond its own graceful timeout before it is killed.
EXTRA_STOP_TIME: Final = 10
# From a fixed seed, so that everybody meets the same shop.
DEMO_DATA: Final = ("--users", "50", "--products", "200", "--orders", "300", "--seed", "1")
END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SUPERVISOR: Final = "SUPERVISOR_PID"
"""The variable that names the parent process with which a process is to end."""

PR_SET_PDEATHSIG: Final = 1
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


@click.command("serve")
@with_appcontext
def command() -> None:
    """Run the API: database, migrations, demo data and gunicorn.

    Without DATABASE_URL the embedded PostgreSQL serves, and gets demo data when it is empty. Ctrl-C lets requests
    finish, then stops everything; a second one does not wait for them.
    """
    end_with_supervisor()
    settings: Settings = current_app.extensions["settings"]
    server: EmbeddedPostgres | None = current_app.extensions["embedded_postgres"]
    for number in END_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        _refuse_taken_port(settings.bind_host, settings.bind_port)
        _prepare_database(local=server is not None)
        exit_code = Supervisor(settings, server, Path(current_app.root_path).parent).run()
    except KeyboardInterrupt:
        exit_code = 0
    finally:
        if server is not None and server.stop():
            click.echo("PostgreSQL has been stopped; its data are kept.")
    sys.exit(exit_code)


def end_with_supervisor() -> None:
    """Have the kernel send this process SIGTERM when the parent that `SUPERVISOR_PID` names dies, be it of `kill -9`.

    It would go on and hold the port otherwise. Where the kernel is not Linux, it does.
    """
    # Removed, so that no process that this one starts takes it for its own.
    supervisor = os.environ.pop(SUPERVISOR, None)
    if supervisor is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):
        sys.exit("The process that started this one has ended already.")


def _refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = (
                f"Port {port} on {host} is in use by another program, perhaps by this one in another terminal. "
                f"Stop that, or choose another port: PORT={port % 65_535 + 1} make run"
            )
        else:
            message = f"Cannot listen on {host}, port {port}: {error.strerror}. BIND_HOST and PORT choose where to."
        raise click.ClickException(message) from error


def _prepare_database(*, local: bool) -> None:
    """Migrate to head, and fill the database with demo data if it is our own and empty."""
    # Alembic with it, which no worker needs, and they all import this file.
    import flask_migrate  # noqa: PLC0415

    flask_migrate.upgrade()
    with db.owner_transaction() as session:
        make_partitions(session)
    if local:
        is_empty = db.session.scalar(text("SELECT NOT EXISTS (SELECT FROM users)"))
        db.session.remove()
        if is_empty:
            seed = current_app.cli.commands["seed"]
            # All of it or none: half a shop would never be completed, because the database is not empty any more.
            with db.transaction():
                seed.main(DEMO_DATA, prog_name="seed", standalone_mode=False, parent=click.get_current_context())
    # None of this process's connections is needed any more; the workers have their own.
    db.shutdown()


class Supervisor:
    """Runs gunicorn until either ends, and starts the embedded PostgreSQL again when it has died."""

    def __init__(self, settings: Settings, server: EmbeddedPostgres | None, project: Path) -> None:
        """Take the database's URL from the server, else from the settings; `project` is where gunicorn.conf.py is."""
        self._settings = settings
        self._server = server
        self._project = project
        self._url = self._current_url()
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._is_announced = False
        self._database_check = 0.0

    def run(self) -> int:
        """Serve until a signal or gunicorn's own end.

        Returns:
            The exit code: 0 after a signal, else gunicorn's; 128 and the number of the signal that killed it.
        """
        for number in (*END_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda received, _frame: self._signals.put(received))
        gunicorn = self._start_gunicorn()
        while gunicorn.poll() is None:
            if self._next_signal() in END_SIGNALS:
                self._stop_gunicorn(gunicorn)
                return 0
            if not self._is_announced:
                self._announce_when_ready()
            if self._restart_database() and self._current_url() != self._url:
                # Its port was taken meanwhile, and gunicorn was told the old one.
                self._url = self._current_url()
                self._stop_gunicorn(gunicorn)
                gunicorn = self._start_gunicorn()
        click.secho("gunicorn has ended by itself.", fg="red", err=True)
        return gunicorn.returncode if gunicorn.returncode >= 0 else 128 - gunicorn.returncode

    def _current_url(self) -> str:
        return self._settings.database_url if self._server is None else url_as(self._server.url, db.roles.api)

    def _start_gunicorn(self) -> subprocess.Popen[bytes]:
        """Start it away from the terminal, whose Ctrl-C would break its requests off, and in our keeping."""
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "api.wsgi:app"],
            cwd=self._project,
            # Of the database, it knows the role that owns nothing.
            env=os.environ | {"DATABASE_URL": self._url, "DATABASE_MIGRATION_URL": "", SUPERVISOR: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _next_signal(self) -> int | None:
        try:
            return self._signals.get(timeout=CHECK_INTERVAL if self._is_announced else CHECK_INTERVAL / 20)
        except queue.Empty:
            return None

    def _stop_gunicorn(self, gunicorn: subprocess.Popen[bytes]) -> None:
        """Let it finish its requests; at once on another signal, and by force when it does not end at all."""
        gunicorn.terminate()
        deadline = time.monotonic() + self._settings.graceful_timeout + EXTRA_STOP_TIME
        while gunicorn.poll() is None:
            if self._next_signal() in END_SIGNALS:
                gunicorn.send_signal(signal.SIGQUIT)
            if time.monotonic() > deadline:
                click.secho("gunicorn does not end and is killed.", fg="red", err=True)
                gunicorn.kill()
                gunicorn.wait()

    def _restart_database(self) -> bool:
        """Start the embedded server if it has died, and say whether that was so. A failure is told and tried again."""
        if self._server is None or time.monotonic() < self._database_check or self._server.is_running:
            return False
        click.secho("PostgreSQL has ended by itself and is started again.", fg="red", err=True)
        try:
            self._server.start()
        except EmbeddedPostgresError as error:
            click.secho(str(error), fg="red", err=True)
            self._database_check = time.monotonic() + RETRY_INTERVAL
        return True

    def _announce_when_ready(self) -> None:
        host = ANY_ADDRESS.get(self._settings.bind_host, self._settings.bind_host)
        connection = http.client.HTTPConnection(host, self._settings.bind_port, timeout=CHECK_INTERVAL)
        try:
            connection.request("GET", "/livez")
            self._is_announced = connection.getresponse().status == http.client.OK
        except OSError:
            # Not listening yet.
            return
        finally:
            connection.close()
        address = f"http://[{host}]" if ":" in host else f"http://{host}"
        self._announce(f"{address}:{self._settings.bind_port}")

    def _announce(self, address: str) -> None:
        rows = {"API": f"{address}/api/v1", "Docs": f"{address}/docs"}
        if self._server is not None:
            rows["Database"] = self._server.url
        click.secho("\n  The backend is running.", fg="green", bold=True, nl=False)
        click.echo(" Ctrl-C stops it.\n")
        for name, value in rows.items():
            click.echo(f"  {name:<10}{value}")
        click.echo()
