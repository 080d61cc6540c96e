"""`flask users`: the first admin, roles, and an end to somebody's sessions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import click
from flask.cli import with_appcontext
from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import selectinload

from api.core.errors import APIError
from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession
from api.resources.roles.models import Role
from api.resources.users.models import User
from api.resources.users.service import UserService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

R = TypeVar("R")

ADMIN = "admin"
_REASON = "revoked by command"


@click.group("users")
def command() -> None:
    """Run accounts from here: make the first admin, give roles, end sessions."""


@command.command("create-admin")
@click.option("--username", prompt=True, help="What the admin logs in with.")
@click.option("--email", prompt=True, help="The admin's e-mail address.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@with_appcontext
def create_admin(username: str, email: str, *, password_stdin: bool) -> None:
    """Make an account with the role admin, which may do everything.

    The password is asked for, so that it is in no shell's history and no list of processes.
    """
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else _asked()

    def create(session: Session) -> None:
        user = UserService(User, session).create({"username": username, "email": email, "password": password})
        user.roles = [_role(session, ADMIN) or Role(name=ADMIN, description="May do everything.")]
        session.flush()

    _run(create)
    click.echo(f"{username} is an admin now; log in with POST /api/v1/auth/login.")


@command.command("set-roles")
@click.argument("name")
@click.argument("roles", nargs=-1)
@with_appcontext
def set_roles(name: str, roles: Sequence[str]) -> None:
    """Give the user with this username or e-mail address these roles and no others; none, without any.

    Access tokens with other roles do not hold any more; those that follow have the new ones.
    """

    def change(session: Session) -> None:
        user = _user(session, name)
        user.roles = [_known_role(session, role) for role in roles]
        session.flush()

    _run(change)
    click.echo(f"{name} has {', '.join(roles) if roles else 'no role'}.")


@command.command("revoke")
@click.argument("name")
@with_appcontext
def revoke(name: str) -> None:
    """End all sessions and all API keys of the user with this username or e-mail address."""

    def end(session: Session) -> list[int]:
        user_id = _user(session, name).id
        values = {"revoked_at": func.now(), "revoked_because": _REASON}
        return [
            len(session.scalars(ended.values(values).returning(table.id)).all())
            for table in (AuthSession, APIKey)
            for ended in [update(table).where(table.user_id == user_id, table.revoked_at.is_(None))]
        ]

    sessions, keys = _run(end)
    click.echo(f"{sessions} sessions and {keys} API keys of {name} have ended.")


def _asked() -> str:
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _run(function: Callable[[Session], R]) -> R:
    try:
        return db.retrying(function)
    except APIError as error:
        raise click.ClickException(_told(error)) from error
    except SQLAlchemyError as error:
        raise click.ClickException(str(error)) from error


def _told(error: APIError) -> str:
    """Each thing that is wrong, with the name of the option that it is about."""
    found = [f"{(item.pointer or '').lstrip('/')}: {item.detail}".removeprefix(": ") for item in error.violations]
    return "; ".join(found) or error.detail


def _user(session: Session, name: str) -> User:
    matches = or_(func.lower(User.username) == func.lower(name), func.lower(User.email) == func.lower(name))
    statement = select(User).where(matches).options(selectinload(User.roles)).with_for_update(of=User)
    users = session.scalars(statement).all()
    if len(users) != 1:
        raise click.ClickException(f"There is {'more than one' if users else 'no'} user {name!r}.")
    return users[0]


def _role(session: Session, name: str) -> Role | None:
    statement = select(Role).where(func.lower(Role.name) == func.lower(name))
    return session.execute(statement).scalar_one_or_none()


def _known_role(session: Session, name: str) -> Role:
    role = _role(session, name)
    if role is None:
        known = ", ".join(session.scalars(select(Role.name).order_by(Role.name)))
        raise click.ClickException(f"There is no role {name!r}; there is {known or 'none'}.")
    return role
