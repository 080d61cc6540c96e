"""`Idempotency-Key`: a POST that is sent again is done once, and answered again as it was the first time.

The key is reserved before the view runs, and the answer stored with it, in the transaction of the view: both are there
or neither. So a request that was cut off, whatever by, can be sent again until it is answered.
The header's meaning: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Response, current_app, request
from werkzeug.datastructures import Headers

from api.core.access.caller import current_caller
from api.core.database import idempotency as store
from api.core.database.idempotency import KEY_LENGTH_MAX, Answer, Attempt, fingerprint_of
from api.core.errors import ConflictError, InvalidError, MalformedRequestError, Violation
from api.core.http.body import raw_body
from api.core.http.spool import spooled_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from api.core.database.extension import Database
    from api.core.database.session import Isolation

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
IDEMPOTENCY_TTL = "idempotency_ttl"
"""Key of `app.extensions`: for how many seconds an answer is kept."""

KEY_PATTERN = rf"[\x21-\x7e]{{1,{KEY_LENGTH_MAX}}}"
_KEY = re.compile(KEY_PATTERN)
_ERROR = 400
# Another value of these would ask for something else.
_MEANINGFUL_HEADERS = ("Content-Type", "Content-Encoding", "If-Match")


class _NotStoredError(Exception):
    """Carries an answer that reports an error out of the transaction, which it undoes."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def once(
    db: Database, view: Callable[[], Response], isolation: Isolation | None = None, largest: int | None = None
) -> Response:
    """The answer of `view`, or the one that was given to an earlier request with the same key.

    With `largest`, the body is a file of at most so many bytes, which the view reads from the stream.
    Only success is stored: an error undoes everything, the reservation included, and the key is as good as new.

    Raises:
        MalformedRequestError: for a header that is no key.
        ConflictError: while an earlier request with this key is being answered.
        InvalidError: when the key has been used for another request.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return view()
    attempt = _attempt(key, largest)
    try:
        with db.transaction(isolation=isolation) as session:
            if not store.reserve(session, attempt, ttl=current_app.extensions[IDEMPOTENCY_TTL]):
                return _replayed(session, attempt)
            response = _succeeded(view())
            store.save(session, attempt, _as_answer(response))
            return response
    except _NotStoredError as error:
        return error.response


def _succeeded(response: Response) -> Response:
    if response.status_code >= _ERROR:
        raise _NotStoredError(response)
    return response


def _as_answer(response: Response) -> Answer:
    response.direct_passthrough = False
    return Answer(response.status_code, response.headers.to_wsgi_list(), response.get_data())


def _attempt(key: str, largest: int | None) -> Attempt:
    if not _KEY.fullmatch(key):
        detail = f"Must be 1 to {KEY_LENGTH_MAX} visible ASCII characters without blanks, such as a UUID."
        raise MalformedRequestError(violations=[Violation(detail, header=HEADER)])
    headers = (request.headers.get(name, "").encode() for name in _MEANINGFUL_HEADERS)
    body = raw_body(request) if largest is None else spooled_digest(request, largest)
    caller = current_caller()
    # Who may do something else now gets no answer from before; nor does an API key get that to a login.
    rights = repr((sorted(caller.roles), caller.scopes and sorted(caller.scopes))).encode()
    sent = fingerprint_of([request.query_string, *headers, body, rights])
    return Attempt(caller.name, request.method, quote(request.path), key, sent)


def _replayed(session: Session, attempt: Attempt) -> Response:
    earlier = store.earlier(session, attempt)
    if earlier is None:
        detail = f"An earlier request with this {HEADER} is still being answered; try again in a moment."
        raise ConflictError(violations=[Violation(detail, header=HEADER)], headers={"Retry-After": "1"})
    if earlier.fingerprint != attempt.fingerprint:
        detail = "This key was used for a request with another content; take a new key for a new request."
        raise InvalidError(violations=[Violation(detail, header=HEADER)])
    response = Response(earlier.answer.body, earlier.answer.status)
    response.headers = Headers(earlier.answer.headers)
    response.headers[REPLAYED] = "true"
    return response
