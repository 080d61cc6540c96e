"""The guides' tasks as migrations: add a column, rename one, add a composite index, change data; forth and back."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import flask_migrate
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from api.extensions import db
from tests.factories import ProductFactory, UserFactory

HEAD = ScriptDirectory(str(Path(__file__).resolve().parents[2] / "migrations")).get_current_head()

pytestmark = pytest.mark.usefixtures("shop")


@pytest.fixture
def shop(migrated):
    """A product and two users."""
    del migrated
    ProductFactory(name="Mug")
    for name in ("ada", "grace"):
        UserFactory(username=name)
    db.session.remove()


@pytest.fixture
def migrate(versions):
    """`migrate(upgrade, downgrade)`: add a migration behind the last one and run it."""
    last = [HEAD]

    def add(upgrade, downgrade):
        revision = f"step{len(last)}"
        versions(revision, indent(upgrade.strip(), "    "), indent(downgrade.strip(), "    "), after=last[-1])
        last.append(revision)
        flask_migrate.upgrade(directory=versions.directory)

    add.back = lambda: flask_migrate.downgrade(directory=versions.directory)
    return add


def rows(query):
    with db.engine.connect() as connection:
        return connection.execute(text(query)).all()


def columns(table):
    with db.engine.connect() as connection:
        return {column["name"] for column in inspect(connection).get_columns(table)}


def test_add_a_column(migrate):
    migrate(
        'op.add_column("products", sa.Column("new_column", sa.String(100), nullable=True))',
        'op.drop_column("products", "new_column")',
    )
    assert rows("SELECT name, new_column FROM products") == [("Mug", None)]
    migrate.back()
    assert "new_column" not in columns("products")


def test_add_a_column_that_may_not_be_null_to_a_filled_table(migrate):
    migrate(
        'op.add_column("products", sa.Column("weight", sa.Integer(), nullable=False, server_default="0"))',
        'op.drop_column("products", "weight")',
    )
    assert rows("SELECT weight FROM products") == [(0,)]


def test_rename_a_column_and_keep_its_values(migrate):
    migrate(
        'op.alter_column("products", "name", new_column_name="title")',
        'op.alter_column("products", "title", new_column_name="name")',
    )
    assert rows("SELECT title FROM products") == [("Mug",)]
    assert "name" not in columns("products")
    migrate.back()
    assert rows("SELECT name FROM products") == [("Mug",)]


def test_create_a_composite_index(migrate):
    migrate(
        'op.create_index("idx_name_price", "products", ["name", "price"])',
        'op.drop_index("idx_name_price", table_name="products")',
    )
    query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_name_price'"
    assert rows(query) == [("CREATE INDEX idx_name_price ON public.products USING btree (name, price)",)]
    migrate.back()
    assert rows(query) == []


def test_create_an_index_on_a_table_in_use_without_blocking_writes(migrate):
    migrate(
        """
with op.get_context().autocommit_block():
    op.create_index("idx_name", "products", ["name"], postgresql_concurrently=True)
""",
        """
with op.get_context().autocommit_block():
    op.drop_index("idx_name", table_name="products", postgresql_concurrently=True)
""",
    )
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('idx_name')"
    assert rows(query) == [(True,)]
    migrate.back()
    assert rows(query) == []


def test_change_data(migrate):
    migrate(
        """
op.add_column("users", sa.Column("first_name", sa.String(50)))
op.add_column("users", sa.Column("last_name", sa.String(50)))
op.execute("UPDATE users SET first_name = initcap(username), last_name = 'Doe'")
""",
        """
op.drop_column("users", "last_name")
op.drop_column("users", "first_name")
""",
    )
    migrate(
        """
op.add_column("users", sa.Column("full_name", sa.String(100), nullable=True))
users = sa.table("users",
    sa.column("id", sa.Integer),
    sa.column("first_name", sa.String),
    sa.column("last_name", sa.String),
    sa.column("full_name", sa.String)
)
connection = op.get_bind()
connection.execute(
    users.update().values(
        full_name=users.c.first_name + " " + users.c.last_name
    )
)
""",
        'op.drop_column("users", "full_name")',
    )
    assert rows("SELECT full_name FROM users ORDER BY id") == [("Ada Doe",), ("Grace Doe",)]
    migrate.back()
    assert "full_name" not in columns("users")
    assert "last_name" in columns("users")
    migrate.back()
    assert "last_name" not in columns("users")
