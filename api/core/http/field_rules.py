"""Which fields of a resource a caller may set, and whose a new row is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from api.core.access.caller import current_caller
from api.core.errors import InvalidError, Violation, pointer_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from api.core.access.policy import Policy
    from api.core.http.schema import BaseSchema

_ABSENT = object()


class FieldRules:
    """The rules of one resource, for the values that one of its schemas has loaded."""

    def __init__(self, schema: type[BaseSchema], policy: Policy) -> None:
        self._schema = schema
        self._policy = policy

    @property
    def protected(self) -> frozenset[str]:
        """The fields that whoever asks may not set; what they do not see is among them."""
        caller = current_caller()
        return self._policy.protected(caller) | self._policy.hidden(caller)

    @property
    def hidden(self) -> frozenset[str]:
        """The fields that whoever asks does not see."""
        return self._policy.hidden(current_caller())

    def refuse(self, data: Mapping[str, Any], row: Any = None) -> None:
        """Refuse `data` that sets what whoever asks may not set; for `row` to keep what it has is no change.

        Raises:
            InvalidError: pointing at each of these fields.
        """
        violations = [*self.violations(data, row)]
        if violations:
            raise InvalidError(violations=violations)

    def violations(self, data: Mapping[str, Any], row: Any = None) -> Iterator[Violation]:
        """What is wrong with `data`, as `refuse` has it."""
        protected = self.protected
        for attribute, value in data.items() if protected else ():
            name = self._names.get(attribute, attribute)
            if name in protected and (row is None or getattr(row, attribute, _ABSENT) != value):
                yield Violation("You may not set this field.", pointer=pointer_to([name]))

    def settable(self, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """`data` without the fields that whoever asks may not set, unless they are `given` by them."""
        protected = self.protected
        return {
            attribute: value
            for attribute, value in data.items()
            if attribute in given or self._names.get(attribute, attribute) not in protected
        }

    def owned(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` of a new row, which belongs to whoever asks unless it says otherwise.

        Raises:
            InvalidError: where it says so, and they may only create what is their own.
        """
        caller = current_caller()
        predicate = self._policy.permissions.get("create")
        owners = predicate.owners if predicate is not None else frozenset()
        if caller.user_id is None or not owners:
            return {**data}
        everything = self._policy.grant("create", caller).everything
        complete = {**dict.fromkeys(owners, caller.user_id), **data}
        for attribute in sorted(owners):
            if not everything and complete[attribute] != caller.user_id:
                pointer = pointer_to([self._names.get(attribute, attribute)])
                raise InvalidError(violations=[Violation("Must be your own id, or be left out.", pointer=pointer)])
        return complete

    @cached_property
    def _names(self) -> dict[str, str]:
        """Public names by attribute."""
        fields = self._schema(variant="create").load_fields
        return {str(field.attribute or name): str(field.data_key or name) for name, field in fields.items()}
