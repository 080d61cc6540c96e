"""The permissions of a resource as data, and of all resources together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING

from api.core.access.grants import ALL, NONE, Grant
from api.core.access.visibility import UNRESTRICTED, Visibility

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

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
    _grants: dict[Hashable, Grant] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what could not be kept."""
        of_callers = {name: self.permissions[name] for name in _OF_CALLERS if name in self.permissions}
        for name, predicate in {**of_callers, **self.readable, **self.writable}.items():
            if predicate.owners:
                raise ValueError(f"{name!r}: {predicate} depends on the row; here only the caller counts")

    def of(self, resource: str) -> Policy:
        """The same, as the policy of the resource of this name."""
        return replace(self, resource=resource)

    @cached_property
    def owners(self) -> frozenset[str]:
        """The attributes that tell whose a row is."""
        return frozenset(name for predicate in self.permissions.values() for name in predicate.owners)

    def grant(self, permission: str, caller: Caller) -> Grant:
        """The rows that `caller` has this permission for."""
        if caller.is_trusted:
            return ALL
        # Looked up several times in each request.
        kind = (permission, *caller.kind)
        found = self._grants.get(kind)
        if found is None:
            predicate = self.permissions.get(permission)
            found = NONE if predicate is None else self._within_scopes(predicate, permission in READING, caller)
            if len(self._grants) >= _KEPT:
                self._grants.clear()
            self._grants[kind] = found
        return found

    def scope_of(self, permission: str) -> str | None:
        """The scope that an API key needs for it; None where it needs none."""
        predicate = self.permissions.get(permission)
        if predicate is None or not predicate.needs_scope:
            return None
        return f"{self.resource}:{'read' if permission in READING else 'write'}"

    def hidden(self, caller: Caller) -> frozenset[str]:
        """The fields that `caller` may not read."""
        return self._refused(self.readable, caller, reading=True)

    def protected(self, caller: Caller) -> frozenset[str]:
        """The fields that `caller` may not set."""
        return self._refused(self.writable, caller, reading=False)

    def _refused(self, rules: Mapping[str, Predicate], caller: Caller, *, reading: bool) -> frozenset[str]:
        if not rules or caller.is_trusted:
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
        self._by_model: dict[type, dict[str, Policy]] = {}
        self._related: dict[str, frozenset[type]] = {}
        self._visibilities: dict[Hashable, Visibility] = {}

    def add(self, model: type, policy: Policy, related: frozenset[type] = frozenset()) -> None:
        """Let `policy` hold for the rows of `model`, by way of which rows of `related` models are looked at.

        Of a model with several resources only that is seen, by any way, which all of them show.
        """
        self._by_model.setdefault(model, {})[policy.resource] = policy
        self._related[policy.resource] = related
        self._visibilities.clear()

    @property
    def resources(self) -> frozenset[str]:
        """The names of the resources, of which the scopes of API keys are made."""
        return frozenset(policy.resource for policy in self._all())

    def unsettled(self) -> Iterator[tuple[str, type]]:
        """Models that are looked at by way of a resource, and of which nothing says who may see them."""
        settled = {*self._by_model, *(part for policy in self._all() for part in policy.parts)}
        for resource, related in self._related.items():
            yield from ((resource, model) for model in sorted(related - settled, key=lambda model: model.__name__))

    def visibility_of(self, caller: Caller) -> Visibility:
        """What `caller` may see, in all resources; callers of one kind share it."""
        if caller.is_trusted:
            return UNRESTRICTED
        kind = caller.kind
        found = self._visibilities.get(kind)
        if found is None:
            if len(self._visibilities) >= _KEPT:
                self._visibilities.clear()
            found = self._visibilities[kind] = self._worked_out(caller)
        return found

    def _worked_out(self, caller: Caller) -> Visibility:
        rows: dict[type, Grant] = {}
        hidden: dict[type, frozenset[str]] = {}
        for model, policies in self._by_model.items():
            grants = [policy.grant("read", caller) for policy in policies.values()]
            rows[model] = reduce(and_, grants)
            hidden[model] = frozenset().union(*(policy.hidden(caller) for policy in policies.values()))
            for policy in policies.values():
                rows |= dict.fromkeys(policy.parts, ALL if rows[model] else NONE)
        return Visibility(rows, hidden)

    def _all(self) -> list[Policy]:
        return [policy for policies in self._by_model.values() for policy in policies.values()]
