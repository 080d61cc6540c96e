"""Which names the service answers to: a request for any other host is refused before anything looks at it.

So nobody reaches the service through a name of theirs (DNS rebinding), and nothing can be built from a forged one.
What probes and scrapers ask for is answered whatever the name: they come by the address of a container or pod, and get
nothing that depends on it. `X-Forwarded-Host` is not read anywhere.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit, urlunsplit

from werkzeug.routing import RequestRedirect
from werkzeug.sansio.utils import host_is_trusted

from api.core.errors import MalformedRequestError, Violation
from api.core.http.error_handlers import problem
from api.core.http.request_log import QUIET_ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Request

_NAMES_KEPT = 256
_PORT = re.compile(r":[0-9]+\Z")
_DETAIL = "The service does not go by this name."


class AllowedHosts:
    """WSGI middleware: refuses requests for other hosts than `hosts`.

    One that begins with a dot stands for a name and all its subdomains. Ports and the case of letters do not matter.
    """

    def __init__(self, wsgi_app: WSGIApplication, hosts: Sequence[str]) -> None:
        self._wsgi_app = wsgi_app
        exact = frozenset(host.lower().removeprefix(".") for host in hosts)
        suffixes = tuple(host.lower() for host in hosts if host.startswith("."))

        @lru_cache(_NAMES_KEPT)
        def is_allowed(header: str) -> bool:
            # werkzeug's list of names knows no IPv6 address; what characters there may be, it does know.
            name = _PORT.sub("", header.lower())
            return host_is_trusted(header) and (name in exact or (name.endswith(suffixes) and all(name.split("."))))

        self._is_allowed = is_allowed

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self._is_allowed(environ.get("HTTP_HOST", "")) or environ.get("PATH_INFO") in QUIET_ROUTES:
            return self._wsgi_app(environ, start_response)
        return _refusal(environ, start_response)


def init_app(app: Flask, hosts: Sequence[str]) -> None:
    """Answer to `hosts` only, or to any when none is named; redirect by path, whatever name was asked for."""
    if hosts:
        app.wsgi_app = AllowedHosts(app.wsgi_app, hosts)  # type: ignore[method-assign]
    raise_routing_exception = app.raise_routing_exception

    def raise_without_host(request: Request) -> NoReturn:
        error = request.routing_exception
        if isinstance(error, RequestRedirect):
            error.new_url = _path_of(error.new_url)
        raise_routing_exception(request)

    # Flask gives an error handler no say in the redirects of its URL map, which bear the name that was asked for.
    app.raise_routing_exception = raise_without_host  # type: ignore[method-assign]


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    # Two slashes at the beginning would make a host of the path.
    return urlunsplit(("", "", "/" + parts.path.lstrip("/"), parts.query, ""))


def _refusal(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    # Flask is not asked: it would make the request's addresses of that very header.
    refused = MalformedRequestError(violations=[Violation(_DETAIL, header="Host")])
    path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
    response = problem(refused.status, refused.title, refused.detail, refused.violations, path=path)
    return response(environ, start_response)
