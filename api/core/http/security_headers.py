"""What every answer tells browsers and caches, whoever made it: a view, an error handler, a redirect or a middleware.

The headers are those of the OWASP REST Security Cheat Sheet and the OWASP Secure Headers Project. The caching rules are
RFC 9111's: what an answer shows may depend on who asks, so that no shared cache may keep it (`private`), and a browser
asks each time whether what it keeps still holds (`no-cache`), which is what the ETags are for. Its copy is for the same
caller only (`Vary: Authorization`). Errors and answers to writes are not kept at all (`no-store`). A view that says
something of its own in `Cache-Control` has the say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

Headers = list[tuple[str, str]]

ALWAYS: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
NOTHING_MAY_RUN = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
"""For whatever is no page: should a browser ever take it for one, it does nothing."""

PAGES_ONLY: Headers = [
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
KEPT_BY_ONE_CALLER: Headers = [("Cache-Control", "private, no-cache"), ("Vary", "Authorization")]
NEVER_KEPT: Headers = [("Cache-Control", "no-store")]

_READS = frozenset({"GET", "HEAD"})


class SecurityHeaders:
    """WSGI middleware: completes the headers of every answer.

    `hsts_max_age` is for how many seconds a browser that came by HTTPS comes by HTTPS only; 0 says nothing about it.
    """

    def __init__(self, wsgi_app: WSGIApplication, hsts_max_age: int = 0) -> None:
        self._wsgi_app = wsgi_app
        self._hsts = ("Strict-Transport-Security", f"max-age={hsts_max_age}; includeSubDomains")
        self._hsts_scheme = "https" if hsts_max_age else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""

        def start(status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Callable[[bytes], object]:
            given = dict(headers)
            headers += ALWAYS
            if "Content-Security-Policy" in given:
                headers += PAGES_ONLY
            else:
                headers.append(NOTHING_MAY_RUN)
            if "Cache-Control" not in given:
                kept = status[0] in "23" and environ["REQUEST_METHOD"] in _READS
                headers += KEPT_BY_ONE_CALLER if kept else NEVER_KEPT
            # Not over plain HTTP (RFC 6797, section 7.2).
            if environ["wsgi.url_scheme"] == self._hsts_scheme:
                headers.append(self._hsts)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return self._wsgi_app(environ, start)
