"""The PostgreSQL of the benchmark: started, migrated as shipped, filled, and kept where that is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2

from api.core.database.embedded import EmbeddedPostgres
from api.core.database.roles import url_as
from benchmarks.peers.data import Scale, fill, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[2]
# Six contenders hold connections at once; nothing else is set.
SETTINGS = {"max_connections": "300"}
API_ROLE = "backend_api"


@contextmanager
def database(directory: Path, scale: Scale, tell: Callable[[str], None], *, keep: bool) -> Iterator[str]:
    """The URL of a filled database, as its owner; the server stops at the end, and is removed unless it is kept."""
    stamp = directory / "filled.json"
    wanted = _stamp(scale)
    if directory.exists() and (not stamp.exists() or json.loads(stamp.read_text()) != wanted):
        tell(f"{directory} is of another kind and is made anew.")
        _remove(directory)
    server = EmbeddedPostgres(directory / "postgres", server_settings=SETTINGS)
    url = server.start()
    try:
        if not stamp.exists():
            tell("Migrating and filling the database ...")
            migrate(url, directory)
            fill(url, scale, tell)
            stamp.write_text(json.dumps(wanted))
        yield url
    finally:
        server.stop(force=True)
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _stamp(scale: Scale) -> dict[str, Any]:
    migrations = sorted(path.name for path in (PROJECT / "migrations" / "versions").glob("*.py"))
    text = json.dumps([statements(scale), migrations])
    return {"products": scale.products, "orders": scale.orders, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _remove(directory: Path) -> None:
    EmbeddedPostgres(directory / "postgres").stop(force=True)
    shutil.rmtree(directory)


def environment(url: str, directory: Path) -> dict[str, str]:
    """What a command of the project needs to know to work on this database as its owner."""
    return os.environ | {
        "APP_ENV": "development",
        "DATABASE_URL": url,
        "DATABASE_MIGRATION_URL": url,
        "INSTANCE_PATH": str(directory),
    }


def migrate(url: str, directory: Path) -> None:
    """Bring the schema to head by the project's own command, and make its roles."""
    passwords = {
        f"{name.upper()}_DB_PASSWORD": url_as(url, f"backend_{name}").split(":")[2].split("@")[0]
        for name in ("api", "reader")
    }
    for command in ("database provision", "db upgrade"):
        flask(command.split(), environment(url, directory) | passwords)


def flask(arguments: list[str], environ: dict[str, str], sent: str = "") -> None:
    """Run one of the project's commands, which says nothing unless it fails.

    Raises:
        SystemExit: when it fails, with what it says.
    """
    command = [sys.executable, "-m", "flask", "--app", "api", *arguments]
    result = subprocess.run(command, cwd=PROJECT, env=environ, input=sent, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"flask {' '.join(arguments)} has failed:\n{result.stdout}{result.stderr}")


def api_url(url: str) -> str:
    """The URL that the service is given: of the role that owns nothing."""
    return url_as(url, API_ROLE)


def rows(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a statement gives, as the owner; [] where it gives nothing."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []
