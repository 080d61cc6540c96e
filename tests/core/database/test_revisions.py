"""Which migrations there are, read without Alembic."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from api.core.database.revisions import revisions_in

MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "versions").mkdir()

    def write(**following):
        for revision, before in following.items():
            lines = f'"""One."""\nimport os\nrevision = {revision!r}\ndown_revision: str | None = {before!r}\n'
            (tmp_path / "versions" / f"{revision}.py").write_text(lines)
        return tmp_path

    return write


def test_the_revisions_are_those_that_alembic_finds():
    alembic = ScriptDirectory(str(MIGRATIONS))
    found = revisions_in(MIGRATIONS)
    assert found.heads == {*alembic.get_heads()}
    assert found.known == {script.revision for script in alembic.walk_revisions()}


def test_two_branches_have_two_heads(scripts):
    assert revisions_in(scripts(one=None, left="one", right="one")).heads == {"left", "right"}


def test_a_merge_follows_all_that_it_names(scripts):
    directory = scripts(one=None, left="one", right="one", both=("left", "right"))
    assert revisions_in(directory).heads == {*ScriptDirectory(str(directory)).get_heads()} == {"both"}


def test_a_package_of_scripts_is_no_revision(scripts):
    directory = scripts(one=None)
    (directory / "versions" / "__init__.py").touch()
    assert revisions_in(directory).known == {"one"}


def test_a_script_that_names_no_revision_is_refused(scripts):
    directory = scripts(one=None)
    (directory / "versions" / "two.py").write_text("revision = 'two'\n")
    with pytest.raises(ValueError, match=r"two\.py names no revision"):
        revisions_in(directory)
