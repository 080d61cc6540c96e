"""What the database does by itself, so that SQL that goes round the ORM cannot forget it: functions and triggers.

`updated_at` moves and `version` counts on every UPDATE that changes something. `TRIGGERS` and `FUNCTIONS` are what
`create_all()` makes and what `flask db migrate` compares the database with; a module adds its own to them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event, text
from sqlalchemy.orm import Mapper

from api.core.database.mixins import TimestampMixin, VersionMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection


def never(_table: Table) -> str:
    """Of a trigger that is always called."""
    return ""


@dataclass(frozen=True)
class Function:
    """A function of the database. `head` and `body` are written as `pg_get_functiondef` writes them, blanks aside.

    `signature` holds the name and the types of the arguments, `head` names these, too, and goes on behind the name.
    """

    signature: str
    head: str
    body: str

    @property
    def name(self) -> str:
        """The name with its schema."""
        return f"public.{self.signature.partition('(')[0]}"

    def create(self) -> str:
        """Make the function, or give it this body."""
        return f"CREATE OR REPLACE FUNCTION {self.name}{self.head} AS $function$\n{self.body.strip()}\n$function$"

    def drop(self) -> str:
        """Undo `create`."""
        return f"DROP FUNCTION public.{self.signature}"


@dataclass(frozen=True)
class Trigger:
    """A trigger of every table whose model has `mixin`, and of those that `add_trigger` names.

    `suffix` follows the table's name in its own; `moment` is such as `BEFORE UPDATE`, its events in PostgreSQL's own
    order: INSERT, DELETE, UPDATE, TRUNCATE. `arguments` and the `condition` that spares a call depend on the table.
    """

    suffix: str
    function: Function
    mixin: type | None
    moment: str
    arguments: Callable[[Table], tuple[str, ...]]
    condition: Callable[[Table], str] = never
    level: str = "ROW"

    def name(self, table: str) -> str:
        """Of the trigger of `table`."""
        return f"{table}_{self.suffix}"

    def create(self, table: Table) -> str:
        """Make the trigger of `table`."""
        condition = self.condition(table)
        when = f"WHEN ({condition}) " if condition else ""
        arguments = ", ".join(f"'{argument}'" for argument in self.arguments(table))
        return (
            f"CREATE TRIGGER {self.name(table.name)} {self.moment} ON {table.name}\n"
            f"FOR EACH {self.level} {when}EXECUTE FUNCTION {self.function.name}({arguments})"
        )

    def drop(self, table: str) -> str:
        """Undo `create`."""
        return f"DROP TRIGGER {self.name(table)} ON {table}"

    def tables(self, metadata: MetaData) -> Iterator[Table]:
        """The tables that have this trigger."""
        marked = metadata.info.get(self.suffix, ())
        return (metadata.tables[name] for name in sorted(marked) if name in metadata.tables)


def no_arguments(_table: Table) -> tuple[str, ...]:
    """Of a trigger that needs to be told nothing."""
    return ()


def add_trigger(trigger: Trigger, metadata: MetaData, *tables: str) -> None:
    """Add `trigger` to `TRIGGERS`, for the tables of these names, which may be declared later or elsewhere."""
    TRIGGERS.append(trigger)
    metadata.info.setdefault(trigger.suffix, set()).update(tables)


def _before_update(name: str, condition: str, statement: str) -> Function:
    """A function that leaves alone what the UPDATE itself sets.

    Where the table has generated columns, which `NEW` holds no values of yet, it compares the rows without them.
    """
    body = (
        "BEGIN\n"
        "    IF TG_NARGS > 0 THEN\n"
        "        OLD := jsonb_populate_record(OLD, TG_ARGV[0]::jsonb);\n"
        "        IF OLD IS NOT DISTINCT FROM NEW THEN\n"
        "            RETURN NEW;\n"
        "        END IF;\n"
        "    END IF;\n"
        f"    IF {condition} THEN\n"
        f"        {statement};\n"
        "    END IF;\n"
        "    RETURN NEW;\n"
        "END"
    )
    return Function(f"{name}()", "() RETURNS trigger LANGUAGE plpgsql", body)


def _generated_columns(table: Table) -> tuple[str, ...]:
    """A row's generated columns, as empty as `NEW` has them, as a JSON object; no argument where there are none."""
    generated = {column.name: None for column in table.columns if column.computed is not None}
    return (json.dumps(generated),) if generated else ()


def _changed(table: Table) -> str:
    """PostgreSQL allows no condition about whole rows that have generated columns."""
    return "" if _generated_columns(table) else "OLD.* IS DISTINCT FROM NEW.*"


FUNCTIONS: list[Function] = []
"""Functions that no trigger calls."""
_WITH_TABLE = "with_table"
TRIGGERS = [
    Trigger(
        "set_updated_at",
        _before_update(
            "set_updated_at", "NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at", "NEW.updated_at := now()"
        ),
        TimestampMixin,
        "BEFORE UPDATE",
        _generated_columns,
        _changed,
    ),
    Trigger(
        "count_version",
        _before_update(
            "count_version", "NEW.version IS NOT DISTINCT FROM OLD.version", "NEW.version := OLD.version + 1"
        ),
        VersionMixin,
        "BEFORE UPDATE",
        _generated_columns,
        _changed,
    ),
]


def all_functions() -> list[Function]:
    """Every function once, those that triggers call first."""
    return [*dict.fromkeys([*(trigger.function for trigger in TRIGGERS), *FUNCTIONS])]


def run_with_table(table: Table, *statements: str) -> None:
    """Run `statements` once `table` has been made."""
    # Known by its own metadata only: a migration makes a table of this name from metadata that it puts together.
    table.metadata.info.setdefault(_WITH_TABLE, {})[table.name] = statements


def statements_with(metadata: MetaData, table: str) -> tuple[str, ...]:
    """What is to be run once the table of this name has been made."""
    return tuple(metadata.info.get(_WITH_TABLE, {}).get(table, ()))


@event.listens_for(Mapper, "instrument_class")
def _mark(mapper: Mapper[Any], model: type) -> None:
    table = mapper.local_table
    for trigger in TRIGGERS:
        if trigger.mixin is not None and issubclass(model, trigger.mixin) and isinstance(table, Table):
            # Not in the table's own info, which autogenerate would write into the migration.
            table.metadata.info.setdefault(trigger.suffix, set()).add(table.name)


@event.listens_for(MetaData, "before_create")
def _create_functions(_metadata: MetaData, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the functions that a migration would make."""
    if connection.dialect.name == "postgresql":
        for function in FUNCTIONS:
            connection.execute(text(function.create()))


@event.listens_for(Table, "after_create")
def _create_with_table(table: Table, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the triggers that a migration would make."""
    if connection.dialect.name != "postgresql":
        return
    for statement in statements_with(table.metadata, table.name):
        connection.execute(text(statement))
    for trigger in TRIGGERS:
        if table in trigger.tables(table.metadata):
            connection.execute(text(trigger.function.create()))
            connection.execute(text(trigger.create(table)))
