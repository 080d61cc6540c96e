"""Search users, categories, tags and products by their words

Revision ID: 5d2e8f6a1c37
Revises: c1b7a3f2d940
Create Date: 2026-11-21 03:23:19.029696+00:00

PostgreSQL writes each of the four tables anew, with the stored column in it, and builds two indexes on it; nobody reads
or writes the table meanwhile. A million products take about a minute.

The extension pg_trgm is a trusted one: a role needs the right CREATE on the database, and need be no superuser.
"""

from alembic import op


revision = "5d2e8f6a1c37"
down_revision = "c1b7a3f2d940"
branch_labels = None
depends_on = None

# Each with the column that gets a trigram index, and its document.
DESCRIBED = (
    "setweight(to_tsvector('english'::regconfig, (name)::text), 'A'::\"char\") || "
    "setweight(to_tsvector('english'::regconfig, COALESCE(description, ''::text)), 'B'::\"char\")"
)
SEARCHED = {
    "categories": ("name", DESCRIBED),
    "products": ("name", DESCRIBED),
    "tags": ("name", "setweight(to_tsvector('english'::regconfig, (name)::text), 'A'::\"char\")"),
    "users": (
        "username",
        "setweight(to_tsvector('simple'::regconfig, (username)::text), 'A'::\"char\") || "
        "setweight(to_tsvector('simple'::regconfig, (email)::text), 'B'::\"char\")",
    ),
}
FUNCTIONS = {
    "set_updated_at": ("NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at", "NEW.updated_at := now()"),
    "count_version": ("NEW.version IS NOT DISTINCT FROM OLD.version", "NEW.version := OLD.version + 1"),
}
# NEW has no values of generated columns yet, and WHEN may not speak of whole rows that have any.
WITHOUT_GENERATED = """
    IF TG_NARGS > 0 THEN
        OLD := jsonb_populate_record(OLD, TG_ARGV[0]::jsonb);
        IF OLD IS NOT DISTINCT FROM NEW THEN
            RETURN NEW;
        END IF;
    END IF;"""


def replace_function(function: str, beginning: str) -> None:
    condition, statement = FUNCTIONS[function]
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION public.{function}() RETURNS trigger LANGUAGE plpgsql AS $function$
        BEGIN{beginning}
            IF {condition} THEN
                {statement};
            END IF;
            RETURN NEW;
        END
        $function$
        """
    )


def replace_triggers(table: str, rest: str) -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP TRIGGER {table}_{function} ON {table}")
        trigger = f"CREATE TRIGGER {table}_{function} BEFORE UPDATE ON {table}"
        op.execute(f"{trigger} FOR EACH ROW {rest.format(function=function)}")


def create_index(name: str, table: str, column: str) -> None:
    # The table is locked already, by the column that was added: a concurrent index would gain nothing.
    op.execute(f"-- squawk-ignore require-concurrent-index-creation\nCREATE INDEX {name} ON {table} USING gin ({column})")


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for function in FUNCTIONS:
        replace_function(function, WITHOUT_GENERATED)
    for table, (column, document) in SEARCHED.items():
        # A stored column is filled at once; there is no way to do it in parts.
        op.execute(
            "-- squawk-ignore adding-field-with-default\n"
            f"ALTER TABLE {table} ADD COLUMN search_vector tsvector GENERATED ALWAYS AS ({document}) STORED"
        )
        create_index(f"ix_{table}_search_vector", table, "search_vector")
        create_index(f"ix_{table}_{column}_trigrams", table, f"{column} gin_trgm_ops")
        replace_triggers(table, "EXECUTE FUNCTION public.{function}('{{\"search_vector\": null}}')")


def downgrade() -> None:
    for table, (column, _) in SEARCHED.items():
        op.drop_index(f"ix_{table}_{column}_trigrams", table_name=table)
        op.drop_index(f"ix_{table}_search_vector", table_name=table)
        op.drop_column(table, "search_vector")
        replace_triggers(table, "WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION public.{function}()")
    for function in FUNCTIONS:
        replace_function(function, "")
    # Stays where others need it, or have made it.
    op.execute(
        """
        DO $$
        BEGIN
            DROP EXTENSION IF EXISTS pg_trgm;
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
            NULL;
        END
        $$
        """
    )
