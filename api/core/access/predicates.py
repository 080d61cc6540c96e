"""What a caller has to be for a permission: `role("manager") | owner("user_id")`.

Predicates are data: they are joined with `|` and `&`, and asked for a `Grant` of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from api.core.access.grants import ALL, NONE, Grant

if TYPE_CHECKING:
    from api.core.access.caller import Caller


class Predicate:
    """Something that holds of a caller, or of a caller and a row."""

    needs_scope = True
    """Whether an API key must have been given the scope of the permission."""

    @property
    def owners(self) -> frozenset[str]:
        """The attributes that tell whose a row is."""
        return frozenset()

    def grant(self, caller: Caller) -> Grant:
        """The rows that it opens to `caller`."""
        raise NotImplementedError

    def __or__(self, other: Predicate) -> Predicate:
        """Either of the two."""
        return _Either(self, other)

    def __and__(self, other: Predicate) -> Predicate:
        """Both of the two.

        Raises:
            TypeError: when both are about rows, which have one owner.
        """
        if self.owners and other.owners:
            raise TypeError(f"{self} and {other} cannot both be asked of a row")
        return _Both(self, other)


@dataclass(frozen=True, slots=True)
class _Kind(Predicate):
    """A predicate by the kind of caller."""

    kind: Literal["anyone", "authenticated", "in person", "nobody"]

    @property
    def needs_scope(self) -> bool:  # type: ignore[override]  # of all others it is known to the class
        return self.kind != "anyone"

    def grant(self, caller: Caller) -> Grant:
        holds = {
            "anyone": True,
            "authenticated": caller.is_authenticated,
            "in person": caller.is_authenticated and caller.scopes is None,
            "nobody": False,
        }
        return ALL if holds[self.kind] else NONE

    def __str__(self) -> str:
        names = {"authenticated": "anyone who is logged in", "in person": "people who are logged in, not for API keys"}
        return names.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True)
class _Role(Predicate):
    names: tuple[str, ...]

    def grant(self, caller: Caller) -> Grant:
        return NONE if caller.roles.isdisjoint(self.names) else ALL

    def __str__(self) -> str:
        return f"the role {' or '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class _Scope(Predicate):
    name: str

    def grant(self, caller: Caller) -> Grant:
        unlimited = caller.is_authenticated and caller.scopes is None
        return ALL if unlimited or self.name in (caller.scopes or ()) else NONE

    def __str__(self) -> str:
        return f"the scope {self.name}"


@dataclass(frozen=True, slots=True)
class _Owner(Predicate):
    attribute: str

    @property
    def owners(self) -> frozenset[str]:
        return frozenset({self.attribute})

    def grant(self, caller: Caller) -> Grant:
        return Grant(owners=self.owners) if caller.is_authenticated else NONE

    def __str__(self) -> str:
        return "the owner"


@dataclass(frozen=True, slots=True)
class _Either(Predicate):
    one: Predicate
    other: Predicate

    @property
    def owners(self) -> frozenset[str]:
        return self.one.owners | self.other.owners

    @property
    def needs_scope(self) -> bool:  # type: ignore[override]  # as above
        return self.one.needs_scope and self.other.needs_scope

    def grant(self, caller: Caller) -> Grant:
        return self.one.grant(caller) | self.other.grant(caller)

    def __str__(self) -> str:
        return f"{self.one} or {self.other}"


@dataclass(frozen=True, slots=True)
class _Both(Predicate):
    one: Predicate
    other: Predicate

    @property
    def owners(self) -> frozenset[str]:
        return self.one.owners | self.other.owners

    @property
    def needs_scope(self) -> bool:  # type: ignore[override]  # as above
        return self.one.needs_scope or self.other.needs_scope

    def grant(self, caller: Caller) -> Grant:
        one, other = self.one.grant(caller), self.other.grant(caller)
        if not one or not other:
            return NONE
        return other if one.everything else one

    def __str__(self) -> str:
        return f"{self.one} and {self.other}"


anyone: Predicate = _Kind("anyone")
"""Also who has not logged in."""
authenticated: Predicate = _Kind("authenticated")
"""Whoever has logged in."""
in_person: Predicate = _Kind("in person")
"""Whoever has logged in with a password; no API key, whatever its scopes."""
nobody: Predicate = _Kind("nobody")
"""No request; only code of the service itself."""


def role(*names: str) -> Predicate:
    """Whoever has one of these roles."""
    return _Role(names)


def scope(name: str) -> Predicate:
    """Whoever has logged in, and the API keys that were given this scope, such as `orders:write`."""
    return _Scope(name)


def owner(attribute: str = "user_id") -> Predicate:
    """The user whose id the row has in `attribute`."""
    return _Owner(attribute)
