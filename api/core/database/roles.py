"""The roles of the database: one owns the tables and migrates them, one serves the API, one reads for reports.

`provision()` makes the roles, `grant()` gives them what they need and takes away the rest. The second is run with each
migration, so that new tables are served without another step. Both may be repeated at any time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2.extensions import encrypt_password
from sqlalchemy import MetaData, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from api.core.database.access import is_secret, read_only_tables
from api.core.database.connection import ALL_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,53}", re.ASCII)
_LOCK = 5_243_181_428
"""Any number that nothing else in this database takes an advisory lock on, other than that of migrations."""
_GROUPED_SETTABLE = 160_000
"""From PostgreSQL 16 on, a membership says itself whether it inherits."""

_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
    "AND NOT relispartition AND pg_has_role(relowner, 'USAGE') "
    # Not those of an extension.
    "AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid "
    "AND deptype = 'e') ORDER BY relname"
)
# What runs as its owner. A trigger fires without this right; to put it on a table of one's own takes it, and would run
# one's own casts and functions as the owner.
_FUNCTIONS = text(
    "SELECT oid::regprocedure::text, prorettype = 'trigger'::regtype FROM pg_proc "
    "WHERE pronamespace = 'public'::regnamespace AND (prosecdef OR prorettype = 'trigger'::regtype) "
    "AND pg_has_role(proowner, 'USAGE') "
    "AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid "
    "AND deptype = 'e')"
)
_READER = "_reader"
_OPENED = text(
    "SELECT relname, relrowsecurity, ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = pg_class.oid) "
    "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
    "AND pg_has_role(relowner, 'USAGE') AND (relrowsecurity OR EXISTS (SELECT FROM pg_policy "
    "WHERE polrelid = pg_class.oid AND polname IN (SELECT relname || suffix FROM unnest(:suffixes) suffix)))"
)
_IS_PROVISIONED = text(
    "SELECT count(*) = cardinality(:names) "
    "AND NOT has_database_privilege('public', current_database(), 'TEMPORARY') "
    "FROM pg_roles WHERE rolname = ANY(:names)"
)
_COLUMNS = text(
    "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = to_regclass(:table) "
    "AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


@dataclass(frozen=True)
class Roles:
    """The names of the roles that do not own the tables."""

    api: str = "backend_api"
    reader: str = "backend_reader"

    def __post_init__(self) -> None:
        """Refuse names that would have to be quoted.

        Raises:
            ValueError: naming what is valid.
        """
        for name in (self.api, self.reader):
            if not _NAME.fullmatch(name) or name.startswith("pg_"):
                raise ValueError(
                    f"{name!r} is no name for a role; use up to 54 letters a-z, digits and _, not beginning with pg_"
                )

    @property
    def all_rows(self) -> str:
        """The role that the API becomes for statements that row security would not narrow."""
        return f"{self.api}{ALL_ROWS}"


def provision(connection: Connection, roles: Roles, passwords: dict[str, str]) -> list[str]:
    """Make the roles or bring them up to date, with `passwords` by role, and tell the names of the new ones.

    The user of `connection` owns the database, and may make roles; a superuser it need not be. Passwords are sent as
    SCRAM verifiers, so that no log of the server can hold them. The caller's transaction commits.

    Raises:
        LookupError: when a role would be made that has no password to log in with.
        ProgrammingError: when the connection's user may not do this.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    existing = {*connection.scalars(text("SELECT rolname FROM pg_roles"))}
    made = [name for name in (roles.api, roles.all_rows, roles.reader) if name not in existing]
    if nameless := [name for name in (roles.api, roles.reader) if name in made and not passwords.get(name)]:
        raise LookupError(f"there is no password for the new role {nameless[0]}")
    for name in made:
        connection.exec_driver_sql(f"CREATE ROLE {name} {'NOLOGIN' if name == roles.all_rows else 'LOGIN'}")
    for name, password in passwords.items():
        _set_password(connection, name, password)
    for statement in _settings(connection, roles):
        connection.exec_driver_sql(statement)
    # Not every server lets its admin do this; then policies do the same for all but COPY FROM.
    with suppress(ProgrammingError), connection.begin_nested():
        connection.exec_driver_sql(f"ALTER ROLE {roles.all_rows} BYPASSRLS")
    return made


def _set_password(connection: Connection, name: str, password: str) -> None:
    driver: Any = connection.connection.driver_connection
    verifier = encrypt_password(password, name, driver, "scram-sha-256")
    connection.exec_driver_sql(f"ALTER ROLE {name} PASSWORD '{verifier}'")


