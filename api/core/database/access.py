"""What models declare of access to their tables: whose the rows are, what is secret, what only the database writes.

`__owner__` names the column with the id of the user whose a row is, `__part_of__` the foreign key to a row that has an
owner. From then on a statement finds and writes the rows of the user who is acting only, whatever its conditions, and
those of others where `context.Acting.unrestricted` names the table. Where it is not known who is acting, it finds none.
The role that owns the tables is not restricted. PostgreSQL documentation, 5.9: row security policies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, event, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.orm import Mapper

from api.core.database import context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_OWNER, _PART_OF, _SECRETS = "owner", "part_of", "secrets"
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are not typed
# What nobody has declared, and what is a secret all the same.
_SECRET_NAME = re.compile(r"(.*_)?(hash|secret|token|password)")
_read_only = {"alembic_version"}


@dataclass(frozen=True)
class Policy:
    """The policy of one table, and the condition that a row has to meet, for whatever is done with it."""

    table: str
    condition: str

    @property
    def name(self) -> str:
        """The policy's name."""
        return f"{self.table}_owner"

    def create(self) -> tuple[str, ...]:
        """Hide the rows of others."""
        return (
            f"ALTER TABLE {self.table} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY {self.name} ON {self.table} USING (\n    {self.condition}\n)",
        )

    def drop(self) -> tuple[str, ...]:
        """Undo `create`."""
        return (f"DROP POLICY {self.name} ON {self.table}", f"ALTER TABLE {self.table} DISABLE ROW LEVEL SECURITY")


def policies(metadata: MetaData) -> Iterator[Policy]:
    """The policies of all tables whose rows have owners."""
    declared = {**metadata.info.get(_OWNER, {}), **metadata.info.get(_PART_OF, {})}
    for name in sorted(declared):
        if name in metadata.tables:
            yield Policy(name, f"{_everything(_root(metadata, name))}\n    OR {_owned(metadata, name)}")


def is_secret(metadata: MetaData, table: str, column: str) -> bool:
    """Whether nobody is to read the column but the application."""
    return column in metadata.info.get(_SECRETS, {}).get(table, ()) or _SECRET_NAME.fullmatch(column) is not None


def read_only_tables() -> frozenset[str]:
    """The tables that the API only reads."""
    return frozenset(_read_only)


def written_by_database(table: str) -> None:
    """Let nobody write `table` but triggers, and the role that owns it."""
    _read_only.add(table)


def _everything(root: str) -> str:
    """Whether all rows may be touched: asked once for each statement, and not of each row."""
    setting = f"current_setting('{context.UNRESTRICTED}', true)"
    return f"(SELECT string_to_array({setting}, ',') && '{{{context.EVERYTHING},{root}}}'::text[])"


def _owned(metadata: MetaData, name: str) -> str:
    """Whether the row is the acting user's."""
    table = metadata.tables[name]
    owner = metadata.info.get(_OWNER, {}).get(name)
    if owner is not None:
        return _is_mine(table, owner, "")
    foreign_key = metadata.info[_PART_OF][name]
    (reference,) = table.c[foreign_key].foreign_keys
    parent = reference.column.table
    if metadata.info.get(_OWNER, {}).get(parent.name) == reference.column.name:
        return _is_mine(table, foreign_key, "")
    mine = _is_mine(parent, metadata.info[_OWNER][parent.name], "whole.")
    return (
        f"EXISTS (SELECT FROM {parent.name} whole\n"
        f"        WHERE whole.{reference.column.name} = {name}.{foreign_key} AND {mine})"
    )


def _is_mine(table: Table, column: str, alias: str) -> str:
    type_ = table.c[column].type.compile(_DIALECT).lower()
    return f"{alias}{column} = (SELECT nullif(current_setting('{context.USER_ID}', true), '')::{type_})"


def _root(metadata: MetaData, name: str) -> str:
    """The table that says who sees all rows: of parts, that of what they are parts of."""
    part_of = metadata.info.get(_PART_OF, {}).get(name)
    if part_of is None:
        return name
    (reference,) = metadata.tables[name].c[part_of].foreign_keys
    return str(reference.column.table.name)


@event.listens_for(Mapper, "instrument_class")
def _note(mapper: Mapper[Any], model: type) -> None:
    table = mapper.local_table
    if not isinstance(table, Table):
        return
    for kind, attribute in ((_OWNER, "__owner__"), (_PART_OF, "__part_of__")):
        column = vars(model).get(attribute)
        if column is None:
            continue
        if column not in table.columns or (kind == _PART_OF and len(table.c[column].foreign_keys) != 1):
            what = "foreign key" if kind == _PART_OF else "column"
            raise ValueError(f"{model.__name__}.{attribute}: {column!r} is no {what} of {table.name}")
        # Not in the table's own info, which autogenerate would write into the migration.
        table.metadata.info.setdefault(kind, {})[table.name] = column
        (reference,) = table.c[column].foreign_keys if kind == _PART_OF else (None,)
        # The other table may not be known yet.
        whole = reference.target_fullname.partition(".")[0] if reference is not None else table.name
        context.secure(table.name, whole)
    secrets = getattr(model, "__unrecorded__", ())
    table.metadata.info.setdefault(_SECRETS, {})[table.name] = tuple(secrets)


@event.listens_for(Table, "after_create")
def _create_policy(table: Table, connection: Connection, **_: Any) -> None:
    """`create_all()` makes the policies that a migration would make."""
    if connection.dialect.name == "postgresql":
        for policy in policies(table.metadata):
            if policy.table == table.name:
                for statement in policy.create():
                    connection.execute(text(statement))
