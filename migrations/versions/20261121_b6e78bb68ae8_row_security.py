"""Row security: users, orders, sessions and keys are there for their owners only

Revision ID: b6e78bb68ae8
Revises: 7c4d1b9e5f20
Create Date: 2026-11-21 07:35:59.243316+00:00
"""

from alembic import op

revision = "b6e78bb68ae8"
down_revision = "7c4d1b9e5f20"
branch_labels = None
depends_on = None

ALL_ROWS = "(SELECT string_to_array(current_setting('app.unrestricted', true), ',') && '{{*,{}}}'::text[])"
ACTING = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
CONDITIONS = {
    "users": f"{ALL_ROWS.format('users')} OR id = {ACTING}",
    "profiles": f"{ALL_ROWS.format('users')} OR user_id = {ACTING}",
    "orders": f"{ALL_ROWS.format('orders')} OR user_id = {ACTING}",
    "order_items": f"{ALL_ROWS.format('orders')} OR EXISTS (SELECT FROM orders whole "
    f"WHERE whole.id = order_items.order_id AND whole.user_id = {ACTING})",
    "auth_sessions": f"{ALL_ROWS.format('auth_sessions')} OR user_id = {ACTING}",
    "auth_refresh_tokens": f"{ALL_ROWS.format('auth_sessions')} OR EXISTS (SELECT FROM auth_sessions whole "
    f"WHERE whole.id = auth_refresh_tokens.session_id AND whole.user_id = {ACTING})",
    "api_keys": f"{ALL_ROWS.format('api_keys')} OR user_id = {ACTING}",
}


def upgrade() -> None:
    for table, condition in CONDITIONS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_owner ON {table} USING ({condition})")


def downgrade() -> None:
    for table in CONDITIONS:
        op.execute(f"DROP POLICY {table}_owner ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
