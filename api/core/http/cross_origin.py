"""CORS (the Fetch standard): which pages of other origins may read answers in a browser. None, unless they are named.

A preflight is answered here, before anybody is authenticated and anything is asked of the database. A request that is
not allowed is answered all the same, but without the headers that let the page read it: the browser enforces CORS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.core.http.names import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from api.core.http.security_headers import Headers

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-Encoding, If-Match, If-None-Match, Idempotency-Key, X-Request-ID"
)
"""What a page may send; `*` would not include Authorization."""

EXPOSED_HEADERS = (
    "ETag, Link, Location, Content-Disposition, Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, "
    "WWW-Authenticate, X-Request-ID"
)
"""What a page may read besides the body and the few headers that Fetch always shows."""

_VARY = ("Vary", "Origin")


@dataclass(frozen=True)
class Policy:
    """Who may read answers. `max_age` is for how many seconds a browser keeps the answer to a preflight."""

    origins: Collection[str]
    credentials: bool = False
    max_age: int = 600


class CrossOrigin:
    """WSGI middleware: lets pages of the policy's origins read answers."""

    def __init__(self, wsgi_app: WSGIApplication, policy: Policy) -> None:
        self._wsgi_app = wsgi_app
        self._origins = frozenset(policy.origins)
        self._any = ANY in self._origins
        self._on_answers: Headers = [("Access-Control-Expose-Headers", EXPOSED_HEADERS)]
        self._on_preflights: Headers = [
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(policy.max_age)),
        ]
        if policy.credentials:
            credentials = ("Access-Control-Allow-Credentials", "true")
            self._on_answers.append(credentials)
            self._on_preflights.append(credentials)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        allowed = self._allowing(environ.get("HTTP_ORIGIN"))
        if _is_preflight(environ):
            start_response("204 No Content", allowed + (self._on_preflights if len(allowed) > 1 else []))
            return []
        added = allowed + (self._on_answers if len(allowed) > 1 else [])

        def start(status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Callable[[bytes], object]:
            headers += added
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return self._wsgi_app(environ, start)

    def _allowing(self, origin: str | None) -> Headers:
        """Who may read the answer; in any case a cache must know that it depends on who asks."""
        if self._any:
            return [_VARY, ("Access-Control-Allow-Origin", ANY)]
        if origin in self._origins:
            return [_VARY, ("Access-Control-Allow-Origin", str(origin))]
        return [_VARY]


def _is_preflight(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )
