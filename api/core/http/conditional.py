"""Conditional requests (RFC 9110, section 13): `ETag` tells a row's version, `If-Match` and `If-None-Match` name it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from api.core.errors import MalformedRequestError, Violation

if TYPE_CHECKING:
    from flask import Request

_OURS = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAG_LIST = re.compile(rf"{_TAG.pattern}([ \t]*,[ \t]*{_TAG.pattern})*")


def etag(version: int) -> str:
    """The entity tag of a row's version; the URL identifies the row."""
    return f'"{version}"'


def expected_versions(request: Request) -> frozenset[int] | None:
    """The versions that `If-Match` names, of tags that may be ours; None for no such header and for `*`.

    Raises:
        MalformedRequestError: for a header with no tag in it.
    """
    if "If-Match" not in request.headers:
        return None
    header = request.headers["If-Match"].strip()
    if header == "*":
        return None
    tags = _TAG_LIST.fullmatch(header)
    if tags is None:
        raise MalformedRequestError(
            violations=[Violation('Must be the ETag of the resource, such as "3".', header="If-Match")]
        )
    # A weak tag never matches here (RFC 9110, 13.1.1), nor does one that was never ours.
    strong = (tag for weak, tag in _TAG.findall(header) if not weak)
    return frozenset(int(tag) for tag in strong if _OURS.fullmatch(tag))


def is_unchanged(request: Request, version: int) -> bool:
    """Whether the client already has this version, by `If-None-Match`."""
    return "If-None-Match" in request.headers and request.if_none_match.contains_weak(str(version))
