"""What gunicorn says by itself, where the application is not asked."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.http import wsgi  # type: ignore[import-untyped]

LAST_WORDS = {
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many requests are arriving at once; please try again.",
}


def write_problem(sock: Any, status: int, reason: str, detail: str) -> None:
    """Answer as the application reports errors (RFC 9457), where it is not asked, and close."""
    problem = {"type": "about:blank", "title": reason, "status": status, "detail": detail or reason}
    body = orjson.dumps(problem)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("ascii") + body)


def adapt_gunicorn() -> None:
    """Have gunicorn's own errors written by `write_problem`, and its name by nobody.

    Raises:
        ImportError: when this gunicorn has not what is adapted.
    """
    if not hasattr(util, "write_error") or not hasattr(wsgi.Response, "default_headers"):
        raise ImportError("this version of gunicorn is not known; see api/core/http/server/errors.py")
    default_headers = wsgi.Response.default_headers

    def without_name(self: Any) -> list[str]:
        return [header for header in default_headers(self) if not header.startswith("Server:")]

    wsgi.Response.default_headers = without_name
    util.write_error = write_problem
