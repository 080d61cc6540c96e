"""Conditional requests (RFC 9110, section 13): `ETag` tells a row's version, `If-Match` and `If-None-Match` name it.

The tag is made of key and version alone, so that it is the same whatever fields of the row are asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from api.core.errors import MalformedRequestError, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Request

_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAG_LIST = re.compile(rf"{_TAG.pattern}([ \t]*,[ \t]*{_TAG.pattern})*")


def etag(key: Any, version: int) -> str:
    """The entity tag of a version of the row with this key."""
    return f'"{key}-{version}"'


def expected_versions(request: Request, key: Any) -> frozenset[int] | None:
    """The versions of the row with this key that `If-Match` names; None for no such header and for `*`.

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
            violations=[Violation(f'Must be the ETag of the resource, such as "{key}-3".', header="If-Match")]
        )
    # A weak tag never matches here (RFC 9110, 13.1.1), nor does one that was never ours.
    return _versions((tag for weak, tag in _TAG.findall(header) if not weak), key)


def known_versions(request: Request, key: Any) -> frozenset[int] | None:
    """The versions of the row with this key that the client has, by `If-None-Match`; None for `*`, any of them."""
    header = request.environ.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return frozenset()
    begin = f'"{key}-'
    if header.startswith(begin) and _VERSION.fullmatch(header, len(begin), len(header) - 1) and header[-1] == '"':
        # What nearly every client sends.
        return frozenset((int(header[len(begin) : -1]),))
    if request.if_none_match.star_tag:
        return None
    return _versions(request.if_none_match.as_set(include_weak=True), key)


def _versions(tags: Iterable[str], key: Any) -> frozenset[int]:
    """The versions that tags of the row with this key stand for; others say nothing."""
    # werkzeug has None for an empty tag.
    mine = (tag.removeprefix(f"{key}-") for tag in tags if tag and tag.startswith(f"{key}-"))
    return frozenset(int(version) for version in mine if _VERSION.fullmatch(version))
