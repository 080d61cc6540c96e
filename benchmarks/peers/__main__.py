"""Every contender on the same PostgreSQL, tables, rows and machine, in one run: `make bench`.

Prints the ratios, and writes a table and a plot:

    python -m benchmarks.peers [--quick] [--only ours,floor,product] [--keep DIRECTORY] [--json FILE] [--docs DIRECTORY]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import load
from benchmarks.peers.account import log_in, make_manager
from benchmarks.peers.check import check
from benchmarks.peers.contenders import CONTENDERS, OWN, Server, running
from benchmarks.peers.data import Scale
from benchmarks.peers.database import database, rows
from benchmarks.peers.environment import peers_python
from benchmarks.peers.measure import Measured, Plan, idle_share, measure
from benchmarks.peers.report import Report
from benchmarks.peers.works import WORKS, Shop, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers.contenders import Contender

QUICK_SCALE = 0.2
_begin = time.monotonic()


def tell(line: str) -> None:
    """Show how far it is."""
    print(f"[{time.monotonic() - _begin:5.0f} s] {line}", flush=True)


def main() -> None:
    """Fill, start, check, measure, report."""
    options = parsed()
    load.check_wrk()
    contenders, works = chosen(options.only)
    plan = Plan(options.rounds, options.seconds, options.connections)
    if options.quick:
        plan = replace(plan, rounds=3, seconds=1)
    scale = Scale().shrunk(options.scale or (QUICK_SCALE if options.quick else 1))
    python = peers_python(tell)
    with directory(options.keep) as kept, database(kept, scale, tell, keep=options.keep is not None) as url:
        login = make_manager(url, kept)
        with running(contenders, url, python, kept / "logs") as servers:
            log_in(servers[0], login)
            shop = Shop.at(url)
            tell(f"All are up; idle, they take {idle_share(servers):.1%} of a core together.")
            found = [compare(work, servers, shop, plan, url, kept) for work in works]
        ((version,),) = rows(url, "SHOW server_version")
        report = Report(contenders, works, found, scale, plan, version)
    print("\n" + report.markdown())
    if options.json:
        options.json.write_text(json.dumps(report.plain(), indent=1) + "\n")
    if options.docs:
        report.write(options.docs)


def parsed() -> argparse.Namespace:
    """What the command is told."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, 3 rounds of a second: does it work at all?")
    parser.add_argument("--only", default="", help="contenders and works by name, with commas")
    parser.add_argument("--scale", type=float, help="1 is 100,000 products and 1,000,000 orders")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="of each round; whole ones")
    parser.add_argument("--connections", type=int, default=Plan.connections, help="that stay open")
    parser.add_argument("--keep", type=Path, help="a directory that keeps the filled database for the next run")
    parser.add_argument("--json", type=Path, help="a file for every single round")
    parser.add_argument("--docs", type=Path, help="a directory for BENCHMARKS.md and its plot")
    return parser.parse_args()


def chosen(names: str) -> tuple[list[Contender], list[Work]]:
    """The contenders and works that are named; all of a kind where none of it is named. Ours is always there.

    Raises:
        SystemExit: for a name that is neither.
    """
    wanted = {name for name in names.split(",") if name}
    known = [each.name for each in (*CONTENDERS, *WORKS)]
    if unknown := wanted.difference(known):
        sys.exit(f"There is no {min(unknown)!r} among {', '.join(known)}.")
    contenders = [each for each in CONTENDERS if each.name in wanted]
    works = [each for each in WORKS if each.name in wanted]
    return (
        [each for each in CONTENDERS if each.name == OWN or each in contenders] if contenders else [*CONTENDERS],
        works or [*WORKS],
    )


@contextmanager
def directory(kept: Path | None) -> Iterator[Path]:
    """The one to keep, or one that is gone afterwards."""
    if kept is not None:
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "bench"


def compare(work: Work, servers: list[Server], shop: Shop, plan: Plan, url: str, kept: Path) -> Measured:
    """Check one work, and time it."""
    tell(f"{work.title}: checking")
    for server in servers[1:]:
        check(work, servers[0], server, shop, url)
    return measure(work, servers, shop, plan, kept, tell)


if __name__ == "__main__":
    main()
