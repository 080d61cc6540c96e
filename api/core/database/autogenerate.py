"""`flask db migrate` and `flask db check` for what SQLAlchemy's metadata does not hold: triggers and their functions.

The migration gets plain SQL, so that it keeps doing the same when the code changes later.
"""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation, Operations
from alembic.util import DispatchPriority
from sqlalchemy import MetaData, text

from api.core.database.search import CREATE_EXTENSION, DROP_EXTENSION, TRIGRAMS, needs_extension
from api.core.database.triggers import ROW_TRIGGERS, generated_columns

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

_EXISTING_TRIGGERS = text(
    "SELECT c.relname, rtrim(encode(t.tgargs, 'escape'), '\\000') "
    "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
    "WHERE NOT t.tgisinternal AND t.tgfoid = to_regproc(:function)"
)
_EXISTING_EXTENSION = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = :name)")
_EXISTING_FUNCTION = text("SELECT to_regproc(:function) IS NOT NULL")


@Operations.register_operation("run_sql")
class RunSQL(MigrateOperation):
    """A statement and the one that undoes it."""

    def __init__(self, forward: str, backward: str) -> None:
        self.forward = forward
        self.backward = backward

    @classmethod
    def run_sql(cls, operations: Operations, forward: str, backward: str = "") -> Any:
        """Run `forward` in a migration."""
        return operations.invoke(cls(forward, backward))

    def reverse(self) -> RunSQL:
        """The operation that undoes this one."""
        return RunSQL(self.backward, self.forward)

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `flask db check` prints."""
        return ("run_sql", self.forward)


@Operations.implementation_for(RunSQL)
def _run(operations: Operations, operation: RunSQL) -> None:
    operations.execute(operation.forward)


@renderers.dispatch_for(RunSQL)
def _render(_context: AutogenContext, operation: RunSQL) -> str:
    return f'op.execute(\n    """\n{indent(operation.forward.strip(), "    ")}\n    """\n)'


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def compare_triggers(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: Any) -> None:
    """Add what makes the database's triggers agree with the models."""
    connection, metadata = context.connection, context.metadata
    if connection is None or metadata is None:
        return
    for trigger in ROW_TRIGGERS:
        function = {"function": f"public.{trigger.function}"}
        wanted = {(table, generated_columns(metadata.tables[table])) for table in trigger.tables(metadata)}  # type: ignore[arg-type, union-attr]
        existing = {(table, argument) for table, argument in connection.execute(_EXISTING_TRIGGERS, function)}
        if wanted and not connection.scalar(_EXISTING_FUNCTION, function):
            upgrade_ops.ops.append(RunSQL(trigger.create_function(), trigger.drop_function()))
        upgrade_ops.ops += [
            RunSQL(trigger.create_trigger(*item), trigger.drop_trigger(item[0])) for item in sorted(wanted - existing)
        ]
        # Dropped before their tables are, and on the way back made after them.
        upgrade_ops.ops[:0] = [
            RunSQL(trigger.drop_trigger(item[0]), trigger.create_trigger(*item)) for item in sorted(existing - wanted)
        ]


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def compare_extension(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: Any) -> None:
    """Add the extension that searched models need, in front of their indexes."""
    if context.connection is None or not isinstance(context.metadata, MetaData):
        return
    wanted = needs_extension(context.metadata)
    existing = context.connection.scalar(_EXISTING_EXTENSION, {"name": TRIGRAMS})
    if wanted and not existing:
        upgrade_ops.ops.insert(0, RunSQL(CREATE_EXTENSION, DROP_EXTENSION))
