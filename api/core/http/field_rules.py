"""Which fields of a resource a caller may send and set, and whose a row is and stays."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

from api.core.access.caller import current_caller
from api.core.errors import InvalidError, Violation, pointer_to
from api.core.http.body import violations_of
from api.core.http.schema import Embed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from api.core.access.policy import Policy
    from api.core.http.schema import BaseSchema, Variant

_ABSENT = object()
_SCHEMAS_KEPT = 64


class FieldRules:
    """The rules of one resource, for what is sent and for the values that one of its schemas has loaded."""

    def __init__(self, schema: type[BaseSchema], policy: Policy) -> None:
        self._schema = schema
        self._policy = policy
        self._without = lru_cache(_SCHEMAS_KEPT)(self._make_schema)

    @property
    def protected(self) -> frozenset[str]:
        """The fields that whoever asks may not set; what they do not see is among them."""
        caller = current_caller()
        return self._policy.protected(caller) | self._policy.hidden(caller)

    # -- what is sent -------------------------------------------------------------------------------------------------

    def schema(self, variant: Variant) -> BaseSchema:
        """What whoever asks may send; fields that they do not see are unknown to it."""
        return self._without(variant, self._policy.hidden(current_caller()))

    def load(self, variant: Variant, content: Any) -> Any:
        """`content` as that schema loads it. In a PUT nobody has to give what they may not set.

        Raises:
            InvalidError: pointing at each field that is wrong.
        """
        schema = self.schema(variant)
        optional = tuple(self.protected) if variant == "replace" else ()
        try:
            return schema.load(content, partial=optional or None)
        except ValidationError as error:
            raise InvalidError(violations=violations_of(error.normalized_messages(), schema)) from error

    def _make_schema(self, variant: Variant, hidden: frozenset[str]) -> BaseSchema:
        return self._schema(variant=variant, exclude=sorted(hidden))

    # -- what is set --------------------------------------------------------------------------------------------------

    def new(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` of a new row, which belongs to whoever asks unless it says otherwise.

        Raises:
            InvalidError: pointing at what they may not set, or where they may only create what is their own.
        """
        caller = current_caller()
        predicate = self._policy.permissions.get("create")
        owners = predicate.owners if predicate is not None and caller.user_id is not None else frozenset()
        complete = {**dict.fromkeys(owners, caller.user_id), **data}
        _raise_any([*self._protected_among(data), *self._given_away(complete, "create")])
        return complete

    def check_change(self, data: Mapping[str, Any], row: Any = None) -> None:
        """Refuse to change rows to `data` that whoever asks may not set; for `row` to keep what it has is no change.

        Raises:
            InvalidError: pointing at each of these fields.
        """
        _raise_any([*self._protected_among(data, row), *self._given_away(data, "update")])

    def settable(self, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """`data` without the fields that whoever asks may not set, unless they are `given` by them."""
        kept = self.protected | {self._name(attribute) for attribute in self._owners("update")}
        return {name: value for name, value in data.items() if name in given or self._name(name) not in kept}

    def left_out(self, sent: Sequence[Mapping[str, Any]]) -> list[str]:
        """The attributes that tell whose a row is and that none of the bodies `sent` has."""
        return [name for name in sorted(self._policy.owners) if not any(self._name(name) in body for body in sent)]

    def _protected_among(self, data: Mapping[str, Any], row: Any = None) -> Iterator[Violation]:
        protected = self.protected
        for attribute, value in data.items() if protected else ():
            if self._name(attribute) in protected and (row is None or self._differs(row, attribute, value)):
                yield Violation("You may not set this field.", pointer=pointer_to([self._name(attribute)]))

    def _given_away(self, data: Mapping[str, Any], permission: str) -> Iterator[Violation]:
        """What would make a row somebody else's, by who has `permission` for their own rows only."""
        user_id = current_caller().user_id
        for attribute in self._owners(permission):
            if data.get(attribute, user_id) != user_id:
                detail = "Must be your own id, or be left out."
                yield Violation(detail, pointer=pointer_to([self._name(attribute)]))

    def _owners(self, permission: str) -> list[str]:
        """The attributes that whoever asks is known by in the rows of this permission; none where it is for all."""
        return sorted(self._policy.grant(permission, current_caller()).owners)

    def _differs(self, row: Any, attribute: str, value: Any) -> bool:
        """Whether `value` is a change; what is embedded is not looked at, and taken for one."""
        return attribute in self._embedded or bool(getattr(row, attribute, _ABSENT) != value)

    def _name(self, attribute: str) -> str:
        """The public name of `attribute`."""
        return self._names.get(attribute, attribute)

    @cached_property
    def _names(self) -> dict[str, str]:
        fields = self._schema(variant="create").load_fields
        return {str(field.attribute or name): str(field.data_key or name) for name, field in fields.items()}

    @cached_property
    def _embedded(self) -> frozenset[str]:
        fields = self._schema(variant="create").load_fields
        return frozenset(field.attribute or name for name, field in fields.items() if isinstance(field, Embed))


def _raise_any(violations: list[Violation]) -> None:
    if violations:
        raise InvalidError(violations=violations)
