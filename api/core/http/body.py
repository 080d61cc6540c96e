"""From a request's body to checked data."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from flask import current_app
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from api.core.errors import InvalidError, MalformedRequestError, UnsupportedMediaTypeError, Violation, pointer_to
from api.core.http.fields import json_depth_max
from api.core.http.request import current_request
from api.core.json_text import JSONContentError, JSONSyntaxError, check_depth, loads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flask import Request

JSON_TYPE = "application/json"
_BODY = "api.body"
_UNKNOWN = "Unknown field."
_BROKEN_OFF = "The body could not be read to its end."


class BodyParser(FlaskParser):
    """webargs' parser with our JSON, our errors and our strictness."""

    def parse(self, argmap: Any, req: Request | None = None, **kwargs: Any) -> Any:
        """The checked content; as the schema loads it, or another reader that it names for the body's media type."""
        sent = req or current_request()
        media_types = getattr(argmap, "media_types", {})
        reader = media_types.get(sent.mimetype)
        return reader(read_json(sent, media_types)) if reader else super().parse(argmap, sent, **kwargs)

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The parsed body.

        Raises:
            UnsupportedMediaTypeError: when the body is not declared as JSON.
            MalformedRequestError: when it is no JSON.
        """
        return read_json(req, getattr(schema, "media_types", (JSON_TYPE,)))

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Say what is wrong with the body, field by field."""
        del req, error_status_code, error_headers
        messages = error.normalized_messages()
        raise InvalidError(violations=violations_of(messages.get("json", messages), schema)) from error


def read_json(request: Request, media_types: Iterable[str] = (JSON_TYPE,)) -> Any:
    """The request's body as JSON, declared as one of `media_types`.

    Raises:
        UnsupportedMediaTypeError: when the body is not declared as JSON.
        MalformedRequestError: when it is no JSON, or holds what is not taken: a key twice, too long a number, too many
            levels.
    """
    body = raw_body(request)
    if not body and not request.content_type:
        raise MalformedRequestError("There is no body; send a JSON object as application/json.")
    if request.mimetype not in media_types:
        detail = f"The body is {request.mimetype or 'of no declared type'}; send it as {' or '.join(media_types)}."
        accept = "Accept-Patch" if request.method == "PATCH" else "Accept"
        raise UnsupportedMediaTypeError(detail, headers={accept: ", ".join(media_types)})
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        detail = "The body has a Content-Encoding; send it as it is. Only files to be imported may be packed."
        raise UnsupportedMediaTypeError(detail, headers={"Accept-Encoding": "identity"})
    return _parsed(body)


def _parsed(body: bytes) -> Any:
    try:
        content = loads(body)
        check_depth(content, body, json_depth_max())
    except JSONSyntaxError as error:
        detail = f"The body is not valid JSON: {error} at line {error.line}, column {error.column}."
        raise MalformedRequestError(detail) from error
    except JSONContentError as error:
        raise MalformedRequestError(violations=[Violation(str(error), pointer=pointer_to(error.path))]) from error
    return content


def raw_body(request: Request) -> bytes:
    """The whole body, kept for whoever asks again; raises what `_read` does."""
    if _BODY not in request.environ:
        request.environ[_BODY] = _read(request)
    body: bytes = request.environ[_BODY]
    return body


def can_be_read_again(request: Request) -> bool:
    """Whether the body is at hand, or there is none; one that a view has taken from the stream itself is gone."""
    if _BODY in request.environ:
        return True
    length, limit = request.content_length or 0, current_app.config["MAX_CONTENT_LENGTH"]
    if "Transfer-Encoding" in request.headers or (limit is not None and length > limit):
        return False
    try:
        # Empty where the view has read the stream to its end.
        return len(request.get_data()) == length
    except (OSError, RequestEntityTooLarge):
        return False


def _read(request: Request) -> bytes:
    """The whole body. One in chunks does not tell its length, so it is read to one byte beyond the limit.

    Only where the server says that the stream has an end: without that, a read would wait for the client to hang up.

    Raises:
        RequestEntityTooLarge: when it is longer than the limit.
        MalformedRequestError: when its chunks are broken.
    """
    try:
        limit = request.max_content_length
        in_chunks = request.content_length is None and request.environ.get("wsgi.input_terminated", False)
        if limit is None or not in_chunks:
            return request.get_data(cache=True)
    except OSError as error:
        raise MalformedRequestError(_BROKEN_OFF) from error
    try:
        body: bytes = request.environ["wsgi.input"].read(limit + 1)
    except Exception as error:
        # gunicorn's errors for broken chunks have no common class, and not all of them are OSErrors.
        raise MalformedRequestError(_BROKEN_OFF) from error
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def violations_of(messages: Any, schema: Schema | None = None) -> list[Violation]:
    """Marshmallow's nested messages as a flat list of violations."""
    return [*_flattened(messages, (), schema)]


def _flattened(messages: Any, path: tuple[Any, ...], schema: Any) -> Iterator[Violation]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            # marshmallow's key for the object itself, unless the client has sent a field of that name.
            inner = path if key == SCHEMA and value != [_UNKNOWN] else (*path, key)
            yield from _flattened(value, inner, schema)
    elif isinstance(messages, list):
        for message in messages:
            yield from _flattened(message, path, schema)
    else:
        yield Violation(_worded(str(messages), path, schema), pointer=pointer_to(path))


def _worded(message: str, path: tuple[Any, ...], schema: Any) -> str:
    if message == "Invalid input type." and (not path or isinstance(path[-1], int)):
        return "Must be a JSON object."
    if message != _UNKNOWN:
        return message
    for name in path[:-1]:
        field = None if isinstance(name, int) else getattr(schema, "load_fields", {}).get(name)
        schema = schema if isinstance(name, int) else getattr(field, "schema", None)
    known = [field.data_key or name for name, field in getattr(schema, "load_fields", {}).items()]
    near = get_close_matches(str(path[-1]), known, n=1)
    return f"Unknown field; did you mean {near[0]!r}?" if near else _UNKNOWN
