"""Every route asks for a permission: of a resource's policy, or a predicate of its own; one without is a mistake.

An unknown caller is told to log in (401), a known one that it is not allowed (403), before the body is read. What one
may not even know of is a 404: that is the business of the rows' visibility.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from flask import current_app

from api.core.access.caller import ANONYMOUS, current_caller
from api.core.access.predicates import Predicate
from api.core.database.context import is_credential_unchecked
from api.core.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from api.core.access.caller import Caller
    from api.core.access.policy import Policies, Policy

    V = TypeVar("V", bound="Callable[..., Any]")

POLICIES = "policies"
"""Key of `app.extensions`: the `Policies` of its resources."""
_REQUIRED = "required_permission"
_ASKED = "asked"
_CHECKED_READ = "SELECT true"
"""Any read: a credential is checked in front of it."""


class Asked(NamedTuple):
    """What a route's guard asks of a caller, and the scope that an API key needs besides, if any."""

    predicate: Predicate
    scope: str | None = None


class UnguardedRouteError(TypeError):
    """A route has no permission, or one that its resource's policy does not name."""


def requires(permission: str | Predicate) -> Callable[[V], V]:
    """What a caller needs for a view: a permission of its resource's policy, or a predicate.

    @blueprint.route("/settle", methods=["POST"])
    @requires("settle")
    def settle(): ...

    Raises:
        ValueError: for a predicate about rows: which row is meant, only the view knows.
    """
    if isinstance(permission, Predicate) and permission.owners:
        raise ValueError(f"{permission} depends on the row; name a permission of the resource's policy, and check rows")

    def mark(view: V) -> V:
        if isinstance(permission, Predicate):
            return _marked(_within(view, _by_predicate(permission)), permission)  # type: ignore[no-any-return]
        return _marked(view, permission)  # type: ignore[no-any-return]  # it has the view's signature

    return mark


def required(view: Any) -> str | Predicate | None:
    """What a view was marked with."""
    return getattr(view, _REQUIRED, None)


def asked(view: Any) -> Asked | None:
    """What the guard of a view asks; None where there is no guard."""
    return getattr(view, _ASKED, None)


def guarded(view: Any, policy: Policy, permission: str | Predicate) -> Any:
    """`view`, a function or a `MethodView`, for callers that `policy` gives `permission`.

    Raises:
        UnguardedRouteError: when the policy does not name it.
    """
    if isinstance(permission, Predicate):
        return _marked(_within(view, _by_predicate(permission)), permission)
    return _marked(_within(view, _by_policy(permission, policy)), permission)


def _marked(view: Any, permission: str | Predicate) -> Any:
    setattr(view, _REQUIRED, permission)
    return view


class _Gate(NamedTuple):
    """Whom a guard lets pass, what it tells the others, and what it asks."""

    allows: Callable[[Caller], bool]
    detail: str
    asked: Asked

    @property
    def is_closed(self) -> bool:
        """Whether it is there for some, and not for everybody."""
        return not self.asked.predicate.grant(ANONYMOUS)


def _by_predicate(predicate: Predicate) -> _Gate:
    return _Gate(lambda caller: bool(predicate.grant(caller)), f"This is for {predicate}.", Asked(predicate))


def _by_policy(permission: str, policy: Policy) -> _Gate:
    predicate = policy.permissions.get(permission)
    if predicate is None:
        raise UnguardedRouteError(f"{policy.resource}: the policy does not say who has the permission {permission!r}")
    detail = f"To {permission.replace('_', ' ')} {policy.resource} is for {predicate}."
    asked = Asked(predicate, policy.scope_of(permission))
    return _Gate(lambda caller: bool(policy.grant(permission, caller)), detail, asked)


def _within(view: Any, gate: _Gate) -> Any:
    """`view`, a function or a `MethodView`, with a guard around each of its methods."""
    if isinstance(view, type):
        decorators = [*getattr(view, "decorators", ()), lambda function: _guarded(function, gate)]
        return type(view.__name__, (view,), {"decorators": decorators, "__doc__": view.__doc__})
    return _guarded(view, gate)


def _guarded(view: V, gate: _Gate) -> V:
    @wraps(view)
    def guard(*args: Any, **kwargs: Any) -> Any:
        caller = current_caller()
        if not (caller.is_trusted or gate.allows(caller)):
            raise refusal(caller, gate.detail)
        answer = view(*args, **kwargs)
        if is_credential_unchecked() and gate.is_closed:
            # A view that has asked the database nothing. What was revoked a moment ago opens it no more.
            with current_app.extensions["sqlalchemy"].read_connection() as connection:
                connection.exec_driver_sql(_CHECKED_READ)
        return answer

    setattr(guard, _ASKED, gate.asked)
    return guard  # type: ignore[return-value]  # it has the view's signature


def refusal(caller: Caller, detail: str) -> UnauthorizedError | ForbiddenError:
    """What to tell a caller who lacks a permission."""
    return ForbiddenError(detail) if caller.is_authenticated else UnauthorizedError()


def check_routes(app: Flask) -> None:
    """Find out at the start what would be open by oversight.

    Raises:
        UnguardedRouteError: for a route without a permission, or without a guard that asks for it, and for a model that
            is looked at by way of a resource and belongs to no policy.
    """
    policies: Policies = app.extensions[POLICIES]
    for resource, model in policies.unsettled():
        raise UnguardedRouteError(
            f"{resource}: no policy says who may see {model.__name__}; name it in the `parts` of one"
        )
    for rule in app.url_map.iter_rules():
        if rule.redirect_to is not None:
            continue
        view: Any = app.view_functions[rule.endpoint]
        if asked(view) is not None:
            continue
        permission = required(view) or required(getattr(view, "view_class", None))
        if permission is None:
            raise UnguardedRouteError(f"{rule.rule} asks for no permission; mark its view with @requires(...)")
        raise UnguardedRouteError(
            f"{rule.rule} asks for {permission!r}, but is no route of a resource, whose policy would name it; "
            "mark its view with @requires(<a predicate>)"
        )
