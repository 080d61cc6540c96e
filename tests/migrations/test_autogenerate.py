"""`flask db migrate`: a change of the models becomes a migration that needs no hand, forth and back.

In a copy of the project, by a process of its own: models cannot be taken back out of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODELS = '''
"""Gadgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from marshmallow.validate import Length, OneOf, Range
from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped

from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin, VersionMixin
from api.core.database.model import UUIDModel
from api.core.database.types import JSONDocument, Money, column
from api.extensions import db


class Gadget(UUIDModel, SoftDeleteMixin, VersionMixin, db.Model):
    """One of each kind of column."""

    __tablename__ = "gadgets"
    __table_args__ = (Index("ix_gadgets_name_price", "name", "price"),)

    name: Mapped[str] = column(String(20), validators=[Length(min=2)])
    colour: Mapped[str | None] = column(String(9), validators=[OneOf(["red", "blue"])])
    price: Mapped[Decimal] = column(Money, validators=[Range(min=0)])
    facts: Mapped[dict[str, Any]] = column(JSONDocument, default=dict)
    tag_id: Mapped[int] = column(ForeignKey("tags.id"))


unique_among_live(Gadget.__table__.c.name, ignore_case=True)
'''
STEPS = """
import sys
from pathlib import Path
import flask_migrate
from sqlalchemy import text
from api import create_app
from api.extensions import db

with create_app().app_context():
    flask_migrate.upgrade()
    flask_migrate.migrate(message="Change of the models")
    flask_migrate.upgrade()
    flask_migrate.check()
    triggers = "SELECT tgname FROM pg_trigger WHERE tgname = 'gadgets_set_updated_at'"
    with db.engine.connect() as connection:
        print("triggers:", connection.scalars(text(triggers)).all())
    flask_migrate.downgrade()
    with db.engine.connect() as connection:
        print("afterwards:", connection.scalar(text("SELECT to_regclass('gadgets')")))
    flask_migrate.upgrade()
    flask_migrate.check()
    before = len([*Path("migrations/versions").glob("*.py")])
    flask_migrate.migrate(message="Nothing")
    print("written for nothing:", len([*Path("migrations/versions").glob("*.py")]) - before)
"""


INDEXES = """
    QUERY = "SELECT indexdef FROM pg_indexes WHERE tablename = 'tags' AND indexname LIKE 'uq_%_live'"
    with db.engine.connect() as connection:
        print("above:", *connection.scalars(text(QUERY)), sep="\\n")
    flask_migrate.downgrade()
    with db.engine.connect() as connection:
        print("below:", *connection.scalars(text(QUERY)), end="\\n")
"""


class Copy:
    """A copy of the project in a directory of its own, on a database of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        for name in ("api", "migrations"):
            # With what Python has made of them.
            shutil.copytree(PROJECT / name, directory / name)
        self.versions = {*(directory / "migrations" / "versions").glob("*.py")}

    def run(self, program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": self.url, "LOG_LEVEL": "WARNING"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def written(self) -> str:
        """The migration that was written."""
        (path,) = {*(self.directory / "migrations" / "versions").glob("*.py")} - self.versions
        return path.read_text()

    def edit(self, path: str, before: str, after: str) -> None:
        content = (self.directory / path).read_text()
        assert before in content
        (self.directory / path).write_text(content.replace(before, after, 1))


@pytest.fixture
def project(tmp_path, new_database, template):
    return Copy(tmp_path, new_database(copy_of=template))


def test_a_new_model_becomes_a_table_with_its_rules_indexes_and_trigger(project):
    folder = project.directory / "api" / "resources" / "gadgets"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "models.py").write_text(MODELS)
    output = project.run(STEPS)
    written = project.written()
    for expected in (
        "op.create_table(",
        "ck_gadgets_name_length",
        "ck_gadgets_colour_oneof",
        "ck_gadgets_price_range",
        "fk_gadgets_tag_id_tags",
        "pk_gadgets",
        "uq_gadgets_name_live",
        "ix_gadgets_name_price",
        "CREATE TRIGGER gadgets_set_updated_at BEFORE UPDATE ON gadgets",
        "DROP TRIGGER gadgets_set_updated_at ON gadgets",
    ):
        assert expected in written
    assert "api." not in written
    assert "set_updated_at() RETURNS trigger" not in written
    assert "triggers: ['gadgets_set_updated_at']" in output
    assert "afterwards: None" in output
    assert "written for nothing: 0" in output


def test_a_changed_model_becomes_a_change_of_its_table(project):
    project.edit(
        "api/resources/tags/models.py",
        "    products: Mapped",
        "    colour: Mapped[str | None] = column(String(9), validators=[Length(min=2)])\n\n    products: Mapped",
    )
    project.edit(
        "api/resources/tags/models.py",
        '    __tablename__ = "tags"\n',
        '    __tablename__ = "tags"\n    __table_args__ = (Index("ix_tags_name_colour", "name", "colour"),)\n',
    )
    project.edit("api/resources/tags/models.py", "import String", "import Index, String")
    project.edit("api/resources/roles/models.py", "String(500)", "String(600)")
    output = project.run(STEPS)
    written = project.written()
    for expected in ("add_column", "drop_column", "ck_tags_colour_length", "ix_tags_name_colour", "length=600"):
        assert expected in written
    assert "written for nothing: 0" in output


def test_a_key_among_live_rows_becomes_another_one(project):
    models = "api/resources/tags/models.py"
    project.edit(models, "import String", "import Integer, String")
    project.edit(
        models,
        "    products: Mapped",
        "    group: Mapped[str] = column(String(9), server_default='')\n"
        "    place: Mapped[int] = column(Integer, server_default='0')\n\n    products: Mapped",
    )
    # One that changes what it compares under the same name, and one of several columns.
    project.edit(
        models,
        "unique_among_live(Tag.__table__.c.name, ignore_case=True)",
        "unique_among_live(Tag.__table__.c.name)\n"
        "unique_among_live(Tag.__table__.c.group, Tag.__table__.c.place, ignore_case=True)",
    )
    output = project.run(STEPS + INDEXES)
    upgrade, downgrade = project.written().split("def downgrade")
    for name in ("uq_tags_name_live", "uq_tags_group_place_live"):
        assert name in upgrade
        assert name in downgrade
    assert "written for nothing: 0" in output
    assert "uq_tags_name_live ON public.tags USING btree (name) WHERE (deleted_at IS NULL)" in output
    expressions = 'lower(("group")::text), place) WHERE (deleted_at IS NULL)'
    assert f"uq_tags_group_place_live ON public.tags USING btree ({expressions}" in output
    assert "below: CREATE UNIQUE INDEX uq_tags_name_live ON public.tags USING btree (lower((name)::text))" in output


def test_a_table_that_loses_its_timestamps_loses_its_trigger(project):
    project.edit("api/resources/tags/models.py", "class Tag(IntIDModel, SoftDelete", "class Tag(_Key, SoftDelete")
    project.edit(
        "api/resources/tags/models.py",
        "class Tag(",
        "class _Key:\n    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)\n\n\n"
        "class Tag(",
    )
    project.edit("api/resources/tags/models.py", "import String", "import BigInteger, Identity, String")
    project.edit(
        "api/resources/tags/models.py", "import Mapped, relationship", "import Mapped, mapped_column, relationship"
    )
    project.edit("api/resources/tags/schemas.py", "    created_at = auto_field(dump_only=True)\n", "")
    project.edit("api/resources/tags/schemas.py", "    updated_at = auto_field(dump_only=True)\n", "")
    project.edit("api/resources/tags/routes.py", 'sorts=("name", "created_at")', 'sorts=("name",)')
    project.run(STEPS)
    written = project.written()
    upgrade, downgrade = written.split("def downgrade")
    assert "DROP TRIGGER tags_set_updated_at ON tags" in upgrade
    assert upgrade.index("DROP TRIGGER") < upgrade.index("drop_column")
    assert "CREATE TRIGGER tags_set_updated_at" in downgrade
    assert downgrade.index("add_column") < downgrade.index("CREATE TRIGGER")


HISTORY_STEPS = STEPS.replace(
    "    flask_migrate.migrate(",
    """
    def run(statement):
        with db.engine.begin() as connection:
            connection.execute(text(statement))

    def recorded():
        with db.engine.connect() as connection:
            return connection.execute(text("SELECT table_name, new FROM history ORDER BY id")).all()

    run("INSERT INTO tags (name) VALUES ('before')")
    flask_migrate.migrate(""",
    1,
).replace(
    "    triggers =",
    """
    run("INSERT INTO categories (name) VALUES ('unrecorded')")
    run("UPDATE tags SET name = 'after'")
    run("INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com')")
    ((tag, state), (user, safe)) = recorded()
    assert (tag, state["name"], user) == ("tags", "after", "users")
    assert not {"email", "password_hash", "search_vector"} & set(safe), safe
    triggers =""",
    1,
)


def test_a_model_that_asks_for_history_gets_its_triggers_and_one_that_asks_no_more_loses_them(project):
    project.edit("api/resources/tags/models.py", "VersionMixin, db.Model", "VersionMixin, HistoryMixin, db.Model")
    project.edit(
        "api/resources/tags/models.py",
        "from api.core.database.indexes",
        "from api.core.database.history import HistoryMixin\nfrom api.core.database.indexes",
    )
    project.edit("api/resources/categories/models.py", "VersionMixin, HistoryMixin", "VersionMixin")
    project.edit("api/resources/users/models.py", '("password_hash",)', '("password_hash", "email")')
    output = project.run(HISTORY_STEPS)
    upgrade, downgrade = project.written().split("def downgrade")
    for table, arguments in (
        ("tags", "'id', 'search_vector'"),
        ("users", "'id', 'email', 'password_hash', 'search_vector'"),
    ):
        assert f"CREATE TRIGGER {table}_record_history AFTER INSERT OR DELETE OR UPDATE ON {table}" in upgrade
        assert f"CREATE TRIGGER {table}_record_truncate BEFORE TRUNCATE ON {table}" in upgrade
        assert f"EXECUTE FUNCTION public.record_history({arguments})" in upgrade
        assert f"DROP TRIGGER {table}_record_history ON {table}" in downgrade
    assert "DROP TRIGGER categories_record_history ON categories" in upgrade
    assert "DROP TRIGGER users_record_history ON users" in upgrade
    assert "CREATE TRIGGER categories_record_history" in downgrade
    assert "'id', 'password_hash', 'search_vector'" in downgrade
    assert "FUNCTION public.record_history() RETURNS" not in upgrade
    assert "written for nothing: 0" in output


def test_a_changed_function_is_replaced_and_put_back(project):
    project.edit("api/core/database/history.py", "lower(TG_OP),", "lower(TG_OP) || '',")
    project.run(STEPS)
    upgrade, downgrade = project.written().split("def downgrade")
    for part, body in ((upgrade, "lower(TG_OP) || '',"), (downgrade, "lower(TG_OP),")):
        assert "CREATE OR REPLACE FUNCTION public.record_history()" in part
        assert body in part
        assert "TRIGGER" not in part
