"""A file as a request's body: which format it is in, and its bytes, however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from api.core.errors import MalformedRequestError, TooLargeError, UnsupportedMediaTypeError
from api.core.resource.transfer.formats import Format

if TYPE_CHECKING:
    from flask import Request

_FORMATS = {"text/csv": Format.CSV, "application/x-ndjson": Format.NDJSON, "application/ndjson": Format.NDJSON}


def format_of(request: Request) -> Format:
    """What the Content-Type says.

    Raises:
        UnsupportedMediaTypeError: naming what is possible.
    """
    found = _FORMATS.get(request.mimetype)
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if found is None or charset not in {"utf-8", "us-ascii"}:
        possible = [item.media_type for item in Format]
        given = request.content_type if found else request.mimetype or "of no declared type"
        detail = f"The body is {given}; send the file as {' or '.join(possible)}, in UTF-8."
        raise UnsupportedMediaTypeError(detail, headers={"Accept": ", ".join(possible)})
    return found


def is_packed(request: Request) -> bool:
    """Whether the body is gzip.

    Raises:
        UnsupportedMediaTypeError: for another Content-Encoding.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        detail = f"The Content-Encoding is {encoding!r}; pack the file with gzip, or not at all."
        raise UnsupportedMediaTypeError(detail, headers={"Accept-Encoding": "gzip"})
    return encoding != "identity"


class Upload:
    """The body as it comes in; one that breaks off is an error, and no end of the file."""

    def __init__(self, request: Request, largest: int) -> None:
        """Read the body of `request`, of at most `largest` bytes."""
        request.max_content_length = largest
        self._request = request
        self._largest = largest
        self._missing = request.content_length

    def read(self, size: int, /) -> bytes:
        """The next bytes.

        Raises:
            MalformedRequestError: when the body breaks off.
            TooLargeError: when it is longer than it may be.
        """
        try:
            data = self._request.stream.read(size)
        except HTTPException as error:
            if error.code == TooLargeError.status:
                raise TooLargeError(f"The file is larger than {self._largest} bytes.") from error
            raise _broken_off() from error
        except Exception as error:
            # Whatever the server raises where chunks are broken or the client has gone: each has its own errors.
            raise _broken_off() from error
        if self._missing is not None:
            self._missing -= len(data)
            if not data and self._missing > 0:
                raise _broken_off()
        return data


def _broken_off() -> MalformedRequestError:
    return MalformedRequestError("The body could not be read to its end.")
