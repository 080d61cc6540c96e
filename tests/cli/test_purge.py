"""`flask purge`: what it asks for, and what it tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from api.core.database import retention
from api.core.database.retention import Purged, purger
from api.extensions import db
from tests.factories import CategoryFactory, ProductFactory, TagFactory

LONG_AGO = datetime.now(UTC) - timedelta(days=100)


@pytest.fixture
def purge(database):
    """`purge("--older-than", "90d")`: run the command."""

    def run(*arguments):
        return database.test_cli_runner().invoke(args=["purge", *arguments])

    return run


@pytest.fixture
def deleted(database):
    """Two tags and a category were deleted long ago; the category has a live product."""
    del database
    TagFactory.create_batch(2, deleted_at=LONG_AGO)
    ProductFactory(category=CategoryFactory(deleted_at=LONG_AGO))


def left(table):
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(db.metadata.tables[table]))


def rows_of(result):
    """The printed table's rows by name."""
    lines = [line.split() for line in result.output.splitlines() if line.strip()]
    return {words[0]: words[1:] for words in lines}


@pytest.mark.usefixtures("deleted")
def test_it_tells_what_was_removed_and_what_was_kept_for_whom(purge):
    result = purge("--older-than", "90d")
    assert result.exit_code == 0
    assert rows_of(result)["tags"] == ["2"]
    assert rows_of(result)["categories"] == ["0", "products:", "1"]
    assert rows_of(result)["all"] == ["2"]
    assert (left("tags"), left("categories")) == (0, 1)


@pytest.mark.usefixtures("deleted")
def test_a_dry_run_changes_nothing_and_says_so(purge):
    result = purge("--older-than", "90d", "--dry-run")
    assert "would be removed" in result.output
    assert rows_of(result)["tags"] == ["2"]
    assert left("tags") == 2


@pytest.mark.usefixtures("deleted")
def test_it_can_be_asked_for_one_table(purge):
    assert "tags" not in rows_of(purge("--older-than", "90d", "--model", "categories"))
    assert left("tags") == 2
    assert rows_of(purge("--older-than", "90d", "--model", "tags", "--model", "roles")).keys() >= {"tags", "roles"}
    assert left("tags") == 0


@pytest.mark.usefixtures("deleted")
def test_it_tells_the_same_as_json(purge):
    result = json.loads(purge("--older-than", "12w", "--model", "categories", "--model", "tags", "--json").output)
    assert result["dry_run"] is False
    assert sorted(result["purged"], key=lambda row: row["name"]) == [
        {"name": "categories", "removed": 0, "kept": {"products": 1}},
        {"name": "tags", "removed": 2, "kept": {}},
    ]


@pytest.mark.usefixtures("deleted")
def test_what_was_deleted_later_stays(purge):
    purge("--older-than", "101d")
    assert left("tags") == 2


@pytest.mark.parametrize("duration", ["90", "soon", "-1d", "1.5h", "90 days"])
def test_a_duration_that_is_none_is_refused_with_what_would_be_right(purge, duration):
    result = purge("--older-than", duration)
    assert result.exit_code == 2
    assert "write hours, days or weeks, such as 12h, 90d or 4w" in " ".join(result.output.split())


def test_for_how_long_has_to_be_said(purge):
    result = purge()
    assert result.exit_code == 2
    assert "Missing option '--older-than'" in result.output


def test_a_name_that_is_none_is_refused_with_those_that_are(purge):
    result = purge("--older-than", "90d", "--model", "gadgets")
    assert result.exit_code == 2
    assert "there is no 'gadgets'; there is api_keys, attempts, auth_sessions, categories" in result.output


@pytest.mark.usefixtures("deleted")
def test_whatever_registers_a_purger_is_purged_too(purge, monkeypatch):
    asked = []

    def purge_sessions(_session, older_than, *, dry_run):
        asked.append((older_than, dry_run))
        yield Purged(2)
        yield Purged(1)

    monkeypatch.setattr(retention, "_PURGERS", {})
    purger("sessions")(purge_sessions)
    assert rows_of(purge("--older-than", "90d"))["sessions"] == ["3"]
    assert rows_of(purge("--older-than", "1h", "--model", "sessions", "--dry-run"))["sessions"] == ["3"]
    assert asked == [(timedelta(days=90), False), (timedelta(hours=1), True)]


def test_a_purge_that_fails_says_so_in_a_line(purge, monkeypatch):
    def fail(*_, **__):
        db.session.execute(select(db.metadata.tables["tags"].c.id + "x"))
        yield Purged()

    monkeypatch.setattr(retention, "_PURGERS", {"sessions": fail})
    result = purge("--older-than", "90d", "--model", "sessions")
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "Traceback" not in result.output
