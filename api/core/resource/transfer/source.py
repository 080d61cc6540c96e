"""From the bytes of a file to its lines: unpacked, bounded, never held whole."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

from api.core.errors import MalformedRequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_SIZE = 65_536
UNPACKED_SIZE = 262_144
"""The most that is unpacked at a time, however little was read."""

LINE_MAX = 1_048_576
"""Bytes of the longest line, and of the longest row."""

_BARREN_MEMBERS_MAX = 100
"""Members of a gzip file without content behind one another; each costs time and counts for nothing."""

_GZIP = zlib.MAX_WBITS | 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Source(Protocol):
    """A file or a request's body."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def blocks(source: Source, *, packed: bool, largest: int | None) -> Iterator[bytes]:
    """The content of `source`, which is gzip where it is `packed`.

    Raises:
        MalformedRequestError: when it is packed in another way, or breaks off.
        TooLargeError: when it is, unpacked, more than `largest` bytes.
    """
    size = 0
    for block in _unpacked(source) if packed else iter(lambda: source.read(BLOCK_SIZE), b""):
        size += len(block)
        if largest is not None and size > largest:
            raise TooLargeError(f"The file is larger than {largest} bytes{' when unpacked' if packed else ''}.")
        yield block


def _unpacked(source: Source) -> Iterator[bytes]:
    """The content of the gzip members of `source`, of which there may be several behind one another."""
    unpacker, rest = zlib.decompressobj(_GZIP), b""
    started, barren = False, 0
    while rest or (rest := source.read(BLOCK_SIZE)):
        if unpacker.eof:
            unpacker, started, barren = zlib.decompressobj(_GZIP), False, barren + 1
            if barren > _BARREN_MEMBERS_MAX:
                raise MalformedRequestError("The gzip file goes on and on without content.")
        try:
            block = unpacker.decompress(rest, UNPACKED_SIZE)
        except zlib.error as error:
            raise MalformedRequestError("The file is not valid gzip.") from error
        started = True
        rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        if block:
            barren = 0
            yield block
    if started and not unpacker.eof:
        raise MalformedRequestError("The gzip file breaks off.")


def lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their line feed; a byte order mark in front of the first one is left out.

    Raises:
        MalformedRequestError: for a line that is too long.
    """
    rest, number = b"", 1
    is_first = True
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        if is_first and (whole or len(rest) >= len(_BYTE_ORDER_MARK)):
            is_first = False
            whole, rest = _without_mark(whole, rest)
        number += len(whole)
        if len(rest) > LINE_MAX:
            raise MalformedRequestError(f"Line {number} is longer than {LINE_MAX} bytes.")
        yield from whole
    if rest:
        yield rest


def _without_mark(whole: list[bytes], rest: bytes) -> tuple[list[bytes], bytes]:
    if whole:
        return [whole[0].removeprefix(_BYTE_ORDER_MARK), *whole[1:]], rest
    return whole, rest.removeprefix(_BYTE_ORDER_MARK)
