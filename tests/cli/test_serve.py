"""`flask serve`: one command starts everything, one Ctrl-C ends it, and no kill leaves a mess."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import psycopg2
import pytest

from api.core.database.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[2]
# Generous, for a machine that does much else; a healthy run takes a tenth of it.
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")


class Run:
    """A `flask serve` in a terminal of its own."""

    def __init__(self, instance: Path, port: int, output: Path) -> None:
        self.instance = instance
        self.port = port
        self._output = output
        settings = {"DATABASE_URL": "", "INSTANCE_PATH": str(instance), "PORT": str(port), "APP_ENV": "development"}
        # What a killed gunicorn leaves behind goes the way of the test's own files.
        settings["TMPDIR"] = str(output.parent)
        command = [sys.executable, "-m", "flask", "--app", "api", "serve"]
        with output.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=os.environ | settings, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def database_url(self) -> str:
        return re.search(r"Database +(postgresql://\S+)", self.output)[1]

    @property
    def gunicorn(self) -> int:
        """Process id of gunicorn's master."""
        supervisor = self.process.pid
        return int(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()[0])

    @property
    def postmaster(self) -> int:
        return int((self.instance / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def until_it_runs(self) -> Run:
        until(lambda: "The backend is running" in self.output or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.output
        return self

    def get(self, path: str) -> int | None:
        """Return the status of the answer; None if there is no answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return None

    def press_ctrl_c(self) -> None:
        """Send SIGINT to all processes of the terminal, as it does itself."""
        os.killpg(self.process.pid, signal.SIGINT)

    def exit_code(self) -> int:
        return self.process.wait(timeout=PATIENCE)

    def port_is_free(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0


def until(condition: Callable[[], object], run: Run) -> None:
    """Wait until something is so, or fail with the output of the run."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, run.output
        time.sleep(0.05)


def ask(url: str, statement: str) -> object:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


@contextmanager
def a_request_that_waits(run: Run) -> Iterator[list[int | None]]:
    """Have a request wait for a lock during the block; its status is in the list after that."""
    answers: list[int | None] = []
    with closing(psycopg2.connect(run.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE products")
        request = Thread(target=lambda: answers.append(run.get("/api/v1/products")))
        request.start()
        until(lambda: ask(run.database_url, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, run)
        yield answers
    request.join()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the directory that one run after the other finds its database in."""
    directory = tmp_path_factory.mktemp("instance")
    yield directory
    EmbeddedPostgres(directory / "postgres").stop(force=True)


@pytest.fixture
def serve(instance: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Return a way to begin a run on a free port, or on the given one; all runs are ended after the test."""
    runs: list[Run] = []

    def begin(port: int | None = None) -> Run:
        if port is None:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
        runs.append(Run(instance, port, tmp_path / f"output-{len(runs)}"))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.terminate()
        run.exit_code()


def test_out_of_nothing_it_serves_demo_data_and_prints_where(serve: Callable[..., Run]) -> None:
    run = serve().until_it_runs()
    for path in ("/api/v1", "/docs"):
        assert f"http://127.0.0.1:{run.port}{path}" in run.output
    assert run.get("/readyz") == 200
    assert run.get("/api/v1/products") == 200
    assert ask(run.database_url, "SELECT count(*) FROM products") == 200


def test_ctrl_c_lets_a_request_finish_and_then_ends_everything(serve: Callable[..., Run]) -> None:
    run = serve().until_it_runs()
    with a_request_that_waits(run) as answers:
        run.press_ctrl_c()
        until(lambda: "Handling signal: term" in run.output, run)
    assert answers == [200]
    assert run.exit_code() == 0
    assert run.port_is_free()
    assert not EmbeddedPostgres(run.instance / "postgres").is_running
    assert "database system is shut down" in (run.instance / "postgres" / "server.log").read_text()


def test_a_killed_database_comes_back_with_its_data_under_the_running_api(serve: Callable[..., Run]) -> None:
    run = serve().until_it_runs()
    ask(run.database_url, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS value")
    killed = run.postmaster
    os.kill(killed, signal.SIGKILL)
    statuses: list[int | None] = []

    def works_again() -> bool:
        statuses.append(run.get("/api/v1/products"))
        return "is started again" in run.output and statuses[-1] == 200

    until(works_again, run)
    assert set(statuses) <= {200, 503}
    assert run.postmaster != killed
    assert ask(run.database_url, "SELECT value FROM kept") == 42


def test_a_killed_supervisor_takes_gunicorn_along_and_the_next_run_takes_over(serve: Callable[..., Run]) -> None:
    first = serve().until_it_runs()
    first.process.kill()
    until(first.port_is_free, first)
    second = serve(first.port).until_it_runs()
    assert second.database_url == first.database_url
    assert second.get("/readyz") == 200
    second.press_ctrl_c()
    assert second.exit_code() == 0
    assert not EmbeddedPostgres(second.instance / "postgres").is_running


def test_a_killed_gunicorn_ends_the_run_with_its_exit_code_and_stops_the_database(serve: Callable[..., Run]) -> None:
    run = serve().until_it_runs()
    os.kill(run.gunicorn, signal.SIGKILL)
    assert run.exit_code() == 128 + signal.SIGKILL
    assert not EmbeddedPostgres(run.instance / "postgres").is_running
    until(run.port_is_free, run)


def test_a_taken_port_is_named_together_with_the_way_to_another(serve: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = serve(port)
        assert run.exit_code() == 1
    assert f"Port {port} on 127.0.0.1 is in use" in run.output
    assert f"PORT={port + 1} make run" in run.output


def test_sigterm_before_it_serves_ends_everything_too(serve: Callable[..., Run]) -> None:
    run = serve()
    until(lambda: run.output, run)
    run.process.terminate()
    assert run.exit_code() == 0
    assert run.port_is_free()
    assert not EmbeddedPostgres(run.instance / "postgres").is_running


def test_a_second_ctrl_c_does_not_wait_for_requests(serve: Callable[..., Run]) -> None:
    run = serve().until_it_runs()
    with a_request_that_waits(run) as answers:
        run.press_ctrl_c()
        until(lambda: "Handling signal: term" in run.output, run)
        run.press_ctrl_c()
        assert run.exit_code() == 0
    assert answers == [None]
    assert not EmbeddedPostgres(run.instance / "postgres").is_running
