"""A WSGI application without anything around it, which shows how its server reads requests and treats its clients."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say what was sent; `/big?n` answers with n bytes, `/sleep?n` after n seconds, `/loop` never.

    `/broken?n` fails n seconds after it has begun to answer, `/exit` exits.
    """
    path, number = environ["PATH_INFO"], float((parse_qs(environ["QUERY_STRING"]).get("n") or ["0"])[0])
    if path == "/loop":
        while True:
            pass
    if path == "/exit":
        sys.exit("the view has had enough")
    if path == "/broken":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _broken(number)
    if path == "/sleep":
        time.sleep(number)
    unread = path == "/unread"
    if path == "/big":
        content = b"x" * int(number)
    else:
        body = "" if unread else environ["wsgi.input"].read().decode("latin-1")
        content = json.dumps({"asked": f"{environ['REQUEST_METHOD']} {path}", "body": body}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


def _broken(seconds: float) -> Iterator[bytes]:
    yield b"begun"
    time.sleep(seconds)
    raise RuntimeError("broken off")
