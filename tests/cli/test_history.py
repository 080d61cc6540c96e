"""`flask history`."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from api.cli.serve import _prepare_database
from api.extensions import db

OLD = (
    "INSERT INTO history (at, table_name, row_id, operation, transaction_id) "
    "VALUES ('2020-01-15', 'products', '1', 'update', 1)"
)


@pytest.fixture
def run(database):
    """`run("prune", "--json")`: what the command prints."""

    def run(*arguments, code=0):
        outcome = database.test_cli_runner().invoke(args=["history", *arguments])
        assert outcome.exit_code == code, outcome.output
        return outcome.output

    yield run
    with db.owner_transaction() as owner:
        owner.execute(text("DROP TABLE IF EXISTS history_2020_01"))


@pytest.fixture
def old_entry(database):
    """An entry that is years old."""
    del database
    with db.owner_transaction() as owner:
        owner.execute(text(OLD))


def entries():
    found = db.session.scalar(text("SELECT count(*) FROM history"))
    # A partition that is read is not removed.
    db.session.rollback()
    return found


@pytest.mark.usefixtures("old_entry")
def test_partitions_are_made_and_named(run):
    assert run("partitions") == "Made history_2020_01.\n"
    assert run("partitions") == "All partitions are there.\n"
    assert json.loads(run("partitions", "--json")) == {"made": []}


@pytest.mark.usefixtures("old_entry")
def test_prune_tells_what_it_removes(run):
    run("partitions")
    told = json.loads(run("prune", "--older-than", "2y", "--dry-run", "--json"))
    assert (told["dry_run"], told["partitions"], told["rows"]) == (True, ["history_2020_01"], 0)
    assert entries() == 1
    output = run("prune", "--older-than", "24mo")
    assert output.startswith(f"Removed what is from before {told['before']}: 1 partitions (0.")
    assert entries() == 0


@pytest.mark.usefixtures("old_entry")
def test_a_dry_run_changes_nothing(run):
    assert run("prune", "--older-than", "12mo", "--dry-run").endswith("and 1 rows of the default partition.\n")
    assert entries() == 1


@pytest.mark.parametrize("age", ["90d", "0mo", "mo", "1.5y", "-1mo", "", "1000y"])
def test_an_age_is_in_months_or_years(run, age):
    assert "is no age; write months or years, such as 12mo or 2y." in run("prune", "--older-than", age, code=2)


def test_without_an_age_nothing_is_removed(run):
    assert "Missing option '--older-than'" in run("prune", code=2)


@pytest.mark.usefixtures("old_entry", "run")
def test_what_serves_makes_the_partitions_first():
    _prepare_database(local=False)
    held = db.session.scalars(text("SELECT tableoid::regclass::text FROM history")).all()
    db.session.rollback()
    assert held == ["history_2020_01"]
