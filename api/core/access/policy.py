"""The permissions of a resource as data, and of all resources together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from api.core.access.grants import ALL, NONE, Grant
from api.core.access.visibility import UNRESTRICTED, Visibility

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from api.core.access.caller import Caller
    from api.core.access.predicates import Predicate

PERMISSIONS = ("read", "create", "update", "delete", "restore", "history", "export", "import", "see_deleted")
"""What the generic views ask for. A resource's own views may ask for permissions of other names."""
READING = frozenset({"read", "history", "export", "see_deleted"})
_OF_CALLERS = ("import", "see_deleted")
_KEPT = 1024


@dataclass(frozen=True)
class Policy:
    """Who may do what with a resource: permission → predicate; what is not named is refused to everybody.

    `readable` and `writable` narrow single fields, by their public names: whom they do not hold of does not find the
    field, or may not set it. `parts` are models without a resource of their own, which are seen with the rows that
    they belong to.

    Raises:
        ValueError: for a rule about rows where only the caller counts.
    """

    permissions: Mapping[str, Predicate]
    readable: Mapping[str, Predicate] = field(default_factory=dict)
    writable: Mapping[str, Predicate] = field(default_factory=dict)
    parts: tuple[type, ...] = ()
    resource: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be kept."""
        of_callers = {name: self.permissions[name] for name in _OF_CALLERS if name in self.permissions}
        for name, predicate in {**of_callers, **self.readable, **self.writable}.items():
            if predicate.owners:
                raise ValueError(f"{name!r}: {predicate} depends on the row; here only the caller counts")

    def of(self, resource: str) -> Policy:
        """The same, as the policy of the resource of this name."""
        return replace(self, resource=resource)

    def grant(self, permission: str, caller: Caller) -> Grant:
        """The rows that `caller` has this permission for."""
        if caller.is_trusted:
            return ALL
        predicate = self.permissions.get(permission)
        return NONE if predicate is None else self._within_scopes(predicate, permission in READING, caller)

    def hidden(self, caller: Caller) -> frozenset[str]:
        """The fields that `caller` may not read."""
        return self._refused(self.readable, caller, reading=True)

    def protected(self, caller: Caller) -> frozenset[str]:
        """The fields that `caller` may not set."""
        return self._refused(self.writable, caller, reading=False)

    def _refused(self, rules: Mapping[str, Predicate], caller: Caller, *, reading: bool) -> frozenset[str]:
        if caller.is_trusted:
            return frozenset()
        return frozenset(name for name, rule in rules.items() if not self._within_scopes(rule, reading, caller))

    def _within_scopes(self, predicate: Predicate, reading: bool, caller: Caller) -> Grant:  # noqa: FBT001 - of this class
        """What `predicate` grants, unless the caller is an API key without the scope; to write includes to read."""
        if caller.scopes is not None and predicate.needs_scope:
            sufficient = {f"{self.resource}:write"} | ({f"{self.resource}:read"} if reading else set())
            if caller.scopes.isdisjoint(sufficient):
                return NONE
        return predicate.grant(caller)


class Policies:
    """The policies of all resources of an application, and what they let a caller see."""

    def __init__(self) -> None:
        self._by_model: dict[type, Policy] = {}
        self._related: dict[str, frozenset[type]] = {}
        self._visibilities: dict[tuple[object, ...], Visibility] = {}

    def add(self, model: type, policy: Policy, related: frozenset[type] = frozenset()) -> None:
        """Let `policy` hold for the rows of `model`, by way of which rows of `related` models are looked at."""
        self._by_model[model] = policy
        self._related[policy.resource] = related
        self._visibilities.clear()

    @property
    def resources(self) -> frozenset[str]:
        """The names of the resources, of which the scopes of API keys are made."""
        return frozenset(policy.resource for policy in self._by_model.values())

    def unsettled(self) -> Iterator[tuple[str, type]]:
        """Models that are looked at by way of a resource, and of which nothing says who may see them."""
        settled = {*self._by_model, *(part for policy in self._by_model.values() for part in policy.parts)}
        for resource, related in self._related.items():
            yield from ((resource, model) for model in sorted(related - settled, key=lambda model: model.__name__))

    def visibility_of(self, caller: Caller) -> Visibility:
        """What `caller` may see, in all resources; callers of one kind share it."""
        if caller.is_trusted:
            return UNRESTRICTED
        kind = (caller.is_authenticated, caller.roles, caller.scopes)
        found = self._visibilities.get(kind)
        if found is None:
            if len(self._visibilities) >= _KEPT:
                self._visibilities.clear()
            found = self._visibilities[kind] = self._worked_out(caller)
        return found

    def _worked_out(self, caller: Caller) -> Visibility:
        rows: dict[type, Grant] = {}
        hidden: dict[type, frozenset[str]] = {}
        for model, policy in self._by_model.items():
            rows[model] = policy.grant("read", caller)
            rows |= dict.fromkeys(policy.parts, ALL if rows[model] else NONE)
            hidden[model] = policy.hidden(caller)
        return Visibility(rows, hidden)
