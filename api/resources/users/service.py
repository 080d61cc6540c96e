"""Rules of users: passwords are kept as argon2id hashes, a profile is written along with its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from sqlalchemy import select

from api.core.resource.service import Service
from api.resources.users.models import Profile, User

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASHER = PasswordHasher()


class UserService(Service[User]):
    """Create and change users."""

    saves_together = True

    def prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the password by its hash and the profile by a row."""
        values = super().prepared(data)
        if "password" in values:
            values["password_hash"] = _HASHER.hash(values.pop("password"))
        return values

    def create(self, data: Mapping[str, Any]) -> User:
        """Insert a user, with a profile where `data` has one."""
        values = {**data}
        profile = values.pop("profile", None)
        if profile is not None:
            values["profile"] = Profile(**profile)
        return super().create(values)

    def update(self, row: User, data: Mapping[str, Any]) -> User:
        """Change a user; the given fields of a profile are merged into it, null removes it."""
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
