"""Who sends a request: asked of the application's authenticators before anything else is done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import inspect

from api.core.access.caller import ANONYMOUS, SYSTEM, Caller, set_caller
from api.core.access.policy import Policies
from api.core.access.visibility import UNRESTRICTED, set_visibility
from api.core.database import context
from api.core.errors import UnauthorizedError
from api.core.http.permissions import POLICIES
from api.core.http.request import current_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Request

    from api.core.access.visibility import Visibility
    from api.core.database.context import Credential

    Authenticator = Callable[[Request], "Identity | None"]

AUTHENTICATORS = "authenticators"
"""Key of `app.extensions`: functions that find out who sends a request; the first that knows has the say.

One that finds its kind of credentials, and finds them wrong, raises `UnauthorizedError`.
"""

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request, and what the database has to check before it does anything for them."""

    caller: Caller
    credential: Credential | None = None


def init_app(app: Flask, *authenticators: Authenticator) -> None:
    """Ask `authenticators`, and those that are added later, who sends each request, and open what the policies open."""
    app.extensions[AUTHENTICATORS] = known = [*authenticators]
    policies = app.extensions[POLICIES] = Policies()

    def begin(caller: Caller, credential: Credential | None = None) -> None:
        visibility = policies.visibility_of(caller)
        set_caller(caller)
        set_visibility(visibility)
        actor = caller.name if caller.is_authenticated else None
        tables = context.EVERYTHING if caller.is_trusted else _unrestricted(visibility)
        context.identify(actor, credential, user_id=caller.user_id, unrestricted=tables)

    @app.before_request
    def authenticate() -> None:
        # Until it is known who they are; the database has been told already that they have no rows.
        set_caller(ANONYMOUS)
        set_visibility(policies.visibility_of(ANONYMOUS))
        sent = current_request()
        for find in known:
            identity = find(sent)
            if identity is not None:
                begin(identity.caller, identity.credential)
                return
        begin(ANONYMOUS)
        if "Authorization" in sent.headers:
            raise UnauthorizedError("Nothing here takes credentials of this kind; send Authorization: Bearer <token>.")

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        set_caller(SYSTEM)
        set_visibility(UNRESTRICTED)


@lru_cache(_KEPT)
def _unrestricted(visibility: Visibility) -> str:
    """The tables of which every row is in sight, as the database's row security is told of them."""
    return ",".join(sorted(str(inspect(model).local_table.name) for model in visibility.whole))
