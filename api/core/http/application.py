"""Flask, without what this service does not have and would pay for in each request."""

from __future__ import annotations

import re
from functools import cache, cached_property, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import flask
from click import Context
from flask import Flask, request_finished, request_started, request_tearing_down
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.http import remove_entity_headers
from werkzeug.wsgi import get_host

from api.core.http.request import Request, current_request
from api.core.http.routing import PathAdapter, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask.sessions import SessionMixin
    from flask.testing import FlaskCliRunner
    from flask.typing import ResponseReturnValue
    from werkzeug.routing import MapAdapter

    Hook = Callable[..., Any]

_NAMES_KEPT = 256
_NOT_MODIFIED = int(HTTPStatus.NOT_MODIFIED)
_BODILESS = frozenset({100, 101, 102, 103, 204})
_COMPLETED = frozenset({"Location", "Content-Location"})
"""Headers that werkzeug puts into another form,"""
_PLAIN = re.compile(r"(/[\w.~-]+)+", re.ASCII)
"""unless they are in it already."""


class Response(flask.Response):
    """An answer; one whose body is there as a whole is sent as it is, without being looked at once more."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it."""
        body = self.response
        headers = [*self.headers]
        names = {name for name, _ in headers}
        unchanged = self._status_code == _NOT_MODIFIED
        if (
            not isinstance(body, list)
            or not (unchanged or "Content-Length" in names)
            or self._on_close
            or self._status_code in _BODILESS
            or environ["REQUEST_METHOD"] == "HEAD"
            or (
                not names.isdisjoint(_COMPLETED)
                and any(name in _COMPLETED and not _PLAIN.fullmatch(value) for name, value in headers)
            )
        ):
            return super().__call__(environ, start_response)
        if unchanged:
            remove_entity_headers(headers)
        start_response(self._status, headers)
        if unchanged:
            return []
        return body if len(body) == 1 and isinstance(body[0], bytes) else [*self.iter_encoded()]


class MadeResponse(Response):
    """An answer whose status and headers are right as they are: werkzeug would look at each of them a few times."""

    def __init__(self, status: int, headers: list[tuple[str, str]], *body: bytes) -> None:
        self.headers = Headers()
        # Made here, of what was read already: there are no line breaks to be looked for.
        self.headers._list = headers  # noqa: SLF001 - werkzeug has no other way to it
        self._status, self._status_code = _status_line(status), status
        self.direct_passthrough = False
        self._on_close = []
        self.response = [*body]


@cache
def _status_line(status: int) -> str:
    return flask.Response(status=status).status


class _NoSessions(SessionInterface):
    """Whoever uses `flask.session` is told that there is none: who calls is told by tokens."""

    _none = NullSession()

    def open_session(self, app: Flask, request: flask.Request) -> NullSession:
        """Nothing is read from cookies."""
        del app, request
        return self._none

    def save_session(self, app: Flask, session: SessionMixin, response: flask.Response) -> None:
        """Nothing is written to cookies."""


class Application(Flask):
    """No cookies are signed, no view is a coroutine, and routes do not depend on the name of the host.

    What runs before and after a view is put together once for each endpoint: nothing is added to it later.
    """

    session_interface = _NoSessions()
    request_class = Request
    response_class = Response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._before: dict[str | None, tuple[Hook, ...]] = {}
        self._after: dict[str | None, tuple[Hook, ...]] = {}
        self._at_its_end: dict[str | None, tuple[Hook, ...]] = {}
        self._host = lru_cache(_NAMES_KEPT)(self._host_of)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Views are functions."""
        return func

    def test_cli_runner(self, **options: Any) -> FlaskCliRunner:
        """Load the commands before the runner redirects the output, for Alembic keeps the one that it finds."""
        self.cli.list_commands(Context(self.cli))
        return super().test_cli_runner(**options)

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Routes by path alone.

        Raises:
            SecurityError: for a `Host` that is no name.
        """
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        scheme = environ["wsgi.url_scheme"]
        header = environ.get("HTTP_HOST")
        request.host, name = (
            self._host(scheme, header) if header is not None else self._named(get_host(environ), scheme)
        )
        adapter = PathAdapter(
            self.url_map,
            name,
            request.root_path,
            "",
            scheme,
            request.path,
            request.method,
            request.query_string.decode(errors="replace"),
        )
        adapter.routes = self._routes
        return adapter

    def add_url_rule(self, *args: Any, **kwargs: Any) -> None:
        """Add a rule, and forget which routes there were: a context for URLs may have asked for them before."""
        super().add_url_rule(*args, **kwargs)
        self.__dict__.pop("_routes", None)

    @cached_property
    def _routes(self) -> Routes:
        return Routes(self.url_map)

    def full_dispatch_request(self) -> flask.Response:
        """Answer the request, from the first hook before its view to the last one behind it."""
        if request_started.receivers or request_finished.receivers:
            return super().full_dispatch_request()
        self._got_first_request = True
        try:
            answer: Any = self.preprocess_request()
            if answer is None:
                answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - as Flask itself does
            answer = self.handle_user_exception(error)
        return self.process_response(self.make_response(answer))

    def dispatch_request(self) -> ResponseReturnValue:
        """Call the view."""
        asked = current_request()
        rule, values = asked.url_rule, asked.view_args
        if rule is None or values is None or asked.routing_exception is not None or asked.method == "OPTIONS":
            return super().dispatch_request()
        return self.view_functions[rule.endpoint](**values)  # type: ignore[return-value]  # no view is a coroutine

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Run what comes before the view; the first that returns an answer has the say."""
        if self.url_value_preprocessors:
            return super().preprocess_request()
        asked = current_request()
        hooks = self._before.get(asked.endpoint)
        if hooks is None:
            names = (None, *reversed(asked.blueprints))
            hooks = self._before[asked.endpoint] = tuple(
                hook for name in names for hook in self.before_request_funcs.get(name, ())
            )
        for hook in hooks:
            answer: ResponseReturnValue | None = hook()
            if answer is not None:
                return answer
        return None

    def process_response(self, response: flask.Response) -> flask.Response:
        """Run what comes after the view."""
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - as Flask itself does
        if context._after_request_functions:  # noqa: SLF001 - as above
            return super().process_response(response)
        asked = context.request
        hooks = self._after.get(asked.endpoint)
        if hooks is None:
            hooks = self._after[asked.endpoint] = _outwards(self.after_request_funcs, asked)
        for hook in hooks:
            response = hook(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Run what has to be undone after a request."""
        asked = current_request()
        hooks = self._at_its_end.get(asked.endpoint)
        if hooks is None:
            hooks = self._at_its_end[asked.endpoint] = _outwards(self.teardown_request_funcs, asked)
        for hook in hooks:
            hook(exc)
        if request_tearing_down.receivers:
            request_tearing_down.send(self, exc=exc)

    def _host_of(self, scheme: str, header: str) -> tuple[str, str]:
        return self._named(get_host({"wsgi.url_scheme": scheme, "HTTP_HOST": header}), scheme)

    def _named(self, host: str, scheme: str) -> tuple[str, str]:
        """The host as it was asked for, and in its form for URLs."""
        return host, self.url_map.bind(host, None, "", scheme).server_name


def _outwards(registered: Mapping[str | None, Sequence[Hook]], asked: flask.Request) -> tuple[Hook, ...]:
    """The hooks of the blueprints, then those of the application; the last registered comes first."""
    return tuple(hook for name in (*asked.blueprints, None) for hook in reversed(registered.get(name, ())))
