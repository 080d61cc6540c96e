"""API keys: made once, shown once, and looked up at most once a minute by each process.

A key has the roles that its user has now, and of what they allow only what its scopes name. What a process remembers of
a key is checked by the database in each request: it is wrong as soon as the key, its user or their roles have changed.
"""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select, update

from api.core.database.mixins import now
from api.core.errors import ConflictError, InvalidError, NotFoundError, UnauthorizedError, Violation, invalid_field
from api.resources.auth.models import APIKey
from api.resources.users.models import User
from api.resources.users.service import role_names, roles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy.orm import Session

MARK = "bk_"
"""What every key begins with, so that people and secret scanners know one when they see it."""
REMEMBERED_FOR = 60.0
"""Seconds, and so the precision of `last_used_at`."""
CACHE_SIZE = 4096
UNKNOWN = "The API key is not valid (any more)."
ACCESS = ("read", "write")
_PREFIX_BYTES = 4
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key, and the only sight of what it consists of."""

    row: APIKey
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that holds: whose it is, and what may be done with it."""

    id: uuid.UUID
    user_id: int
    epoch: int
    scopes: frozenset[str]
    roles: frozenset[str]


class APIKeys:
    """The keys of one user."""

    def __init__(self, session: Session, user_id: int) -> None:
        self._session = session
        self._user_id = user_id

    def create(self, data: Mapping[str, Any], *, known_scopes: Collection[str], most: int) -> MadeKey:
        """Make a key with this name, these scopes and, where given, an end.

        Raises:
            InvalidError: for a scope that there is not, or an end that has passed.
            ConflictError: when the user has so many keys already.
        """
        scopes = _checked(data["scopes"], known_scopes)
        expires_at = data.get("expires_at")
        if expires_at is not None and expires_at <= now():
            raise invalid_field("expires_at", "Must be in the future.")
        self._hold_user()
        if len(self.all()) >= most:
            raise ConflictError(f"You have {most} API keys already; delete one that is not needed any more.")
        prefix = MARK + secrets.token_hex(_PREFIX_BYTES)
        key = f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        row = APIKey(
            user_id=self._user_id,
            name=data["name"],
            prefix=prefix,
            hash=_digest(key),
            scopes=scopes,
            expires_at=expires_at,
        )
        self._session.add(row)
        self._session.flush()
        return MadeKey(row, key)

    def all(self) -> Sequence[APIKey]:
        """The keys that have not been revoked, expired ones included, the newest first."""
        statement = select(APIKey).where(*self._own).order_by(APIKey.id.desc())
        return self._session.scalars(statement).all()

    def revoke(self, key_id: uuid.UUID) -> None:
        """Let the key hold no longer.

        Raises:
            NotFoundError: when the user has none with this id.
        """
        revoked = update(APIKey).where(*self._own, APIKey.id == key_id)
        values = {"revoked_at": func.now(), "revoked_because": "deleted"}
        if self._session.scalar(revoked.values(values).returning(APIKey.id)) is None:
            raise NotFoundError(f"You have no API key {key_id}.")

    @property
    def _own(self) -> list[Any]:
        return [APIKey.user_id == self._user_id, APIKey.revoked_at.is_(None)]

    def _hold_user(self) -> None:
        """Keep the user and their roles as they are, until the triggers of what changes them can see the new key."""
        holds = [User.id == self._user_id, User.is_active, User.deleted_at.is_(None)]
        # One key at a time, so that they are counted; those who refer to the user do not wait.
        if self._session.scalar(select(User.id).where(*holds).with_for_update(key_share=True)) is None:
            raise UnauthorizedError
        roles_of(self._session, self._user_id, lock=True)


class KeyRing:
    """What a process remembers of keys, each for `REMEMBERED_FOR` seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: dict[bytes, tuple[float, KnownKey]] = {}
        self._clock = clock

    def find(self, key: str, run: Callable[[Callable[[Session], Any]], Any]) -> KnownKey:
        """What is known of `key`, looked up in a transaction made by `run` where it is not remembered.

        Raises:
            UnauthorizedError: when it does not hold.
        """
        digest = _digest(key)
        until, known = self._known.get(digest, (0.0, None))
        if known is not None and self._clock() < until:
            return known
        found: KnownKey | None = run(lambda session: _used(session, digest))
        if found is None:
            self._known.pop(digest, None)
            raise UnauthorizedError(UNKNOWN)
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[digest] = (self._clock() + REMEMBERED_FOR, found)
        return found

    def forget(self, key: str) -> None:
        """Look `key` up again when it is next used."""
        self._known.pop(_digest(key), None)


def _used(session: Session, digest: bytes) -> KnownKey | None:
    """The key with this hash, noted as used now."""
    holds = [
        APIKey.hash == digest,
        APIKey.revoked_at.is_(None),
        or_(APIKey.expires_at.is_(None), APIKey.expires_at > func.now()),
    ]
    used = update(APIKey).where(*holds).values(last_used_at=func.now())
    columns = (APIKey.id, APIKey.user_id, APIKey.epoch, APIKey.scopes, role_names(APIKey.user_id))
    row = session.execute(used.returning(*columns), execution_options={"synchronize_session": False}).one_or_none()
    if row is None:
        return None
    key_id, user_id, epoch, scopes, roles = row
    return KnownKey(key_id, user_id, epoch, frozenset(scopes), frozenset(roles))


def possible_scopes(resources: Collection[str]) -> list[str]:
    """All scopes that there are, for resources of these names."""
    return [f"{resource}:{access}" for resource in sorted(resources) for access in ACCESS]


def _checked(scopes: Sequence[str], known: Collection[str]) -> list[str]:
    violations = [
        Violation(f"There is no such scope; there is {', '.join(sorted(known))}.", pointer=f"/scopes/{number}")
        for number, scope in enumerate(scopes)
        if scope not in known
    ]
    if violations:
        raise InvalidError(violations=violations)
    return sorted(set(scopes))


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
