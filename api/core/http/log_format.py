"""How logs look: JSON lines or text for people, structlog and standard `logging` alike, with no secret in them."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter

from api.core.database.context import current_request_id
from api.core.http.redaction import Redaction, hide_fields

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from api.config import Settings

_LEVELS = {"warn": "warning", "exception": "error"}
"""Levels by the methods that have other names."""
REQUEST_LOGGER = "api.request"
"""Name of the logger that writes one line per request."""

_CONTROL_CHARACTER = re.compile(r"[^\x20-\x7e\n\t\u00a1-\U0010ffff]|[\u2028\u2029]")


def configure_logging(settings: Settings) -> None:
    """Send structlog and standard `logging` to stderr: JSON lines or text, as the settings say. May be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _attribute,
        _format_exception,
        hide_fields,
    ]
    if not settings.json_logs:
        shared += [_request_as_sentence, _escape_control_characters]
    rendering = _Rendering(settings)
    structlog.configure(
        processors=[*shared, rendering],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )
    handler = _StderrHandler()
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, rendering])
    )
    _take_over_standard_logging(handler, settings)


def _take_over_standard_logging(handler: logging.Handler, settings: Settings) -> None:
    root = logging.getLogger()
    # Others' handlers stay: pytest's, for one.
    root.handlers = [*(other for other in root.handlers if not _writes_to_terminal(other)), handler]
    root.setLevel(settings.log_level)
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers = [other for other in gunicorn.handlers if not _writes_to_terminal(other)]
    gunicorn.propagate = True
    gunicorn.addFilter(_cut_query_strings)
    logging.getLogger("werkzeug").addFilter(_is_no_request_line)
    # At level info it names each of its parts, whenever it is imported.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    echo = logging.getLogger("sqlalchemy.engine.Engine")
    if not echo.handlers:
        # SQLAlchemy gives a logger without a handler one of its own, and every statement would appear twice.
        echo.addHandler(logging.NullHandler())
    if settings.json_logs:
        logging.captureWarnings(capture=True)


def _writes_to_terminal(handler: logging.Handler) -> bool:
    return type(handler) in {logging.StreamHandler, _StderrHandler}


def _is_no_request_line(record: logging.LogRecord) -> bool:
    """The development server's own line repeats ours, and shows the query string."""
    return not str(record.msg).endswith('"%s" %s %s')


def _cut_query_strings(record: logging.LogRecord) -> bool:
    """Of a request that it could not finish, gunicorn names the whole URL."""
    if str(record.msg).startswith("Error handling request") and isinstance(record.args, tuple):
        record.args = tuple(str(argument).partition("?")[0] for argument in record.args)
    return True


class _StderrLogger:
    """Writes finished lines. Looks `sys.stderr` up each time: it is another one after a redirection."""

    def __init__(self, name: str = "api") -> None:
        self.name = name

    def write(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = exception = write


class _StderrHandler(logging.StreamHandler[TextIO]):
    """As `_StderrLogger`, for standard `logging`."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Rendering:
    """The last processor: an event to its line, with no secret in it."""

    def __init__(self, settings: Settings) -> None:
        self._redact = Redaction(settings)
        self._render: Any = _as_json
        if not settings.json_logs:
            # The plain formatter: the default one prints local variables, and with them passwords.
            self._render = structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=40
            )

    def __call__(self, logger: Any, name: str, event: EventDict) -> str:
        line: str = self._render(logger, name, event)
        return self._redact(line)


def _as_json(_logger: Any, _name: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:
        # Lone surrogates, integers above 64 bits, keys that are no strings: slower, but never a lost line.
        return json.dumps({str(key): value for key, value in event.items()}, default=str)


def _attribute(logger: Any, name: str, event: EventDict) -> EventDict:
    """In which request, how grave, by whom and when: in one call what structlog has four processors for."""
    request_id = current_request_id()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    record = event.get("_record")
    event["level"] = _LEVELS.get(name, name)
    event["logger"] = (logger if record is None else record).name
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return event


def _format_exception(logger: Any, name: str, event: EventDict) -> EventDict:
    return structlog.processors.format_exc_info(logger, name, event) if "exc_info" in event else event


def _request_as_sentence(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """A request's line as people read it: method, path and status first."""
    if event.get("logger") == REQUEST_LOGGER:
        event["event"] = f"{event.pop('method')} {event.pop('path')} {event.pop('status')}"
    return event


def _escape_control_characters(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """In text, only what begins at the margin is a record: further lines are set in, other controls are spelt out."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            escaped = _CONTROL_CHARACTER.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
            event[key] = ("    " if key == "exception" else "") + escaped.replace("\n", "\n    ")
    return event
