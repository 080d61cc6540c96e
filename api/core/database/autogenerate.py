"""`flask db migrate` and `flask db check` for what SQLAlchemy's metadata does not hold: triggers, functions, policies.

The migration gets plain SQL, so that it keeps doing the same when the code changes later.
"""

from __future__ import annotations

import re
from itertools import chain
from textwrap import indent
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateTableOp
from alembic.util import DispatchPriority
from sqlalchemy import MetaData, text

from api.core.database.access import Policy, policies
from api.core.database.search import CREATE_EXTENSION, DROP_EXTENSION, TRIGRAMS, needs_extension
from api.core.database.triggers import FUNCTIONS, TRIGGERS, all_functions, statements_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from sqlalchemy import Connection

    from api.core.database.triggers import Function, Trigger

_FUNCTION = text("SELECT pg_get_functiondef(to_regprocedure(:signature))")
_TRIGGERS_OF = text(
    "SELECT t.tgname, c.relname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
    "WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgfoid = to_regprocedure(:signature) ORDER BY t.tgname"
)
_POLICIES = text(
    "SELECT c.relname, pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p "
    "JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity "
    # Others than ours, of whoever operates the database, are left alone.
    "AND p.polname = c.relname || '_owner' AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' "
    "AND p.polwithcheck IS NULL ORDER BY c.relname"
)
_EXISTING_EXTENSION = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = :name)")


@Operations.register_operation("run_sql")
class RunSQL(MigrateOperation):
    """A statement and the one that undoes it; empty where there is nothing to do."""

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
    if operation.forward:
        operations.execute(operation.forward)


@renderers.dispatch_for(RunSQL)
def _render(_context: AutogenContext, operation: RunSQL) -> str | list[str]:
    if not operation.forward:
        return []
    return f'op.execute(\n    """\n{indent(operation.forward.strip(), "    ")}\n    """\n)'


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def compare_triggers(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: Any) -> None:
    """Add what makes the database's functions and triggers agree with the models."""
    connection, metadata = context.connection, context.metadata
    if connection is None or not isinstance(metadata, MetaData):
        return
    made = [operation.table_name for operation in upgrade_ops.ops if isinstance(operation, CreateTableOp)]
    obsolete, missing = _compared_triggers(connection, metadata)
    functions = [operation for function in _wanted(metadata) for operation in _compared(connection, function)]
    with_tables = [RunSQL(statement, "") for table in made for statement in statements_with(metadata, table)]
    # Dropped before their tables are, and on the way back made after them.
    upgrade_ops.ops[:] = [*obsolete, *upgrade_ops.ops, *functions, *with_tables, *missing]


def _wanted(metadata: MetaData) -> Iterator[Function]:
    """The functions that these models need; the first migration of a trigger brings its function."""
    needed = {*FUNCTIONS, *(trigger.function for trigger in TRIGGERS for _ in trigger.tables(metadata))}
    return (function for function in all_functions() if function in needed)


def _compared(connection: Connection, function: Function) -> Iterator[RunSQL]:
    existing = connection.scalar(_FUNCTION, {"signature": f"public.{function.signature}"})
    if existing is None:
        yield RunSQL(function.create(), function.drop())
    elif _spaced(existing) != _spaced(function.create()):
        yield RunSQL(function.create(), str(existing).strip())


def _compared_triggers(connection: Connection, metadata: MetaData) -> tuple[list[RunSQL], list[RunSQL]]:
    """What takes away triggers that are not wanted, or not like this, and what makes those that are missing."""
    obsolete: list[RunSQL] = []
    missing: list[RunSQL] = []
    for trigger in TRIGGERS:
        wanted = {table.name: table for table in trigger.tables(metadata)}
        existing = _existing(connection, trigger)
        right = {
            table
            for table, (name, definition) in existing.items()
            if table in wanted
            and _plain(definition, name) == _plain(trigger.create(wanted[table]), trigger.name(table))
        }
        obsolete += [
            RunSQL(f"DROP TRIGGER {name} ON {table}", definition)
            for table, (name, definition) in existing.items()
            if table not in right
        ]
        missing += [
            RunSQL(trigger.create(table), trigger.drop(name)) for name, table in wanted.items() if name not in right
        ]
    return obsolete, missing


def _existing(connection: Connection, trigger: Trigger) -> dict[str, tuple[str, str]]:
    """Name and definition of the database's triggers of this kind, by table: one that was renamed keeps them."""
    found = connection.execute(_TRIGGERS_OF, {"signature": f"public.{trigger.function.signature}"})
    return {table: (name, definition) for name, table, definition in found if name.endswith(f"_{trigger.suffix}")}


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def compare_policies(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: Any) -> None:
    """Add what makes the database's row security agree with the models."""
    if context.connection is None or not isinstance(context.metadata, MetaData):
        return
    wanted = {policy.table: policy for policy in policies(context.metadata)}
    existing = {table: Policy(table, condition) for table, condition in context.connection.execute(_POLICIES)}
    right = {
        table
        for table, policy in existing.items()
        if table in wanted and _bare(policy.condition) == _bare(wanted[table].condition)
    }
    obsolete = [_undone(policy) for table, policy in existing.items() if table not in right]
    missing = [_done(policy) for table, policy in wanted.items() if table not in right]
    # Taken off before their tables are dropped, and put on when these have been made.
    upgrade_ops.ops[:] = [*chain(*obsolete), *upgrade_ops.ops, *chain(*missing)]


def _done(policy: Policy) -> list[RunSQL]:
    return [RunSQL(on, off) for on, off in zip(policy.create(), reversed(policy.drop()), strict=True)]


def _undone(policy: Policy) -> list[RunSQL]:
    return [RunSQL(off, on) for off, on in zip(policy.drop(), reversed(policy.create()), strict=True)]


def _bare(condition: str) -> str:
    """A policy's condition without what PostgreSQL adds to what was written."""
    return re.sub(r"[()\s]|\bpublic\.|::text(\[\])?|\bas \"?(nullif|\?column\?)\"?", "", condition.lower())


def _spaced(definition: str) -> str:
    """`definition` with one blank where there is any white space."""
    return re.sub(r"\s+", " ", definition).strip()


def _plain(definition: str, name: str) -> str:
    """A trigger's definition without its name, and without what PostgreSQL adds to what was written."""
    return re.sub(r"[()]|\bpublic\.", "", _spaced(definition)).replace(f"TRIGGER {name} ", "TRIGGER ", 1).lower()


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def compare_extension(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: Any) -> None:
    """Add the extension that searched models need, in front of their indexes."""
    if context.connection is None or not isinstance(context.metadata, MetaData):
        return
    wanted = needs_extension(context.metadata)
    existing = context.connection.scalar(_EXISTING_EXTENSION, {"name": TRIGRAMS})
    if wanted and not existing:
        upgrade_ops.ops.insert(0, RunSQL(CREATE_EXTENSION, DROP_EXTENSION))
