"""One log line per request, with its id, route, status, duration and number of statements.

Whatever is logged within a request, through `structlog` or standard `logging`, bears its `request_id`.
Query strings, headers and bodies are never logged.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING

import structlog
from flask import request

from api.core.database.context import begin_request, end_request
from api.core.database.model import new_uuid_text
from api.core.database.statements import StatementCounter
from api.core.errors import UnavailableError
from api.core.http.log_format import REQUEST_LOGGER, configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException

    from api.config import Settings

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

REQUEST_ID_HEADER = "X-Request-ID"
QUIET_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})
"""Polled every few seconds: logged at level debug only, unless they crash."""

_EXCHANGE = "api.exchange"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_STATUSES_WITHOUT_BODY = frozenset({204, 304})
_SERVER_ERROR = 500


class Exchange:
    """One request and its answer, as the log and the metrics see it when it is over."""

    __slots__ = (
        "broken",
        "environ",
        "error",
        "method",
        "request_id",
        "retries",
        "route",
        "seconds",
        "started",
        "statements",
        "status",
    )

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.request_id = _request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        self.route: str | None = None
        """The URL rule, such as `/api/v1/products/<int:id>`; None where none matched."""
        self.status = _SERVER_ERROR
        self.started = perf_counter()
        self.seconds = 0.0
        self.statements = 0
        self.retries = 0
        """How often the view was run again because its transaction had lost against another one."""
        self.error: BaseException | None = None
        """What the view raised, also when an error handler has answered it."""
        self.broken = False
        """Whether there was no answer, or it broke off half-way."""

    def answer(self, status: int) -> None:
        """Note the answer's status, and the route, which Flask forgets when the request is over."""
        self.status = status
        # Another middleware's answer has no rule.
        rule = getattr(self.environ.get("werkzeug.request"), "url_rule", None)
        if rule is not None:
            self.route = rule.rule


class RequestLog:
    """WSGI middleware: gives every request an id, times it, counts its statements, and logs it when it is over."""

    def __init__(self, wsgi_app: WSGIApplication) -> None:
        self._wsgi_app = wsgi_app
        # Assembled here, so that no request pays for it.
        self._logger = structlog.get_logger(REQUEST_LOGGER).bind()
        self.observers: list[Callable[[Exchange], None]] = []
        """Called with every exchange when it is over and its connections are back in the pool."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; a streamed answer is over when its last byte was taken."""
        exchange = environ[_EXCHANGE] = Exchange(environ)
        counter = StatementCounter()
        counter.start()
        structlog.contextvars.clear_contextvars()
        begin_request(exchange.request_id)
        streamed = False

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal streamed
            exchange.answer(int(status[:3]))
            streamed = _is_streamed(exchange, headers)
            headers.append((REQUEST_ID_HEADER, exchange.request_id))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            body = self._wsgi_app(environ, start)
        except BaseException as error:
            exchange.error, exchange.broken = error, True
            self._finish(exchange, counter)
            raise
        if streamed:
            return _Stream(body, exchange, lambda: self._finish(exchange, counter))
        self._finish(exchange, counter)
        return body

    def _finish(self, exchange: Exchange, counter: StatementCounter) -> None:
        exchange.seconds = perf_counter() - exchange.started
        counter.stop()
        exchange.statements = counter.count
        self._log(exchange)
        for observe in self.observers:
            observe(exchange)
        # The environment and the traceback's frames refer to the exchange and it to them: spare the garbage collector.
        del exchange.environ[_EXCHANGE]
        exchange.error = None
        end_request()

    def _log(self, exchange: Exchange) -> None:
        failed = exchange.broken or exchange.status >= _SERVER_ERROR
        error = exchange.error if failed else None
        if exchange.route in QUIET_ROUTES and error is None:
            write = self._logger.debug
        else:
            write = self._logger.error if failed else self._logger.info
        environ = exchange.environ
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        fields = {
            "method": _printable(exchange.method),
            "path": _printable(path if path.isascii() else path.encode("latin-1").decode(errors="replace")),
            "route": exchange.route,
            "status": exchange.status,
            "duration_ms": round(exchange.seconds * 1000, 2),
            "statements": exchange.statements,
            "remote_addr": environ.get("REMOTE_ADDR"),
        }
        if exchange.retries:
            fields["retries"] = exchange.retries
        if isinstance(error, UnavailableError):
            # A database that is away is no mistake in the code, and there may be thousands of these.
            fields["reason"] = str(error.__cause__ or error).partition("\n")[0]
        elif error is not None:
            fields["exc_info"] = error
        write("request", **fields)


class _Stream:
    """The body of a streamed answer, which tells when it is over."""

    def __init__(self, body: Iterable[bytes], exchange: Exchange, finish: Callable[[], None]) -> None:
        self._body = body
        self._iterator = iter(body)
        self._exchange = exchange
        self._finish: Callable[[], None] | None = finish

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._iterator)
        except StopIteration:
            self._over()
            raise
        except BaseException as error:
            self._exchange.error, self._exchange.broken = error, True
            raise

    def close(self) -> None:
        """Called by the server after the last byte, or when the client has gone."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._over()

    def _over(self) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()


def init_app(app: Flask, settings: Settings) -> None:
    """Configure the logs of this process, and log every request to `app`. Call it behind other middleware."""
    configure_logging(settings)
    log = RequestLog(app.wsgi_app)
    app.wsgi_app = log  # type: ignore[method-assign]
    app.extensions["request_log"] = log
    answer = app.handle_user_exception

    def remember_and_answer(error: Exception) -> HTTPException | ResponseReturnValue:
        _remember(error)
        return answer(error)

    # Flask has no signal for an exception that an error handler answers; the log wants its traceback all the same.
    app.handle_user_exception = remember_and_answer  # type: ignore[assignment, method-assign]
    # Flask would log the traceback a second time, in a line without the request's fields.
    app.log_exception = lambda exc_info: _remember(exc_info[1])  # type: ignore[method-assign]


def on_finished(app: Flask, observer: Callable[[Exchange], None]) -> None:
    """Call `observer` after every request to `app`. Call it behind `init_app()`."""
    log: RequestLog = app.extensions["request_log"]
    log.observers.append(observer)


def count_retry() -> None:
    """Note that the view of the current request is run again."""
    exchange: Exchange = request.environ[_EXCHANGE]
    exchange.retries += 1


def _remember(error: BaseException | None) -> None:
    exchange: Exchange = request.environ[_EXCHANGE]
    exchange.error = error


def _request_id(given: str) -> str:
    """The caller's id when it is well-formed, else a fresh one."""
    return given if _REQUEST_ID.fullmatch(given) else new_uuid_text()


def _is_streamed(exchange: Exchange, headers: list[tuple[str, str]]) -> bool:
    if exchange.status in _STATUSES_WITHOUT_BODY or exchange.method == "HEAD":
        return False
    # A loop, for this runs with every answer: any() takes twice as long.
    for name, _ in headers:  # noqa: SIM110
        if name == "Content-Length":
            return False
    return True


def _printable(text: str) -> str:
    """`text` on one line and without control characters: nobody forges a log line through a path."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
