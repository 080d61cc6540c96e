"""A body that is too long for the memory, kept on disk so that it can be read more than once."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from api.core.errors import MalformedRequestError

if TYPE_CHECKING:
    from flask import Request

_SPOOL = "api.spool"
_IN_MEMORY = 1 << 20
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Spool:
    file: SpooledTemporaryFile[bytes]
    digest: bytes


def spooled_digest(request: Request, largest: int) -> bytes:
    """The SHA-256 of the body, which `request.stream` reads from a temporary file from now on.

    Raises:
        RequestEntityTooLarge: when the body is longer than `largest` bytes.
        MalformedRequestError: when it breaks off.
    """
    if _SPOOL not in request.environ:
        request.max_content_length = largest
        request.environ[_SPOOL] = _copied(request.environ, largest)
        rewind(request)
    spool: _Spool = request.environ[_SPOOL]
    return spool.digest


def _copied(environ: dict[str, Any], largest: int) -> _Spool:
    digest = sha256()
    file = SpooledTemporaryFile[bytes](_IN_MEMORY)
    try:
        stream = get_input_stream(environ, max_content_length=largest)
        while block := stream.read(_BLOCK):
            digest.update(block)
            file.write(block)
    except BaseException as error:
        file.close()
        if isinstance(error, RequestEntityTooLarge) or not isinstance(error, Exception):
            raise
        # Whatever the server raises where chunks are broken or the client has gone: each has its own errors.
        raise MalformedRequestError("The body could not be read to its end.") from error
    return _Spool(file, digest.digest())


def rewind(request: Request) -> bool:
    """Have the body read from its beginning again; False where it has not been kept."""
    spool: _Spool | None = request.environ.get(_SPOOL)
    if spool is None:
        return False
    spool.file.seek(0)
    request.environ["wsgi.input"] = spool.file
    # werkzeug has made it of the input, and keeps it.
    request.__dict__.pop("stream", None)
    return True


def discard(request: Request) -> None:
    """Remove the temporary file, if there is one."""
    spool: _Spool | None = request.environ.pop(_SPOOL, None)
    if spool is not None:
        spool.file.close()
