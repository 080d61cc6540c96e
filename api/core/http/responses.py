"""Rows and pages as responses: PostgreSQL's bytes with the envelope around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from flask import request

from api.core.http import conditional
from api.core.http.application import Response
from api.core.http.body import JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from api.core.query.allowlist import Limits
    from api.core.query.cursor import CursorCodec
    from api.core.query.plan import Position, QueryPlan
    from api.core.query.read import Groups, Row, Rows

_PLACE_PARAMETERS = frozenset({"cursor", "page"})


def row_response(row: Row, key: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The row with this key, with the ETag of its version."""
    told = {} if row.version is None else {"ETag": conditional.etag(key, row.version)}
    # A content type is taken as it is, where a mimetype is taken apart.
    return Response(row.body, status, {**told, **(headers or {})}, content_type=JSON_TYPE)


def no_content() -> Response:
    """204: done, and nothing to show, so that there is no type of it either."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def not_modified(key: Any, version: int) -> Response:
    """304: the client has this version already."""
    return Response(status=304, headers={"ETag": conditional.etag(key, version)})


def page_response(
    rows: Rows, plan: QueryPlan, pairs: Sequence[tuple[str, str]], cursors: CursorCodec, limits: Limits
) -> Response:
    """A page, with the neighbouring pages' addresses in the body and in `Link` (RFC 8288)."""
    following, previous = _neighbours(rows, plan, pairs, cursors, limits)
    parts = ['{"items":', rows.items, ',"next":', _json(following), ',"prev":', _json(previous)]
    if plan.count != "none":
        parts += [',"total":', str(rows.total)]
    parts.append("}")
    response = Response("".join(parts), content_type=JSON_TYPE)
    links = [f'<{url}>; rel="{relation}"' for relation, url in (("next", following), ("prev", previous)) if url]
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def groups_response(groups: Groups) -> Response:
    """The groups of an aggregation, and whether there are more."""
    return Response(f'{{"groups":{groups.items},"more":{str(groups.more).lower()}}}', content_type=JSON_TYPE)


def _neighbours(
    rows: Rows, plan: QueryPlan, pairs: Sequence[tuple[str, str]], cursors: CursorCodec, limits: Limits
) -> tuple[str | None, str | None]:
    page = plan.page
    if page is not None and page.offset is not None:
        number = page.offset // page.size + 1
        following = number + 1 if rows.more and page.offset + page.size <= limits.offset_max else None
        return _page_url(pairs, following), _page_url(pairs, number - 1 if number > 1 else None)
    binding = plan.fingerprint() if rows.next or rows.previous else b""

    def url(position: Position | None) -> str | None:
        return None if position is None else _url(pairs, "cursor", cursors.encode(position, binding))

    return url(rows.next), url(rows.previous)


def _page_url(pairs: Sequence[tuple[str, str]], number: int | None) -> str | None:
    return None if number is None else _url(pairs, "page", str(number))


def _url(pairs: Sequence[tuple[str, str]], name: str, value: str) -> str:
    kept = [pair for pair in pairs if pair[0] not in _PLACE_PARAMETERS]
    return f"{request.script_root}{request.path}?{urlencode([*kept, (name, value)])}"


def _json(url: str | None) -> str:
    return orjson.dumps(url).decode()
