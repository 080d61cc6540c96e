"""Logging in and out: sessions, the tokens that they hand out, and what a user does to the own account.

A session is a family of refresh tokens, each of which is used once. One that is used a second time has been stolen, or
its successor has: nobody can tell who is who, so the session ends (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import logging
import secrets
import unicodedata
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, text, update

from api.core.access.passwords import PASSWORDS
from api.core.access.tokens import Grant
from api.core.database import attempts
from api.core.database.attempts import Limit
from api.core.database.context import acting_as_service
from api.core.database.credentials import KEPT
from api.core.database.mixins import now
from api.core.errors import ConflictError, UnauthorizedError, invalid_field
from api.resources.auth.models import ADDRESS_LENGTH, USER_AGENT_LENGTH, AuthSession, RefreshToken
from api.resources.users.models import User
from api.resources.users.service import UserService, check_password, roles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from api.core.access.tokens import TokenCodec

WRONG = "The name or the password is wrong."
NOT_REFRESHED = "The refresh token is not valid any more; log in again."
TAKEN = "This username or e-mail address is taken."
SHOWN_MAX = 100
_logger = logging.getLogger(__name__)
_TOKEN_BYTES = 32
_KEEP = text("SELECT set_config(:name, :kept, true)")


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a session lives, and how often what may be tried; times in seconds."""

    session_ttl: int
    window: int
    per_account: int
    per_address: int
    registrations_per_address: int


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from, as it says; `network` is what is counted as one address."""

    address: str | None
    network: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login or a refresh hands out."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Account:
    user_id: int
    username: str
    email: str
    password_hash: str | None = field(repr=False)
    is_active: bool


class Accounts:
    """What can be done without being known yet, and with one's own account.

    Each method makes the transactions that it needs, with `run`: what has been tried is counted even where it fails,
    and no connection waits while a password is hashed.
    """

    def __init__(self, run: Callable[[Callable[[Session], Any]], Any], codec: TokenCodec, rules: Rules) -> None:
        self._run_as_caller = run
        self._codec = codec
        self._rules = rules

    # -- without being known ------------------------------------------------------------------------------------------

    def register(self, data: Mapping[str, Any], client: Client) -> User:
        """A new account.

        Raises:
            TooManyRequestsError: for one of too many from this address.
            InvalidError: for a password that is easy to guess.
            ConflictError: when a name is taken, without telling which.
        """
        check_password(data, data["username"], data["email"])
        self._count(Limit("register", client.network, self._rules.registrations_per_address, self._rules.window))
        try:
            user: User = self._run(lambda session: UserService(User, session).create(data))
        except ConflictError as error:
            raise ConflictError(TAKEN) from error
        return user

    def login(self, kind: str, name: str, password: str, client: Client) -> Tokens:
        """Begin a session of the account whose `kind`, "username" or "email", is `name`.

        Raises:
            UnauthorizedError: in the same words, and after the same work, whatever is wrong.
            TooManyRequestsError: for one of too many attempts.
        """
        of_account = Limit(f"login {kind}", _folded(name), self._rules.per_account, self._rules.window)
        of_address = Limit("login address", client.network, self._rules.per_address, self._rules.window)
        self._count(of_account, of_address)
        account: _Account | None = self._run(lambda session: _account_named(session, kind, name))
        # By either of its names; for a name that is nobody's, the same is done.
        subject = f"{kind} {_folded(name)}" if account is None else str(account.user_id)
        of_owner = Limit("login owner", subject, self._rules.per_account, self._rules.window)
        self._count(of_owner)
        matches = PASSWORDS.verify(account.password_hash if account else None, password)
        if account is None or not matches or not account.is_active:
            raise UnauthorizedError(WRONG)
        renewed = self._renewed(account, password)

        def begin(session: Session) -> Tokens | None:
            if not _hold(session, account, renewed):
                return None
            attempts.forget(session, of_account)
            attempts.forget(session, of_owner)
            attempts.take_back(session, of_address)
            return self._begin_session(session, account.user_id, client)

        tokens: Tokens | None = self._run(begin)
        if tokens is None:
            # The account has changed since it was looked up.
            raise UnauthorizedError(WRONG)
        return tokens

    def refresh(self, token: str) -> Tokens:
        """The next tokens of the session that `token` is the newest one of.

        Raises:
            UnauthorizedError: for any other token; one that has been used before ends its session.
        """
        tokens: Tokens | None = self._run(lambda session: self._refresh(session, token))
        if tokens is None:
            raise UnauthorizedError(NOT_REFRESHED)
        return tokens

    # -- one's own account --------------------------------------------------------------------------------------------

    def change_password(self, user_id: int, current: str, new: str, session_id: uuid.UUID | None) -> None:
        """Give the account another password, and end all its sessions but this one.

        Raises:
            InvalidError: when the current one is wrong, or the new one is easy to guess or the same.
            TooManyRequestsError: for one of too many attempts.
        """
        account = self._proven(user_id, current, "current_password")
        check_password({"new_password": new}, account.username, account.email, field="new_password")
        if new == current:
            raise invalid_field("new_password", "Must differ from the current one.")
        new_hash = PASSWORDS.hash(new)

        def change(session: Session) -> bool:
            _keep(session, str(session_id))
            return _replace_hash(session, account, new_hash)

        if not self._run(change):
            raise ConflictError("The account has been changed meanwhile; please try again.")

    def rename(self, user_id: int, password: str, names: Mapping[str, str]) -> User:
        """Give the account another `username` or `email`.

        Raises:
            InvalidError: when the password is wrong.
            ConflictError: when a name is taken, without telling which.
            TooManyRequestsError: for one of too many attempts, whether they tell that a name is taken or not.
        """
        self._proven(user_id, password, "current_password")
        self._count(Limit("rename", str(user_id), self._rules.registrations_per_address, self._rules.window))

        def change(session: Session) -> User:
            return UserService(User, session).update(session.get_one(User, user_id, with_for_update=True), names)

        try:
            user: User = self._run(change)
        except ConflictError as error:
            raise ConflictError(TAKEN) from error
        return user

    def deactivate(self, user_id: int, password: str) -> None:
        """Close the account, which ends its sessions and its keys; raises as `change_password` does."""
        self._proven(user_id, password, "password")
        self._run(
            lambda session: UserService(User, session).update(
                session.get_one(User, user_id, with_for_update=True), {"is_active": False}
            )
        )

    def sessions(self, user_id: int) -> Sequence[AuthSession]:
        """The sessions of the user that have not ended, the newest first, as many as anybody has."""
        live = [AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > func.now()]
        statement = select(AuthSession).where(*live).order_by(AuthSession.id.desc()).limit(SHOWN_MAX)
        found: Sequence[AuthSession] = self._run(lambda session: session.scalars(statement).all())
        return found

    def end(self, user_id: int, session_id: uuid.UUID | None = None) -> int:
        """End this session of the user, or all of them; the number of those that have ended."""
        conditions = [AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None)]
        if session_id is not None:
            conditions.append(AuthSession.id == session_id)
        ended: int = self._run(lambda session: _end(session, conditions, "logged out"))
        return ended

    # -- steps --------------------------------------------------------------------------------------------------------

    def _run(self, function: Callable[[Session], Any]) -> Any:
        """Run `function` in a transaction of the service's own: who logs in may see nothing yet."""
        with acting_as_service():
            return self._run_as_caller(function)

    def _count(self, *limits: Limit) -> None:
        refusal = self._run(lambda session: attempts.count(session, limits))
        if refusal is not None:
            raise refusal

    def _proven(self, user_id: int, password: str, field: str) -> _Account:
        """The user's account, whose password this is; guesses count, as a token may have been stolen."""
        limit = Limit("password", str(user_id), self._rules.per_account, self._rules.window)
        self._count(limit)
        account: _Account | None = self._run(lambda session: _account(session, User.id == user_id))
        if account is None or not PASSWORDS.verify(account.password_hash, password):
            raise invalid_field(field, "This is not your password.")
        self._run(lambda session: attempts.forget(session, limit))
        return account

    def _renewed(self, account: _Account, password: str) -> str | None:
        """A hash of the same password by today's parameters, where the stored one was made by others."""
        outdated = account.password_hash is not None and PASSWORDS.is_outdated(account.password_hash)
        return PASSWORDS.hash(password) if outdated else None

    def _begin_session(self, session: Session, user_id: int, client: Client) -> Tokens:
        begun = AuthSession(
            user_id=user_id,
            expires_at=now() + timedelta(seconds=self._rules.session_ttl),
            user_agent=client.user_agent[:USER_AGENT_LENGTH] or None,
            address=(client.address or "")[:ADDRESS_LENGTH] or None,
        )
        session.add(begun)
        session.flush()
        # Locked: a role that is being taken away is gone, or its trigger will see this session.
        return self._tokens(session, user_id, begun.id, begun.epoch, lock=True)

    def _refresh(self, session: Session, token: str) -> Tokens | None:
        digest = digest_of(token)
        used = update(RefreshToken).where(RefreshToken.hash == digest, RefreshToken.used_at.is_(None))
        session_id = session.scalar(used.values(used_at=func.now()).returning(RefreshToken.session_id))
        if session_id is None:
            _end_stolen(session, digest)
            return None
        # Locked by this: whoever changes roles from now on waits, and then makes these tokens outdated.
        live = [AuthSession.id == session_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > func.now()]
        renewed = update(AuthSession).where(*live).values(last_used_at=func.now())
        row = session.execute(renewed.returning(AuthSession.user_id, AuthSession.epoch)).one_or_none()
        return None if row is None else self._tokens(session, row.user_id, session_id, row.epoch)

    def _tokens(
        self, session: Session, user_id: int, session_id: uuid.UUID, epoch: int, *, lock: bool = False
    ) -> Tokens:
        refresh = secrets.token_urlsafe(_TOKEN_BYTES)
        session.execute(insert(RefreshToken).values(hash=digest_of(refresh), session_id=session_id))
        roles = roles_of(session, user_id, lock=lock)
        return Tokens(self._codec.issue(Grant(user_id, session_id, epoch, roles)), refresh)