def _settings(connection: Connection, roles: Roles) -> Iterator[str]:
    database = connection.scalar(text("SELECT quote_ident(current_database())"))
    yield f"ALTER ROLE {roles.api} NOINHERIT"
    yield f"ALTER ROLE {roles.reader} SET default_transaction_read_only = on"
    yield _membership(connection, roles)
    yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"
    yield f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {roles.api}, {roles.all_rows}"
    yield f"GRANT CONNECT ON DATABASE {database} TO {roles.reader}"
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"


def _membership(connection: Connection, roles: Roles) -> str:
    """The API's role becomes the other one where it says so, and has nothing of it otherwise."""
    driver: Any = connection.connection.driver_connection
    explicitly = " WITH INHERIT FALSE" if driver.server_version >= _GROUPED_SETTABLE else ""
    return f"GRANT {roles.all_rows} TO {roles.api}{explicitly}"


def grant(connection: Connection, roles: Roles, metadata: MetaData) -> bool:
    """Give the roles access to the tables that there are, and to nothing else; False where there are no roles.

    The API reads and writes rows, of tables that only the database writes it reads them. The reader reads, but no
    column that holds a secret. Partitions are reached by their table alone, and what runs as the owner by the tables
    whose trigger it is.
    """
    wanted = [roles.api, roles.all_rows, roles.reader]
    if connection.scalar(text("SELECT session_user")) in wanted:
        # A migration that is written, and not run, by the API's role.
        return False
    found = connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = ANY(:names)"), {"names": wanted})
    if found != len(wanted):
        return False
    writers = f"{roles.api}, {roles.all_rows}"
    everybody = ", ".join(wanted)
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {everybody}")
    read_only = read_only_tables()
    for table in connection.scalars(_TABLES).all():
        quoted = f'public."{table}"'
        privileges = "SELECT" if table in read_only else "SELECT, INSERT, UPDATE, DELETE"
        connection.exec_driver_sql(f"REVOKE ALL ON {quoted} FROM {everybody}")
        connection.exec_driver_sql(f"GRANT {privileges} ON {quoted} TO {writers}")
        connection.exec_driver_sql(
            f"GRANT SELECT {_public_columns(connection, metadata, table)}ON {quoted} TO {roles.reader}"
        )
    connection.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {writers}")
    for function, is_trigger in connection.execute(_FUNCTIONS).all():
        connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC, {everybody}")
        if not is_trigger:
            connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {function} TO {writers}")
    _open_rows(connection, roles)
    return True


def _open_rows(connection: Connection, roles: Roles) -> None:
    """Hide no rows from the reader, nor from the role that the API becomes for that.

    By policies, as not every server lets its admin exempt a role from row security altogether.
    """
    for table, is_secured, existing in connection.execute(_OPENED, {"suffixes": [ALL_ROWS, _READER]}).all():
        for suffix, whom in ((ALL_ROWS, f"TO {roles.all_rows}"), (_READER, f"FOR SELECT TO {roles.reader}")):
            name = f"{table}{suffix}"
            if is_secured and name not in existing:
                connection.exec_driver_sql(f"CREATE POLICY {name} ON {table} {whom} USING (true)")
            elif not is_secured and name in existing:
                connection.exec_driver_sql(f"DROP POLICY {name} ON {table}")


def _public_columns(connection: Connection, metadata: MetaData, table: str) -> str:
    """The list of the columns that hold no secret; nothing where none does."""
    columns = connection.scalars(_COLUMNS, {"table": f'public."{table}"'}).all()
    shown = [column for column in columns if not is_secret(metadata, table, column.strip('"'))]
    return "" if len(shown) == len(columns) else f"({', '.join(shown)}) "


def url_as(url: str, role: str) -> str:
    """`url` for a role that `provision_own` has made: with its name, and a password that follows from the owner's."""
    owner = make_url(url)
    digest = hmac.digest((owner.password or "").encode(), role.encode(), hashlib.sha256)
    return owner.set(username=role, password=base64.urlsafe_b64encode(digest).decode().rstrip("=")).render_as_string(
        hide_password=False
    )


def provision_own(url: str, roles: Roles) -> None:
    """Make the roles of a server of our own, unless they are there; nobody has to think of passwords for them."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if not connection.scalar(_IS_PROVISIONED, {"names": [roles.api, roles.all_rows, roles.reader]}):
            passwords = {role: make_url(url_as(url, role)).password or "" for role in (roles.api, roles.reader)}
            provision(connection, roles, passwords)
