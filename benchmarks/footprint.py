"""What a server of ours takes: time from exec to the first answer, and memory at rest and after many requests.

    python -m benchmarks.footprint [--keep DIRECTORY] [--scale 0.2] [--requests 100000] [--starts 5]

Memory is each worker's: RSS, which counts the pages that it shares with its master and the other workers for each of
them anew; and PSS, which divides them.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.peers import load
from benchmarks.peers.account import log_in, make_manager
from benchmarks.peers.contenders import CONTENDERS, HOST, OWN, Server, running, started, stop
from benchmarks.peers.data import Scale
from benchmarks.peers.database import database
from benchmarks.peers.works import WORKS, Shop

if TYPE_CHECKING:
    from benchmarks.peers.contenders import Contender

SECONDS = 5
"""Of load between two looks at the memory."""


def main() -> None:
    """Start it a few times, then load it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, help="the directory of a database that `benchmarks.peers --keep` has filled"
    )
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    load.check_wrk()
    (ours,) = (each for each in CONTENDERS if each.name == OWN)
    with tempfile.TemporaryDirectory() as name:
        kept = (options.keep or Path(name) / "bench").resolve()
        with database(kept, Scale().shrunk(options.scale), print, keep=options.keep is not None) as url:
            login = make_manager(url, kept)
            logs = kept / "logs"
            logs.mkdir(exist_ok=True)
            times = [_start(ours, url, logs) for _ in range(options.starts)]
            print(f"ready after {median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
            with running([ours], url, Path(), logs) as (server,):
                log_in(server, login)
                _memory(server, Shop.at(url), kept, options.requests)


def _start(ours: Contender, url: str, logs: Path) -> float:
    """Seconds from exec to the first 200 of /readyz."""
    begin = time.monotonic()
    server = started(ours, url, Path(), logs)
    try:
        while not _is_ready(server):
            time.sleep(0.005)
        return time.monotonic() - begin
    finally:
        stop(server)


def _is_ready(server: Server) -> bool:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
    with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    return False


def _memory(server: Server, shop: Shop, kept: Path, requests: int) -> None:
    """Look at the workers before the first request, and again and again while reads of all kinds are sent."""
    print(f"at rest          {_workers(server)}")
    reads = [
        work for work in WORKS if work.status < http.client.BAD_REQUEST and not work.of and "create" not in work.name
    ]
    mixed = [request for work in reads for request in work.requests(server, shop, 1)]
    path = kept / "mixed.requests"
    load.write_requests(path, server, mixed)
    sent, told = 0, 0
    while sent < requests:
        sent += load.run(server, path, SECONDS, 16, sent).requests
        if sent - told >= requests / 10 or sent >= requests:
            told = sent
            print(f"after {sent:>10,} {_workers(server)}", flush=True)


def _workers(server: Server) -> str:
    """MiB of each worker."""
    master = server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
    found = []
    for child in children:
        lines = Path(f"/proc/{child}/smaps_rollup").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("Rss:", "Pss:"))}
        found.append(f"RSS {sizes['Rss']:.0f} MiB, PSS {sizes['Pss']:.0f} MiB")
    return "; ".join(found)


if __name__ == "__main__":
    main()
