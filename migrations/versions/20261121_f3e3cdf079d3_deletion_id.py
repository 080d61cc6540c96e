"""Deleted rows know the deletion that took them along

Revision ID: f3e3cdf079d3
Revises: 37e2916ca686
Create Date: 2026-11-21 03:31:57.665646+00:00

Each table is read once for its index, in which there is nothing yet; nobody writes to it meanwhile. A million rows take
less than a second.
"""

import sqlalchemy as sa
from alembic import op


revision = "f3e3cdf079d3"
down_revision = "37e2916ca686"
branch_labels = None
depends_on = None

TABLES = ("categories", "orders", "products", "roles", "tags", "users")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("deletion_id", sa.Uuid(), nullable=True))
        # The table is locked already, by the column that was added: a concurrent index would gain nothing.
        op.execute(
            "-- squawk-ignore require-concurrent-index-creation\n"
            f"CREATE INDEX ix_{table}_deletion_id ON {table} (deletion_id) WHERE deletion_id IS NOT NULL"
        )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_index(f"ix_{table}_deletion_id", table_name=table)
        op.drop_column(table, "deletion_id")
