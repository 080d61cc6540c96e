"""How many rows the planner expects a query to return, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, event

if TYPE_CHECKING:
    from sqlalchemy import Connection

# In a migration, too, which keeps its own copy. Volatile, as PostgreSQL allows no EXPLAIN in other functions.
CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION public.estimated_rows(query text) RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END
$function$
""".strip()


@event.listens_for(MetaData, "after_create")
def _create_with_tables(_metadata: MetaData, connection: Connection, **_: Any) -> None:
    """`create_all()` makes what the migration makes."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(CREATE_FUNCTION)
