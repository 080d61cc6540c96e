"""The load: wrk, which is compiled and answers to nobody, sends what a file holds over connections that stay open."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.contenders import Server
    from benchmarks.peers.works import Request

NUMBERED = "create-product"
"""The work whose requests bear a number of their own."""
SCRIPT = Path(__file__).with_name("load.lua")
_ROUND = 1_000_000
"""More requests than a round can send."""
_numbers = itertools.count(int(time.time()) % 10_000_000 * 100 * _ROUND, _ROUND)


@dataclass(frozen=True)
class Round:
    """What one round has measured; latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float
    """Milliseconds of CPU time that the server's processes took for a request, without the database's."""
    requests: int


def check_wrk() -> None:
    """End with a message where there is no wrk.

    Raises:
        SystemExit: with how to install it.
    """
    if shutil.which("wrk") is None:
        sys.exit(
            "wrk sends the load, and is not installed. On Debian and Ubuntu: apt install wrk; macOS: brew install wrk"
        )


def write_requests(path: Path, server: Server, requests: list[Request]) -> None:
    """Write the requests as they go over the wire."""
    path.write_bytes(b"\0".join(_raw(server, request) for request in requests))


def _raw(server: Server, request: Request) -> bytes:
    headers = {"Host": server.address.removeprefix("http://"), **server.headers(), **request.headers}
    content = request.content
    if content is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (content or b"")


def run(server: Server, path: Path, seconds: float, connections: int, seed: int) -> Round:
    """Send the requests of a file for some seconds. The same `seed` draws the same requests.

    Raises:
        SystemExit: when any answer was an error, or any connection broke.
    """
    cpu = server.cpu_seconds()
    begin = next(_numbers) if NUMBERED in path.name else seed
    options = {"threads": 1, "connections": connections, "duration": f"{max(1, round(seconds))}s", "timeout": "30s"}
    result = subprocess.run(
        [
            "wrk",
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
            *("--script", str(SCRIPT), server.address, "--", str(path), str(begin)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        sys.exit(f"wrk has failed:\n{result.stdout}{result.stderr}")
    found = json.loads(result.stdout.splitlines()[-1])
    name = server.contender.name
    if found["refused"] or found["broken"] or not found["requests"]:
        sys.exit(f"{name}, {path.stem}: {found['refused']} errors, {found['broken']} broken of {found['requests']}")
    return Round(
        rate=found["requests"] / found["microseconds"] * 1e6,
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        cpu=1000 * (server.cpu_seconds() - cpu) / found["requests"],
        requests=found["requests"],
    )
