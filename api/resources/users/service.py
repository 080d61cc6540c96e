"""Rules of users: passwords are kept as argon2id hashes, a profile is written along with its user."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from api.core.access import password_rules
from api.core.access.passwords import PASSWORDS
from api.core.errors import InvalidError, Violation
from api.core.resource.service import Service
from api.resources.roles.models import Role
from api.resources.users.models import Profile, User, user_roles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Row, ScalarSelect, Select
    from sqlalchemy.orm import Session


class UserService(Service[User]):
    """Create and change users."""

    saves_together = True

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the password by its hash, and write names in one way: who looks for them types them in another."""
        values = super().prepared(data)
        values |= {name: unicodedata.normalize("NFC", values[name]) for name in ("username", "email") if name in values}
        if "password" in values:
            values["password_hash"] = PASSWORDS.hash(values.pop("password"))
        return values

    def create(self, data: Mapping[str, Any]) -> User:
        """Insert a user, with a profile where `data` has one."""
        check_password(data, data.get("username"), data.get("email"))
        values = {**data}
        profile = values.pop("profile", None)
        if profile is not None:
            values["profile"] = Profile(**profile)
        return super().create(values)

    def update(self, row: User, data: Mapping[str, Any]) -> User:
        """Change a user; the given fields of a profile are merged into it, null removes it."""
        check_password(data, data.get("username", row.username), data.get("email", row.email))
        values = {**data}
        if "profile" in values:
            self._change_profile(row, values.pop("profile"))
        return super().update(row, values)

    def _change_profile(self, user: User, values: Mapping[str, Any] | None) -> None:
        profile = self.session.scalars(select(Profile).where(Profile.user_id == user.id)).one_or_none()
        if values is None:
            if profile is not None:
                self.session.delete(profile)
                self.touch(user)
            return
        if profile is None:
            profile = Profile(user_id=user.id)
            self.session.add(profile)
        for name, value in values.items():
            setattr(profile, name, value)
        if self.session.is_modified(profile):
            self.touch(user)


def check_password(data: Mapping[str, Any], *names: str | None, field: str = "password") -> None:
    """Look at the new password in this field of `data`, where there is one, of somebody with these names.

    Raises:
        InvalidError: when it is too easy to guess.
    """
    if field not in data:
        return
    violations = [Violation(detail, pointer=f"/{field}") for detail in password_rules.problems(data[field], names)]
    if violations:
        raise InvalidError(violations=violations)


def roles_of(session: Session, user_id: int, *, lock: bool = False) -> frozenset[str]:
    """Names of the roles that the user holds; with `lock`, none of them is taken away before the transaction ends."""
    statement = _held_roles(user_id)
    if lock:
        statement = statement.with_for_update(read=True, of=(Role.__table__, user_roles))
    return frozenset(session.scalars(statement))


def role_names(user_id: Any) -> ScalarSelect[Any]:
    """SQL: an array of the names of the roles that the user with this key holds."""
    return select(func.array(_held_roles(user_id).order_by(Role.name).scalar_subquery())).scalar_subquery()


def _held_roles(user_id: Any) -> Select[tuple[str]]:
    """Names in lower case: there are no two roles whose names differ in nothing else."""
    return (
        select(func.lower(Role.name))
        .join(user_roles, user_roles.c.role_id == Role.id)
        .where(user_roles.c.user_id == user_id, Role.deleted_at.is_(None))
    )


def account(connection: Connection, user_id: int) -> Row[Any] | None:
    """A user's own account with the names of its roles, in one statement; None where it is deleted."""
    columns = (User.id, User.username, User.email, User.created_at, role_names(user_id).label("roles"))
    statement = select(*columns).where(User.id == user_id, User.deleted_at.is_(None))
    return connection.execute(statement).one_or_none()
