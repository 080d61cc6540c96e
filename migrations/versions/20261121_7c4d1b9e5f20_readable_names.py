"""Names have something to see and hide nothing

Rows from before may break the rules. Where there are any, the constraint stays `NOT VALID`: it holds for what is written
from now on, and `ALTER TABLE … VALIDATE CONSTRAINT …` makes it valid once the rows are mended.

Revision ID: 7c4d1b9e5f20
Revises: 09bd01ccf3cb
Create Date: 2026-11-21 07:40:00.000000+00:00
"""

from alembic import op


revision = "7c4d1b9e5f20"
down_revision = "09bd01ccf3cb"
branch_labels = None
depends_on = None

HIDDEN = (
    r"\u0001-\u001F\u007F-\u009F\u2028-\u2029\u061C\u200E-\u200F\u202A-\u202E\u2066-\u2069\u00AD\u115F-\u1160\u180E\u200B"
    r"\u2060-\u2065\u206A-\u206F\u2800\u3164\uFEFF\uFFA0\uFFF9-\uFFFB"
)
JOINERS = r"\u034F\u180B-\u180D\u200C-\u200D\uFE00-\uFE0F\U000E0001-\U000E007F\U000E0100-\U000E01EF"
BLANKS = r"\u0020\u00A0\u1680\u2000-\u200A\u202F\u205F\u3000"
SEEN = f"[^{HIDDEN}{JOINERS}{BLANKS}]"
RULES = {"readable": None, "label": f"[{HIDDEN}]", "identifier": f"[{HIDDEN}{JOINERS}]"}
COLUMNS = (
    ("api_keys", "name", "label"),
    ("categories", "name", "label"),
    ("products", "name", "readable"),
    ("products", "sku", "identifier"),
    ("roles", "name", "identifier"),
    ("tags", "name", "label"),
    ("users", "email", "identifier"),
    ("users", "username", "identifier"),
)


def upgrade() -> None:
    for table, column, rule in COLUMNS:
        hidden = RULES[rule]
        condition = f"{column} ~ '{SEEN}'" + (f" AND {column} !~ '{hidden}'" if hidden else "")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_{rule} CHECK ({condition}) NOT VALID")
    # In transactions of their own: writers need not wait while the rows are looked at.
    with op.get_context().autocommit_block():
        for table, column, rule in COLUMNS:
            op.execute(
                f"""
                DO $$
                BEGIN
                    ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{column}_{rule};
                EXCEPTION WHEN check_violation THEN
                    RAISE WARNING 'rows of {table} break ck_{table}_{column}_{rule}, which stays not valid';
                END
                $$
                """
            )


def downgrade() -> None:
    for table, column, rule in COLUMNS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}_{rule}")
