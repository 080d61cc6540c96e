"""The rounds: every contender in turn, in another order each time: what else the machine does meets them all."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.peers import load
from benchmarks.peers.contenders import OWN, Server
from benchmarks.peers.load import Round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.peers.works import Shop, Work

WARM_UP = 1.0
_SEED = 1_000


@dataclass(frozen=True)
class Plan:
    """How long is measured: so many rounds of so many seconds, over so many connections."""

    rounds: int = 5
    seconds: float = 3
    connections: int = 32


@dataclass
class Measured:
    """The rounds of one work, by contender."""

    work: str
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    def ratios(self, other: str) -> list[float]:
        """Our rate divided by another's, round by round."""
        pairs = zip(self.rounds[OWN], self.rounds[other], strict=True)
        return [ours.rate / theirs.rate for ours, theirs in pairs]

    def middle(self, name: str, figure: str) -> float:
        """The median of the rounds' `rate`, `p50`, `p99` or `cpu`."""
        return median(getattr(found, figure) for found in self.rounds[name])


def measure(
    work: Work, servers: Sequence[Server], shop: Shop, plan: Plan, directory: Path, tell: Callable[[str], None]
) -> Measured:
    """Send one work to all servers."""
    files = {}
    for server in servers:
        name = server.contender.name
        files[name] = directory / f"{work.name}-{name}.requests"
        load.write_requests(files[name], server, work.requests(server, shop, _SEED))
    connections = work.connections or plan.connections
    for server in servers:
        load.run(server, files[server.contender.name], min(WARM_UP, plan.seconds), connections, 0)
    found = Measured(work.name, {server.contender.name: [] for server in servers})
    for number in range(plan.rounds):
        turn = number % len(servers)
        for server in [*servers[turn:], *servers[:turn]]:
            name = server.contender.name
            found.rounds[name].append(load.run(server, files[name], plan.seconds, connections, number + 1))
        tell("  " + "  ".join(f"{name} {taken[-1].rate:,.0f}/s" for name, taken in found.rounds.items()))
    return found


def idle_share(servers: Sequence[Server], seconds: float = 3) -> float:
    """How much of one core all servers together take while nobody asks them anything."""
    before = sum(server.cpu_seconds() for server in servers)
    time.sleep(seconds)
    return (sum(server.cpu_seconds() for server in servers) - before) / seconds
