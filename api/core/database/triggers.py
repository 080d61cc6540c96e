"""What the database does by itself, so that SQL that goes round the ORM cannot forget it.

`updated_at` moves and `version` counts on every UPDATE that changes something.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event
from sqlalchemy.orm import Mapper

from api.core.database.mixins import TimestampMixin, VersionMixin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@dataclass(frozen=True)
class RowTrigger:
    """A trigger function, and the mixin whose tables run it before each UPDATE. `statement` sets columns of `NEW`."""

    function: str
    mixin: type
    condition: str
    statement: str

    def create_function(self) -> str:
        """The function; it leaves alone what the UPDATE itself sets.

        Where the table has generated columns, which `NEW` holds no values of yet, it compares the rows without them.
        """
        return (
            f"CREATE FUNCTION public.{self.function}() RETURNS trigger LANGUAGE plpgsql AS $function$\n"
            "BEGIN\n"
            "    IF TG_NARGS > 0 THEN\n"
            "        OLD := jsonb_populate_record(OLD, TG_ARGV[0]::jsonb);\n"
            "        IF OLD IS NOT DISTINCT FROM NEW THEN\n"
            "            RETURN NEW;\n"
            "        END IF;\n"
            "    END IF;\n"
            f"    IF {self.condition} THEN\n"
            f"        {self.statement};\n"
            "    END IF;\n"
            "    RETURN NEW;\n"
            "END\n"
            "$function$"
        )

    def drop_function(self) -> str:
        """Undo `create_function`."""
        return f"DROP FUNCTION public.{self.function}()"

    def create_trigger(self, table: str, argument: str = "") -> str:
        """The trigger of one table; WHEN spares a call where nothing has changed.

        PostgreSQL allows no WHEN about whole rows that have generated columns: `argument` tells of them instead.
        """
        when = "" if argument else "WHEN (OLD.* IS DISTINCT FROM NEW.*) "
        quoted = f"'{argument}'" if argument else ""
        return (
            f"CREATE TRIGGER {table}_{self.function} BEFORE UPDATE ON {table}\n"
            f"FOR EACH ROW {when}EXECUTE FUNCTION public.{self.function}({quoted})"
        )

    def drop_trigger(self, table: str) -> str:
        """Undo `create_trigger`."""
        return f"DROP TRIGGER {table}_{self.function} ON {table}"

    def tables(self, metadata: MetaData) -> Iterator[str]:
        """Names of the tables that have this trigger."""
        return iter(sorted(metadata.info.get(self.function, ())))


def generated_columns(table: Table) -> str:
    """The argument of the trigger of a table: a row's generated columns, as empty as `NEW` has them; often none."""
    generated = {column.name: None for column in table.columns if column.computed is not None}
    return json.dumps(generated) if generated else ""


ROW_TRIGGERS = (
    RowTrigger(
        function="set_updated_at",
        mixin=TimestampMixin,
        condition="NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at",
        statement="NEW.updated_at := now()",
    ),
    RowTrigger(
        function="count_version",
        mixin=VersionMixin,
        condition="NEW.version IS NOT DISTINCT FROM OLD.version",
        statement="NEW.version := OLD.version + 1",
    ),
)


@event.listens_for(Mapper, "instrument_class")
def _mark(mapper: Mapper[Any], model: type) -> None:
    table = mapper.local_table
    for trigger in ROW_TRIGGERS:
        if issubclass(model, trigger.mixin) and isinstance(table, Table):
            # Not in the table's own info, which autogenerate would write into the migration.
            table.metadata.info.setdefault(trigger.function, set()).add(table.name)


@event.listens_for(Table, "after_create")
def _create_with_table(table: Table, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the triggers that a migration would make."""
    if connection.dialect.name != "postgresql":
        return
    for trigger in ROW_TRIGGERS:
        if table.name in trigger.tables(table.metadata):
            function = trigger.create_function().replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
            connection.exec_driver_sql(function)
            connection.exec_driver_sql(trigger.create_trigger(table.name, generated_columns(table)))
