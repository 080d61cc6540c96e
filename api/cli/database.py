"""`flask database`: the roles that the database is used by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from api.core.database.roles import grant, provision
from api.extensions import db

if TYPE_CHECKING:
    from api.config import Settings


@click.group("database")
def command() -> None:
    """Look after the roles that the database is used by."""


@command.command("provision")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@with_appcontext
def provision_command(*, as_json: bool) -> None:
    """Make the roles of the API and of reports, and give them what they need.

    Connects as DATABASE_MIGRATION_URL says, as a role that owns the database and may make roles. The new roles are
    named by API_DB_USER and READER_DB_USER and log in with API_DB_PASSWORD and READER_DB_PASSWORD. It may be run again
    at any time, and then sets passwords that have changed.
    """
    settings: Settings = current_app.extensions["settings"]
    roles = db.roles
    owner = db.owner_engine.url.username
    if owner in {roles.api, roles.reader}:
        raise click.ClickException(
            f"DATABASE_MIGRATION_URL has to name the role that owns the database; {owner} is to own nothing."
        )
    passwords = {roles.api: settings.api_db_password, roles.reader: settings.reader_db_password}
    try:
        with db.owner_engine.begin() as connection:
            made = provision(connection, roles, {name: value for name, value in passwords.items() if value})
            grant(connection, roles, db.metadata)
    except LookupError as error:
        raise click.ClickException(f"{error.args[0]}; set API_DB_PASSWORD and READER_DB_PASSWORD.") from error
    except SQLAlchemyError as error:
        raise click.ClickException(str(getattr(error, "orig", None) or error).strip()) from error
    if as_json:
        click.echo(json.dumps({"api": roles.api, "reader": roles.reader, "made": made}, indent=2))
        return
    click.echo(f"Made {', '.join(made)}." if made else "All roles are there; their rights have been renewed.")
