"""What was answered to requests with an Idempotency-Key

Revision ID: eb8d25c618e0
Revises: 5d2e8f6a1c37
Create Date: 2026-11-21 03:23:32.697227+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql


revision = "eb8d25c618e0"
down_revision = "5d2e8f6a1c37"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of caller, method, path and key"),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=10), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="SHA-256 of what was sent"),
        sa.Column("status", sa.Integer(), nullable=True, comment="NULL while the request is being answered"),
        sa.Column("headers", postgresql.JSONB(), nullable=True, comment="pairs of name and value"),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_expires_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
