"""How `flask db …` runs: as the role that owns the tables, under one lock, with timeouts that spare the service."""

import logging
import time
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import api.core.database.autogenerate  # noqa: F401 - teaches autogenerate our triggers
from api.core.database.roles import grant
from api.core.database.types import UTCDateTime

# Any number that nothing else in this database takes an advisory lock on.
MIGRATION_LOCK = 5_243_181_427
# A migration that waits for a lock makes everybody queue up behind it; better that it gives up and is run again.
# Between two statements of a data migration, though, Python may be busy.
TIMEOUTS = "SET lock_timeout = '5s'; SET statement_timeout = '1h'; SET idle_in_transaction_session_timeout = 0"
RESET_TIMEOUTS = "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout"
LOCK_POLL_INTERVAL = 0.5
partitions: set[str] = set()

config = context.config
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)

database = current_app.extensions["migrate"].db
metadata = database.metadata


def skip_empty_revision(_context, _revision, directives) -> None:
    """`flask db migrate` without a change of the models writes no file."""
    if getattr(config.cmd_opts, "autogenerate", False) and directives[0].upgrade_ops.is_empty():
        directives[:] = []
        print("The models and the database agree: nothing to migrate.")


def include_name(name, kind, _parents) -> bool:
    """Leave partitions to whoever makes them: the models know the table as a whole."""
    return kind != "table" or name not in partitions


def render_item(kind, item, autogen_context):
    """Write our column types as the plain types they are, so that a migration does not depend on code that may move."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.JSON):
        autogen_context.imports.add("from sqlalchemy.dialects import postgresql")
        return "postgresql.JSONB()"
    return False


def run_migrations_offline() -> None:
    """Print the SQL instead of running it (`--sql`)."""
    context.configure(url=database.owner_engine.url, target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        for timeout in TIMEOUTS.split("; "):
            context.execute(timeout)
        context.run_migrations()


def run_migrations_online() -> None:
    """Run the migrations in one transaction; a second process waits until the first has finished."""
    options = {
        **current_app.extensions["migrate"].configure_args,
        "process_revision_directives": skip_empty_revision,
        "render_item": render_item,
        "include_name": include_name,
        # CHECK constraints are compared, too, by their names.
        "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
    }
    with only_process(), database.owner_engine.connect() as connection:
        partitions.update(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))
        connection.execute(text(TIMEOUTS))
        connection.commit()
        try:
            context.configure(connection=connection, target_metadata=metadata, **options)
            with context.begin_transaction():
                context.run_migrations()
                # New tables are served, and read for reports, without another step.
                grant(connection, database.roles, metadata)
        finally:
            connection.rollback()
            connection.execute(text(RESET_TIMEOUTS))
            connection.commit()


@contextmanager
def only_process():
    """Keep other processes from migrating this database meanwhile.

    The lock is polled for, in no transaction: a statement that waited in the server for the lock would hold a snapshot,
    and CREATE INDEX CONCURRENTLY in the other process would wait for that.
    """
    # Apart from the pool, which may have room for one connection only.
    engine = sa.create_engine(database.owner_engine.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with connected(engine) as connection:
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
            time.sleep(LOCK_POLL_INTERVAL)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})


def connected(engine):
    """A connection, or one line that says why there is none."""
    try:
        return engine.connect()
    except OperationalError as error:
        raise CommandError(f"The database does not answer: {str(error.orig).strip()}") from error


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
