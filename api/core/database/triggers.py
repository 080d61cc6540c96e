"""What the database does by itself: `updated_at` moves on every UPDATE, also where SQL goes round the ORM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event
from sqlalchemy.orm import Mapper

from api.core.database.mixins import TimestampMixin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_TOUCHED = "tables_with_updated_at"


def create_function() -> str:
    """The trigger function; it leaves an `updated_at` alone that the statement itself sets."""
    return """
CREATE FUNCTION public.set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at THEN
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$function$
""".strip()


def drop_function() -> str:
    """Undo `create_function`."""
    return "DROP FUNCTION public.set_updated_at()"


def create_trigger(table: str) -> str:
    """The trigger that keeps `table.updated_at`; WHEN spares a call where nothing has changed."""
    return (
        f"CREATE TRIGGER {table}_set_updated_at BEFORE UPDATE ON {table}\n"
        "FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION public.set_updated_at()"
    )


def drop_trigger(table: str) -> str:
    """Undo `create_trigger`."""
    return f"DROP TRIGGER {table}_set_updated_at ON {table}"


def touched_tables(metadata: MetaData) -> Iterator[str]:
    """Names of the tables whose `updated_at` the database keeps."""
    return iter(sorted(metadata.info.get(_TOUCHED, ())))


@event.listens_for(Mapper, "instrument_class")
def _mark(mapper: Mapper[Any], model: type) -> None:
    if issubclass(model, TimestampMixin) and isinstance(mapper.local_table, Table):
        table = mapper.local_table
        # Not in the table's own info, which autogenerate would write into the migration.
        table.metadata.info.setdefault(_TOUCHED, set()).add(table.name)


@event.listens_for(Table, "after_create")
def _create_with_table(table: Table, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the triggers that a migration would make."""
    if table.name not in touched_tables(table.metadata) or connection.dialect.name != "postgresql":
        return
    function = create_function().replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    connection.exec_driver_sql(function)
    connection.exec_driver_sql(create_trigger(table.name))
