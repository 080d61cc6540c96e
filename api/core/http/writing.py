"""What every view that writes gets, generic or one's own: a new attempt after a conflict, and idempotency for POST.

A view that loses against another transaction (a deadlock, a serialization failure) is run again from its start, its
transaction having been undone. A conflict that stays one is a 503 with `Retry-After`.
"""

from __future__ import annotations

from functools import partial, wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Response

from api.core.database.engine import spare_next_ping
from api.core.database.retry import retried
from api.core.database.session import in_transaction
from api.core.errors import TransactionConflictError
from api.core.http.body import can_be_read_again
from api.core.http.documented import problem_response
from api.core.http.idempotency import HEADER, KEY_PATTERN, REPLAYED, once
from api.core.http.request import current_application, current_request
from api.core.http.request_log import count_retry
from api.core.http.server.time_limit import allow_time
from api.core.http.spool import discard, rewind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api.core.database.extension import Database
    from api.core.database.session import Isolation

V = TypeVar("V", bound="Callable[..., Any]")

READS = frozenset({"GET", "HEAD", "OPTIONS"})
_ISOLATION = "isolation"
_LARGEST = "largest"
_SECONDS = "seconds"


def isolated(isolation: Isolation) -> Callable[[V], V]:
    """Run a view in a transaction of this isolation, whatever `transaction()` it opens within.

    @blueprint.route("/settle", methods=["POST"])
    @isolated("SERIALIZABLE")
    def settle(): ...
    """

    def mark(view: V) -> V:
        setattr(view, _ISOLATION, isolation)
        return view

    return mark


def takes_file(largest: Callable[[], int], seconds: Callable[[], float] | None = None) -> Callable[[V], V]:
    """Let a view read its body from `request.stream`, up to `largest()` bytes; with a key, it is kept on disk first.

    It may take `seconds()`, 0 for any time, and otherwise as long as any other request.
    """

    def mark(view: V) -> V:
        setattr(view, _LARGEST, largest)
        setattr(view, _SECONDS, seconds)
        return view

    return mark


def as_write(db: Database, view: Any, methods: Iterable[str] | None) -> Any:
    """`view`, a function or a `MethodView` with these methods, with what this module promises."""
    if isinstance(view, type):
        decorators = [*getattr(view, "decorators", ()), partial(_as_write, db)]
        return type(view.__name__, (view,), {"decorators": decorators, "__doc__": view.__doc__})
    if READS.issuperset(method.upper() for method in methods or ("GET",)):
        return view
    return _as_write(db, view)


def _as_write(db: Database, view: Callable[..., Any]) -> Callable[..., Any]:
    isolation: Isolation | None = getattr(view, _ISOLATION, None)
    largest: Callable[[], int] | None = getattr(view, _LARGEST, None)
    seconds: Callable[[], float] | None = getattr(view, _SECONDS, None)

    @wraps(view)
    def writing(*args: Any, **kwargs: Any) -> Any:
        asked = current_request()
        if asked.method in READS:
            return view(*args, **kwargs)

        if seconds is not None:
            allow_time(asked.environ, seconds())

        def attempt() -> Response:
            if asked.method == "POST" and HEADER in asked.headers:
                return once(db, answer, isolation, largest() if largest is not None else None)
            if isolation is None:
                return answer()
            with db.transaction(isolation=isolation):
                return answer()

        def answer() -> Response:
            return current_application().make_response(view(*args, **kwargs))

        try:
            if in_transaction(db.session()):
                return attempt()
            # A connection that turns out to have been dropped is as good as a conflict.
            spare_next_ping(spare=db.attempts > 1 and largest is None)
            return retried(attempt, attempts=db.attempts, on_retry=_begin_again)
        finally:
            spare_next_ping(spare=False)
            discard(asked)

    return writing


def _begin_again() -> None:
    """Go on to the next attempt.

    Raises:
        TransactionConflictError: where the view has consumed the body from the stream.
    """
    asked = current_request()
    if not (rewind(asked) or can_be_read_again(asked)):
        raise TransactionConflictError
    count_retry()


# -- the OpenAPI document ---------------------------------------------------------------------------------------------

_PARAMETER = {
    "in": "header",
    "name": HEADER,
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
    "description": "Send the same request with the same key again, and it is done once and answered the same.",
}
_REPLAYED = {"schema": {"type": "string", "enum": ["true"]}, "description": "The answer to an earlier request."}
_STATUSES = (400, 409, 422, 503)


def document_write(operation: dict[str, Any], info: dict[str, Any], *, method: str, **_: Any) -> dict[str, Any]:
    """Add to an operation what this module makes of it; a step of flask-smorest's own making of the document."""
    if method != "post":
        return operation
    manual = info.get("manual_doc", {})
    # What is written by hand replaces the rest.
    (manual if "parameters" in manual else operation).setdefault("parameters", []).append(_PARAMETER)
    responses = operation.setdefault("responses", {})
    for status, response in responses.items():
        if int(status) < HTTPStatus.BAD_REQUEST:
            response.setdefault("headers", {})[REPLAYED] = _REPLAYED
    documented = {int(status) for status in responses}
    responses |= {str(status): problem_response(status) for status in _STATUSES if status not in documented}
    return operation
