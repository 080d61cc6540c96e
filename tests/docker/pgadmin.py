"""pgAdmin, used as its own pages use it."""

from __future__ import annotations

import re
import secrets
import time
from http import HTTPStatus
from typing import Any

import requests

ADDED_SERVERS = 1
"""The server group that servers.json puts its servers into."""


class PgAdmin:
    """A browser's session without the browser."""

    def __init__(self, url: str) -> None:
        """Open the start page and take the token that every later request must show."""
        self._url = url
        self._session = requests.Session()
        self.start_page = self._session.get(f"{url}/", timeout=60)
        script = self._session.get(f"{url}/browser/js/utils.js", timeout=60).text
        token = re.search(r"\['csrf_token'\] = '([^']+)'", script)
        assert token, "pgAdmin did not let us in: there is no token in its pages"
        self._session.headers["X-pgA-CSRFToken"] = token[1]

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=60)
        assert answer.status_code == HTTPStatus.OK, f"{method} {path}: {answer.status_code} {answer.text}"
        content: dict[str, Any] = answer.json()
        return content

    def servers(self) -> list[dict[str, Any]]:
        """The servers in the tree on the left."""
        found: list[dict[str, Any]] = self._call("GET", f"/browser/server/nodes/{ADDED_SERVERS}/")["result"]
        return found

    def connect(self, server: int) -> dict[str, Any]:
        """Click on a server; no password is sent along."""
        connected: dict[str, Any] = self._call("POST", f"/browser/server/connect/{ADDED_SERVERS}/{server}", {})["data"]
        return connected

    def query(self, connected: dict[str, Any], sql: str) -> list[list[Any]]:
        """Run a statement in the query tool of a connected server; the rows that it shows."""
        tool = secrets.randbelow(9_000_000) + 1_000_000
        target = f"{ADDED_SERVERS}/{connected['sid']}/{connected['did']}"
        login = {"user": connected["user"]["name"], "dbname": connected["db"]}
        self._call("POST", f"/sqleditor/initialize/sqleditor/{tool}/{target}", login)
        self._call("POST", f"/sqleditor/query_tool/start/{tool}", {"sql": sql, "explain_plan": None})
        while (data := self._call("GET", f"/sqleditor/poll/{tool}")["data"])["status"] == "Busy":
            time.sleep(0.1)
        assert data["status"] == "Success", data
        self._session.delete(f"{self._url}/sqleditor/close/{tool}", timeout=60)
        rows: list[list[Any]] = data["result"]
        return rows
