"""Events that leave when their transaction commits

Revision ID: b99b459f2f99
Revises: f3e3cdf079d3
Create Date: 2026-11-21 03:44:11.277267+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "b99b459f2f99"
down_revision = "f3e3cdf079d3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox_events",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "id",
            sa.Uuid(),
            server_default=sa.text(
                "encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid"
            ),
            nullable=False,
        ),
        sa.Column("topic", sa.String(length=100), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_outbox_events")),
    )
    op.create_index(
        "ix_outbox_events_waiting",
        "outbox_events",
        ["sequence"],
        unique=False,
        postgresql_where=sa.text("parked_at IS NULL"),
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION public.notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $function$
        BEGIN
            PERFORM pg_notify('outbox_events', '');
            RETURN NULL;
        END
        $function$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION public.publish_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp' AS $function$
        DECLARE
            before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
            after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
            was_deleted boolean := before ->> 'deleted_at' IS NOT NULL;
            is_deleted boolean := after IS NULL OR after ->> 'deleted_at' IS NOT NULL;
        BEGIN
            -- Nothing has changed, what goes for good has been deleted before, or unpublished() says so.
            IF before = after OR (was_deleted AND TG_OP = 'DELETE') OR current_setting('app.unpublished', true) = 'true' THEN
                RETURN NULL;
            END IF;
            INSERT INTO public.outbox_events (topic, payload) VALUES (
                TG_TABLE_NAME || CASE
                    WHEN TG_OP = 'INSERT' THEN '.created'
                    WHEN is_deleted AND NOT was_deleted THEN '.deleted'
                    WHEN was_deleted AND NOT is_deleted THEN '.restored'
                    ELSE '.updated'
                END,
                jsonb_build_object('id', coalesce(after, before) -> 'id', 'version', coalesce(after, before) -> 'version')
            );
            RETURN NULL;
        END
        $function$
        """
    )
    op.execute(
        """
        CREATE TRIGGER outbox_events_notify_outbox AFTER INSERT ON outbox_events
        FOR EACH STATEMENT EXECUTE FUNCTION public.notify_outbox()
        """
    )
    op.execute(
        """
        CREATE TRIGGER orders_publish_change AFTER INSERT OR DELETE OR UPDATE ON orders
        FOR EACH ROW EXECUTE FUNCTION public.publish_change()
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER orders_publish_change ON orders
        """
    )
    op.execute(
        """
        DROP TRIGGER outbox_events_notify_outbox ON outbox_events
        """
    )
    op.execute(
        """
        DROP FUNCTION public.publish_change()
        """
    )
    op.execute(
        """
        DROP FUNCTION public.notify_outbox()
        """
    )
    op.drop_index("ix_outbox_events_waiting", table_name="outbox_events", postgresql_where=sa.text("parked_at IS NULL"))
    op.drop_table("outbox_events")
