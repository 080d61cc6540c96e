"""What gunicorn says by itself, where the application is not asked."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import orjson
from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.http import errors, wsgi  # type: ignore[import-untyped]
from gunicorn.http.message import HeaderPolicy  # type: ignore[import-untyped]

_LAST_WORDS = {
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many requests are arriving at once; please try again.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too long.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The URL is too long.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large for the size of its chunks.",
}
_REFUSALS = {
    errors.InvalidRequestLine: (400, "The request line is not valid."),
    errors.InvalidRequestMethod: (400, "The method is not valid."),
    errors.InvalidHTTPVersion: (400, "The version of HTTP is not supported; send HTTP/1.1."),
    errors.InvalidHeader: (400, "A header is not valid, or contradicts another one."),
    errors.InvalidHeaderName: (400, "A header's name is not valid; it must not contain underscores or spaces."),
    errors.ObsoleteFolding: (400, "A header goes on in a second line, which is obsolete."),
    errors.InvalidChunkSize: (400, "A chunk of the body has no valid size."),
    errors.ChunkMissingTerminator: (400, "A chunk of the body does not end where it should."),
    errors.InvalidChunkExtension: (400, "A chunk's extension is not valid."),
    errors.InvalidSchemeHeaders: (400, "The headers contradict one another about the scheme."),
    errors.LimitRequestLine: (414, _LAST_WORDS[HTTPStatus.REQUEST_URI_TOO_LONG]),
    errors.LimitRequestHeaders: (431, "There are too many headers, or they are too long."),
    errors.ExpectationFailed: (417, "Nothing can be expected but 100-continue."),
    errors.UnsupportedTransferCoding: (501, "The body is transferred in a way that is not supported; send it chunked."),
}
_ADAPTED = (
    (util, "write_error"),
    (util, "write_nonblock"),
    (util, "http_date"),
    (wsgi.Response, "default_headers"),
    (HeaderPolicy, "_expected_100_continue"),
)


def write_last_words(sock: Any, status: HTTPStatus, detail: str | None = None) -> None:
    """Tell why a request is not answered."""
    write_problem(sock, status.value, status.phrase, detail or _LAST_WORDS[status])


def write_refusal(sock: Any, error: BaseException) -> bool:
    """Tell what is wrong with a request that gunicorn refuses; False where it is no request's fault."""
    # An answer's wrong header is of a subclass.
    status, detail = _REFUSALS.get(type(error), (0, ""))
    if status:
        phrase = HTTPStatus(status).phrase.replace("Request-URI", "URI")
        try:
            write_problem(sock, status, phrase, detail)
        except OSError:
            # It has gone.
            return True
    return bool(status)


def write_problem(sock: Any, status: int, reason: str, detail: str) -> None:
    """Answer as the application reports errors (RFC 9457), and say that the connection ends."""
    problem = {"type": "about:blank", "title": reason.capitalize(), "status": status, "detail": detail or reason}
    body = orjson.dumps(problem)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nDate: {util.http_date()}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("ascii") + body)


def _date() -> str:
    return _date_of(int(time.time()))


@lru_cache(1)
def _date_of(second: int) -> str:
    """The `Date` of all answers of a second."""
    return formatdate(second, usegmt=True)


def adapt_gunicorn() -> None:
    """Have gunicorn's own errors written by `write_problem`, its name by nobody, and the date not with every answer.

    Raises:
        ImportError: when this gunicorn has not what is adapted.
    """
    missing = [name for place, name in _ADAPTED if not hasattr(place, name)]
    if missing:
        raise ImportError(f"This version of gunicorn has no {', '.join(missing)}; see {__name__}")
    default_headers = wsgi.Response.default_headers

    def without_name(self: Any) -> list[str]:
        return [header for header in default_headers(self) if not header.startswith("Server:")]

    wsgi.Response.default_headers = without_name
    util.write_error = write_problem
    util.http_date = _date
