"""Rows and pages as responses: PostgreSQL's bytes with the envelope around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from api.core.http import conditional
from api.core.http.application import MadeResponse, Response
from api.core.http.body import JSON_TYPE
from api.core.http.request import current_request

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
    return _json_response(row.body or "", status, {**told, **(headers or {})})


def no_content() -> Response:
    """204: done, and nothing to show, so that there is no type of it either."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def not_modified(key: Any, version: int) -> Response:
    """304: the client has this version already."""
    return MadeResponse(304, [("ETag", conditional.etag(key, version))])


def kept_parameters(pairs: Sequence[tuple[str, str]]) -> str:
    """What of a query string its neighbouring pages' addresses have in common, as it stands in front of their place."""
    kept = urlencode([pair for pair in pairs if pair[0] not in _PLACE_PARAMETERS])
    return f"{kept}&" if kept else ""


def page_response(rows: Rows, plan: QueryPlan, kept: str, cursors: CursorCodec, limits: Limits) -> Response:
    """A page, with the neighbouring pages' addresses in the body and in `Link` (RFC 8288).

    `kept` are the `kept_parameters` of the request.
    """
    asked = current_request()
    following, previous = _neighbours(rows, plan, f"{asked.root_path}{asked.path}?{kept}", cursors, limits)
    parts = ['{"items":', rows.items, ',"next":', _json(following), ',"prev":', _json(previous)]
    if plan.count != "none":
        parts += [',"total":', str(rows.total)]
    parts.append("}")
    links = [f'<{url}>; rel="{relation}"' for relation, url in (("next", following), ("prev", previous)) if url]
    return _json_response("".join(parts), headers={"Link": ", ".join(links)} if links else {})


def groups_response(groups: Groups) -> Response:
    """The groups of an aggregation, and whether there are more."""
    return _json_response(f'{{"groups":{groups.items},"more":{str(groups.more).lower()}}}')


def _json_response(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`text` as it is."""
    body = text.encode()
    told = [("Content-Type", JSON_TYPE), ("Content-Length", str(len(body))), *(headers or {}).items()]
    return MadeResponse(status, told, body)


def _neighbours(
    rows: Rows, plan: QueryPlan, address: str, cursors: CursorCodec, limits: Limits
) -> tuple[str | None, str | None]:
    page = plan.page
    if page is not None and page.offset is not None:
        number = page.offset // page.size + 1
        following = number + 1 if rows.more and page.offset + page.size <= limits.offset_max else None
        return _page_url(address, following), _page_url(address, number - 1 if number > 1 else None)
    binding = plan.fingerprint() if rows.next or rows.previous else b""

    def url(position: Position | None) -> str | None:
        # Of an alphabet that URLs take as it is.
        return None if position is None else f"{address}cursor={cursors.encode(position, binding)}"

    return url(rows.next), url(rows.previous)


def _page_url(address: str, number: int | None) -> str | None:
    return None if number is None else f"{address}page={number}"


def _json(url: str | None) -> str:
    return orjson.dumps(url).decode()
