"""Sessions, API keys and attempts

Revision ID: 09bd01ccf3cb
Revises: b99b459f2f99
Create Date: 2026-11-21 07:09:44.617990+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql


revision = "09bd01ccf3cb"
down_revision = "b99b459f2f99"
branch_labels = None
depends_on = None

# Each with the function that checks it, and the SQLSTATE of one that only has to be read anew.
CREDENTIALS = {"auth_sessions": ("verify_session", "AC401"), "api_keys": ("verify_api_key", "40001")}
CHECK = """
CREATE OR REPLACE FUNCTION public.{check}(credential uuid, known_epoch integer) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp' AS $function$
DECLARE
    current_epoch integer;
BEGIN
    SELECT epoch INTO current_epoch FROM public.{table}
    WHERE id = credential AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
    IF current_epoch IS NULL THEN
        RAISE EXCEPTION 'the credential is unknown, revoked or expired' USING ERRCODE = 'AC401';
    ELSIF current_epoch <> known_epoch THEN
        RAISE EXCEPTION 'what the user of the credential may do has changed' USING ERRCODE = '{outdated}';
    END IF;
END
$function$
"""
REVOKE = """
CREATE OR REPLACE FUNCTION public.revoke_{table}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp' AS $function$
DECLARE
    kept text := current_setting('app.kept_credential', true);
BEGIN
    IF kept = 'all' THEN
        RETURN NULL;
    END IF;
    UPDATE public.{table} SET revoked_at = now(), revoked_because = CASE WHEN OLD.deleted_at IS DISTINCT FROM NEW.deleted_at THEN 'account deleted' WHEN OLD.is_active IS DISTINCT FROM NEW.is_active THEN 'account deactivated' WHEN (OLD.password_hash)::text IS DISTINCT FROM (NEW.password_hash)::text THEN 'password changed' END
    WHERE user_id = NEW.id AND revoked_at IS NULL AND id::text IS DISTINCT FROM kept;
    RETURN NULL;
END
$function$
"""
REVOKE_TRIGGER = """
CREATE TRIGGER users_revoke_{table} AFTER UPDATE ON users
FOR EACH ROW WHEN ((OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) OR (OLD.is_active IS DISTINCT FROM NEW.is_active)
    OR ((OLD.password_hash)::text IS DISTINCT FROM (NEW.password_hash)::text))
EXECUTE FUNCTION public.revoke_{table}()
"""
RENEW = """
CREATE OR REPLACE FUNCTION public.renew_{table}_of_{whose}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp' AS $function$
BEGIN
    UPDATE public.{table} SET epoch = epoch + 1 WHERE revoked_at IS NULL AND user_id {holders};
    RETURN NULL;
END
$function$
"""
HOLDERS = {
    "user": "IN (OLD.user_id, NEW.user_id)",
    "role": "IN (SELECT user_id FROM public.user_roles WHERE role_id = NEW.id)",
}
RENEW_TRIGGERS = """
CREATE TRIGGER user_roles_renew_{table}_of_user AFTER INSERT OR DELETE OR UPDATE ON user_roles
FOR EACH ROW EXECUTE FUNCTION public.renew_{table}_of_user();
CREATE TRIGGER roles_renew_{table}_of_role AFTER UPDATE ON roles
FOR EACH ROW WHEN ((OLD.name)::text IS DISTINCT FROM (NEW.name)::text OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
EXECUTE FUNCTION public.renew_{table}_of_role()
"""


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of what was tried, and by or on whom"
        ),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_expires_at", "attempts", ["expires_at"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256"),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_because", sa.String(length=40), nullable=True),
        sa.CheckConstraint("char_length(name) >= 1", name=op.f("ck_api_keys_name_length")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "auth_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_agent", sa.String(length=200), nullable=True),
        sa.Column("address", sa.String(length=45), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_because", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_auth_sessions_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_sessions")),
    )
    op.create_index("ix_auth_sessions_expires_at", "auth_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_auth_sessions_user_id"), "auth_sessions", ["user_id"], unique=False)
    op.create_table(
        "auth_refresh_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256"),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["auth_sessions.id"],
            name=op.f("fk_auth_refresh_tokens_session_id_auth_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_auth_refresh_tokens")),
    )
    op.create_index(op.f("ix_auth_refresh_tokens_session_id"), "auth_refresh_tokens", ["session_id"], unique=False)
    op.create_index(
        "uq_auth_refresh_tokens_session_id",
        "auth_refresh_tokens",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("used_at IS NULL"),
    )
    for table, (check, outdated) in CREDENTIALS.items():
        op.execute(CHECK.format(table=table, check=check, outdated=outdated))
        op.execute(REVOKE.format(table=table))
        op.execute(REVOKE_TRIGGER.format(table=table))
        for whose, holders in HOLDERS.items():
            op.execute(RENEW.format(table=table, whose=whose, holders=holders))
        for trigger in RENEW_TRIGGERS.format(table=table).split(";"):
            op.execute(trigger)


def downgrade() -> None:
    for table, (check, _) in CREDENTIALS.items():
        op.execute(f"DROP TRIGGER roles_renew_{table}_of_role ON roles")
        op.execute(f"DROP TRIGGER user_roles_renew_{table}_of_user ON user_roles")
        op.execute(f"DROP TRIGGER users_revoke_{table} ON users")
        op.execute(f"DROP FUNCTION public.renew_{table}_of_role()")
        op.execute(f"DROP FUNCTION public.renew_{table}_of_user()")
        op.execute(f"DROP FUNCTION public.revoke_{table}()")
        op.execute(f"DROP FUNCTION public.{check}(uuid, integer)")
    for table in ("auth_refresh_tokens", "auth_sessions", "api_keys", "attempts"):
        op.drop_table(table)
