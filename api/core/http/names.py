"""Names of hosts and origins, as settings may write them."""

from __future__ import annotations

import re

ANY = "*"

_NAME = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]"
_HOST = re.compile(rf"\.?(?:{_NAME})", re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://(?:{_NAME})(?::[1-9][0-9]{{0,4}})?", re.ASCII)
_USUAL_PORTS = {"http": ":80", "https": ":443"}


def parse_hosts(text: str) -> tuple[str, ...]:
    """Names and addresses without a port, separated by commas; `.example.com` with its subdomains; `*` for any.

    Raises:
        ValueError: naming the one that is wrong, and what is valid.
    """
    hosts = _listed(text)
    for host in hosts:
        if host != ANY and not _HOST.fullmatch(host):
            raise ValueError(
                f"names {host!r}; a valid one is a name or address without scheme, port and path: "
                "api.example.com, .example.com (with its subdomains), 127.0.0.1, [::1]"
            )
    return hosts


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers send them: scheme, host and, unless it is the scheme's own, port; `*` for any.

    Raises:
        ValueError: naming the one that is wrong, and what is valid.
    """
    origins = _listed(text)
    for origin in origins:
        has_usual_port = origin.endswith(_USUAL_PORTS.get(origin.partition("://")[0], "://"))
        if origin != ANY and (has_usual_port or not _ORIGIN.fullmatch(origin)):
            raise ValueError(
                f"names {origin!r}; a valid one is an origin as browsers send it, in small letters, without a path "
                "and without the scheme's usual port: https://app.example.com, http://localhost:3000"
            )
    return origins


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
