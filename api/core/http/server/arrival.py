"""Where a request ends in the bytes that have arrived; what they mean, gunicorn finds out."""

from __future__ import annotations

import re
from http import HTTPStatus

HEAD_MAX = 65_536
"""Bytes of the longest head, and of the longest trailers."""

_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_DIGITS_MAX = 18
_AHEAD = 4096
"""What gunicorn may read beyond the bytes that it is asked for."""


class Inbox:
    """What has arrived of the next request on a connection.

    It is complete when a thread would not have to wait for any of it: with its body, where that is at most `body_bytes`
    long, or else with the head; of a longer one in chunks, so much must be there that every reader finds it too long.
    """

    __slots__ = (
        "_body_bytes",
        "_chunk",
        "_head_end",
        "_line_max",
        "_payload",
        "_wanted",
        "content",
        "expects",
        "refusal",
        "streams",
    )

    def __init__(self, body_bytes: int, line_max: int) -> None:
        self._body_bytes, self._line_max = body_bytes, line_max
        self.content = bytearray()
        self._head_end = 0
        self._wanted: int | None = None
        self._chunk, self._payload = 0, 0
        self.expects = False
        """Whether the client waits for 100 Continue before it sends a body that is waited for here."""
        self.streams = False
        """Whether the body is too long to be kept, so that it is read while it arrives."""
        self.refusal: HTTPStatus | None = None
        """Why no more of the request is waited for."""

    def add(self, data: bytes) -> bool:
        """Add what has arrived; whether that is all, or more than can be."""
        searched = max(0, len(self.content) - len(_HEAD_END))
        self.content += data
        if not self._head_end and not self._find_head(searched):
            return self.refusal is not None
        if self._wanted is None:
            return self._chunks_have_arrived()
        return len(self.content) >= self._wanted

    @property
    def has_head(self) -> bool:
        """Whether only the body is missing."""
        return self._head_end > 0

    def _find_head(self, searched: int) -> bool:
        content = self.content
        found = content.find(_HEAD_END, searched)
        if max(found, 0) > HEAD_MAX or (found < 0 and len(content) > HEAD_MAX):
            self.refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return False
        if found < 0:
            # Behind an empty line, which may come first.
            most = self._line_max + 2 * len(_LINE_END)
            if len(content) > most and content.find(_LINE_END, len(_LINE_END), most) < 0:
                self.refusal = HTTPStatus.REQUEST_URI_TOO_LONG
            return False
        self._head_end = found + len(_HEAD_END)
        self._read_head(bytes(content[: found + len(_LINE_END)]))
        return True

    def _read_head(self, head: bytes) -> None:
        lengths: list[bytes] = []
        codings: list[bytes] = []
        expects = False
        for name, value in _FRAMING.findall(head):
            kind = name.lower()
            if kind == b"expect":
                expects = value.lower() == b"100-continue"
            else:
                (lengths if kind == b"content-length" else codings).append(value)
        self._wanted = self._head_end
        if len(lengths) + len(codings) != 1:
            # There is no body, or gunicorn refuses the request for its head.
            return
        if codings:
            self._wanted, self._chunk = None, self._head_end
        elif lengths[0].isdigit():
            self._wait_for_bytes(lengths[0].lstrip(b"0") or b"0")
        self.expects = expects and not self.streams

    def _wait_for_bytes(self, digits: bytes) -> None:
        size = int(digits) if len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX
        self.streams = size > self._body_bytes
        if not self.streams:
            self._wanted = self._head_end + size

    def _chunks_have_arrived(self) -> bool:
        """Go from chunk to chunk, as far as they have arrived."""
        content, most = self.content, self._body_bytes + _AHEAD
        while (line_end := content.find(_LINE_END, self._chunk)) >= 0:
            try:
                size = int(content[self._chunk : line_end].partition(b";")[0], 16)
            except ValueError:
                # gunicorn says so.
                return True
            if size <= 0:
                return self._trailers_have_arrived(line_end)
            begin = line_end + len(_LINE_END)
            if len(content) < begin + min(size, most - self._payload):
                break
            self._payload += size
            if self._payload > most:
                self.streams = True
                return True
            self._chunk = begin + size + len(_LINE_END)
        if len(content) - self._chunk > HEAD_MAX and line_end < 0:
            return True
        if len(content) - self._head_end > 2 * most + HEAD_MAX:
            self.refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return self.refusal is not None

    def _trailers_have_arrived(self, begin: int) -> bool:
        if self.content.find(_HEAD_END, begin) >= 0:
            return True
        if len(self.content) - begin > HEAD_MAX:
            self.refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return self.refusal is not None
