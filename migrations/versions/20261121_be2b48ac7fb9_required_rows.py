"""A function that refuses a transaction which relies on rows that are not there

Revision ID: be2b48ac7fb9
Revises: b6e78bb68ae8
Create Date: 2026-11-21 15:19:31.250388+00:00
"""

from alembic import op

revision = "be2b48ac7fb9"
down_revision = "b6e78bb68ae8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION public.refuse_missing(missing json) RETURNS void LANGUAGE plpgsql AS $function$
        BEGIN
            IF missing::text <> '{}' THEN
                RAISE EXCEPTION 'what a row refers to is not there' USING ERRCODE = 'AC422', DETAIL = missing::text;
            END IF;
        END
        $function$
        """
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION public.refuse_missing(json)")
