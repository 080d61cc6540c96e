"""Every error as `application/problem+json` (RFC 9457): ours, the framework's, the database's and the unexpected."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from flask import Response, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound, RequestEntityTooLarge

from api.core.database.failures import translate
from api.core.errors import APIError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Flask

    from api.core.errors import Violation

PROBLEM_TYPE = "application/problem+json"


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(APIError, _api_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(DBAPIError, _database_error)
    app.register_error_handler(PoolTimeoutError, _database_error)


def problem(  # noqa: PLR0913 - the members of a problem
    status: int,
    title: str,
    detail: str,
    violations: Sequence[Violation] = (),
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, object] | None = None,
    *,
    path: str | None = None,
) -> Response:
    """A problem response; `extensions` are further members (RFC 9457, section 3.2).

    Where Flask has no request, `path` is the one that was asked for.
    """
    content: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path if path is None else path,
    }
    if violations:
        content["errors"] = [violation.as_dict() for violation in violations]
    content |= extensions or {}
    response = Response(orjson.dumps(content), status, mimetype=PROBLEM_TYPE)
    response.headers.update(headers or {})
    return response


def _api_error(error: APIError) -> Response:
    return problem(error.status, error.title, error.detail, error.violations, error.headers)


def _http_exception(error: HTTPException) -> Response:
    if error.response is not None:
        # `abort(response)`: a view that answers in its own way.
        return error.response  # type: ignore[return-value]
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return problem(status, HTTPStatus(status).phrase.capitalize(), _detail(error), headers=headers)


def _detail(error: HTTPException) -> str:
    """What to tell the client; of an unexpected error nothing, for it may hold anything."""
    if isinstance(error, InternalServerError):
        return APIError.default_detail
    if isinstance(error, NotFound):
        return "There is nothing at this address."
    if isinstance(error, MethodNotAllowed):
        return f"{request.method} is not possible here; possible: {', '.join(sorted(error.valid_methods or ()))}."
    if isinstance(error, RequestEntityTooLarge):
        limit = request.max_content_length
        return f"The body is larger than {limit} bytes." if limit else "The body is too large."
    return error.description or APIError.default_detail


def _database_error(error: DBAPIError | PoolTimeoutError) -> Response:
    """What escaped a transaction; without a meaning for the client it is a mistake of ours and is logged as such."""
    meaning = translate(error)
    if meaning is None:
        raise error
    return _api_error(meaning)
