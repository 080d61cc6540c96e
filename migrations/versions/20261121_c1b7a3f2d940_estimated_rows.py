"""A function that tells how many rows the planner expects

Revision ID: c1b7a3f2d940
Revises: 4e96c7379636
Create Date: 2026-11-21 01:40:00.000000+00:00
"""

from alembic import op


revision = "c1b7a3f2d940"
down_revision = "4e96c7379636"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # OR REPLACE, as a database that create_all() made has it already.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION public.estimated_rows(query text) RETURNS bigint LANGUAGE plpgsql AS $function$
        DECLARE
            plan json;
        BEGIN
            EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
            RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
        END
        $function$
        """
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION public.estimated_rows(text)")