def digest_of(token: str) -> bytes:
    """What a token of 256 random bits is stored as: no salt and no slow hash is needed where nothing can be guessed."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _account_named(session: Session, kind: str, name: str) -> _Account | None:
    column = {"username": User.username, "email": User.email}[kind]
    return _account(session, func.lower(column) == func.lower(unicodedata.normalize("NFC", name)))


def _account(session: Session, condition: Any) -> _Account | None:
    columns = (User.id, User.username, User.email, User.password_hash, User.is_active)
    statement = select(*columns).where(condition, User.deleted_at.is_(None))
    row = session.execute(statement).one_or_none()
    return None if row is None else _Account(*row)


def _hold(session: Session, account: _Account, new_hash: str | None) -> bool:
    """Whether the account is still as it was; then it stays so until the transaction ends, but for a better hash."""
    if new_hash is not None:
        _keep(session, "all")
        return _replace_hash(session, account, new_hash)
    unchanged = [*_unchanged(account)]
    return session.scalar(select(User.id).where(*unchanged).with_for_update(read=True)) is not None


def _replace_hash(session: Session, account: _Account, new_hash: str) -> bool:
    changed = update(User).where(*_unchanged(account)).values(password_hash=new_hash).returning(User.id)
    return session.scalar(changed, execution_options={"synchronize_session": False}) is not None


def _unchanged(account: _Account) -> Sequence[Any]:
    return (
        User.id == account.user_id,
        User.password_hash == account.password_hash,
        User.is_active,
        User.deleted_at.is_(None),
    )


def _keep(session: Session, kept: str) -> None:
    """Spare a credential from the triggers, or all of them, until the transaction ends."""
    session.execute(_KEEP, {"name": KEPT, "kept": kept})


def _end(session: Session, conditions: Sequence[Any], reason: str) -> int:
    ended = update(AuthSession).where(*conditions).values(revoked_at=func.now(), revoked_because=reason)
    return len(session.scalars(ended.returning(AuthSession.id)).all())


def _end_stolen(session: Session, digest: bytes) -> None:
    """End the session of a token that has been used before; a token that never was one is of no session."""
    stolen = select(RefreshToken.session_id).where(RefreshToken.hash == digest)
    if _end(session, [AuthSession.id.in_(stolen), AuthSession.revoked_at.is_(None)], "refresh token reused"):
        _logger.warning("A refresh token was used a second time; its session has ended")


def _folded(name: str) -> str:
    """The same for all spellings of a name that lead to the same account, and for some more."""
    return unicodedata.normalize("NFKC", name).casefold().strip()
