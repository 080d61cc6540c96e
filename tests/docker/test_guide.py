"""The commands of the database guide, letter by letter, against the running stack."""

from __future__ import annotations

import gzip
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.docker.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docker.stack import Stack

FULL_BACKUP = "docker-compose exec postgres pg_dump -U postgres backend_db > backup.sql"
COMPRESSED_BACKUP = "docker-compose exec postgres pg_dump -U postgres backend_db | gzip > backup.sql.gz"
TABLES_BACKUP = "docker-compose exec postgres pg_dump -U postgres -t users -t products backend_db > tables_backup.sql"
RESTORE = "docker-compose exec -T postgres psql -U postgres backend_db < backup.sql"
COMPRESSED_RESTORE = "gunzip -c backup.sql.gz | docker-compose exec -T postgres psql -U postgres backend_db"


def current(stack: Stack) -> str:
    """The revision that `flask db current` shows; empty before the first."""
    found = re.match(r"\w+", stack.shell("docker-compose exec api flask db current").stdout)
    return found[0] if found else ""


@pytest.fixture
def head(stack: Stack) -> Iterator[str]:
    """The newest revision, to which the database returns afterwards."""
    before = set((stack.tree / "migrations" / "versions").glob("*.py"))
    yield current(stack)
    for added in set((stack.tree / "migrations" / "versions").glob("*.py")) - before:
        added.unlink()
    stack.shell("docker-compose exec api flask db upgrade")
    wait_until(lambda: stack.status("/readyz") == HTTPStatus.OK, "the API is ready")


def test_current_and_history_show_the_newest_revision(stack: Stack, head: str) -> None:
    assert f"{head} (head)" in stack.shell("docker-compose exec api flask db current").stdout
    assert f"{head} (head)" in stack.shell("docker-compose exec api flask db history").stdout


def test_downgrade_goes_one_migration_back_and_upgrade_forward_again(stack: Stack, head: str) -> None:
    stack.shell("docker-compose exec api flask db downgrade")
    assert current(stack) != head
    stack.shell("docker-compose exec api flask db upgrade")
    assert current(stack) == head


def test_upgrade_and_downgrade_take_a_revision(stack: Stack, head: str) -> None:
    stack.shell('docker-compose exec api flask db revision -m "Custom migration"')
    stack.shell("docker-compose exec api flask db upgrade")
    custom = current(stack)
    assert custom != head
    stack.shell(f"docker-compose exec api flask db downgrade {head}")
    assert current(stack) == head
    stack.shell(f"docker-compose exec api flask db upgrade {custom}")
    assert current(stack) == custom
    stack.shell(f"docker-compose exec api flask db downgrade {head}")


def test_migrate_writes_no_file_when_nothing_has_changed(stack: Stack) -> None:
    folder = stack.tree / "migrations" / "versions"
    before = set(folder.glob("*.py"))
    stack.shell('docker-compose exec api flask db migrate -m "Add users and products tables"')
    assert set(folder.glob("*.py")) == before


def test_init_leaves_the_existing_migrations_alone(stack: Stack, head: str) -> None:
    stack.shell("docker-compose exec api flask db init", check=False)
    assert current(stack) == head


@pytest.mark.parametrize(
    ("backup", "restore"),
    [(FULL_BACKUP, RESTORE), (COMPRESSED_BACKUP, COMPRESSED_RESTORE)],
    ids=["plain", "compressed"],
)
def test_a_backup_is_restored_into_an_empty_database(stack: Stack, backup: str, restore: str) -> None:
    product = stack.create_product()
    stack.shell(backup)
    stack.shell("docker-compose exec postgres dropdb -U postgres --force backend_db")
    stack.shell("docker-compose exec postgres createdb -U postgres backend_db")
    restored = stack.shell(restore)
    assert "ERROR" not in restored.stderr
    path = f"/api/v1/products/{product['id']}"
    wait_until(lambda: stack.status(path) == HTTPStatus.OK, "the API serves the restored database")
    assert stack.request("GET", path).json()["sku"] == product["sku"]
    assert stack.create_product()["id"] > product["id"]


def test_a_compressed_backup_holds_what_the_plain_one_does(stack: Stack) -> None:
    stack.shell(FULL_BACKUP)
    stack.shell(COMPRESSED_BACKUP)
    plain = (stack.tree / "backup.sql").read_text(encoding="utf-8")
    compressed = gzip.decompress((stack.tree / "backup.sql.gz").read_bytes()).decode()
    assert "CREATE TABLE public.orders" in plain
    assert without_the_key(compressed) == without_the_key(plain)


def without_the_key(dump: str) -> str:
    """A dump without the random key by which psql recognises that it has not been tampered with."""
    return re.sub(r"^\\(un)?restrict .*$", "", dump, flags=re.MULTILINE)


def test_a_backup_of_some_tables_holds_these_alone(stack: Stack) -> None:
    stack.shell(TABLES_BACKUP)
    dump = (stack.tree / "tables_backup.sql").read_text(encoding="utf-8")
    assert set(re.findall(r"CREATE TABLE public\.(\w+)", dump)) == {"users", "products"}


@pytest.mark.parametrize(
    ("statement", "tag"), [("VACUUM;", "VACUUM"), ("ANALYZE;", "ANALYZE"), ("VACUUM FULL;", "VACUUM")]
)
def test_maintenance_statements_run(stack: Stack, statement: str, tag: str) -> None:
    done = stack.shell(f'docker-compose exec postgres psql -U postgres -d backend_db -c "{statement}"')
    assert done.stdout.strip() == tag
