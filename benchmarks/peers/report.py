"""What was measured, as tables in Markdown, a plot, and plain numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.contenders import FLOOR, OWN, THREADS, WORKERS, Contender
from benchmarks.peers.data import Scale
from benchmarks.peers.measure import Measured, Plan
from benchmarks.peers.plot import bars
from benchmarks.peers.works import Work

PAGE = "BENCHMARKS.md"
PLOT = "benchmarks.svg"
BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
"""What stands between the two in the page is written by the run; the rest of it by people."""


@dataclass(frozen=True)
class Report:
    """One run."""

    contenders: Sequence[Contender]
    works: Sequence[Work]
    found: Sequence[Measured]
    scale: Scale
    plan: Plan
    postgres: str
    """The server's version."""

    def markdown(self) -> str:
        """What was run, and the tables."""
        parts = (
            self._conditions(),
            self._ratios(),
            self._figures("requests per second", "{:,.0f}", "rate"),
            self._figures("50th / 99th percentile, ms", "{:.1f} / {:.1f}", "p50", "p99"),
            self._figures("server's CPU per request, ms", "{:.2f}", "cpu"),
        )
        return "\n\n".join(parts)

    def _conditions(self) -> str:
        return (
            f"{self.scale.products:,} products, {self.scale.orders:,} orders; {WORKERS} workers with {THREADS} threads "
            f"where there are threads, {self.plan.connections} connections, {self.plan.rounds} rounds of "
            f"{self.plan.seconds:g} s; {os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, "
            f"PostgreSQL {self.postgres}. Each ratio is the median of the rounds', with the least and the most of them "
            "in brackets; *of* names the goal."
        )

    def _ratios(self) -> str:
        peers = [each for each in self.contenders if each.name not in {OWN, FLOOR}]
        others = [*peers, *(each for each in self.contenders if each.name == FLOOR)]
        titles = ["share of the floor" if each.name == FLOOR else f"times {each.title}" for each in others]
        lines = [
            [work.title, *(_ratio(work, measured.ratios(each.name), each.name) for each in others)]
            for work, measured in self._pairs()
        ]
        return _table(["work", *titles], lines)

    def _figures(self, title: str, pattern: str, *names: str) -> str:
        """A table of medians; `pattern` formats those of one contender, in the order of `names`."""
        lines = [
            [
                work.title,
                *(pattern.format(*(measured.middle(each.name, name) for name in names)) for each in self.contenders),
            ]
            for work, measured in self._pairs()
        ]
        return _table([title, *self._titles()], lines)

    def _pairs(self) -> list[tuple[Work, Measured]]:
        return list(zip(self.works, self.found, strict=True))

    def _titles(self) -> list[str]:
        return [each.title for each in self.contenders]

    def plain(self) -> dict[str, Any]:
        """Every single round."""
        return {
            "scale": asdict(self.scale),
            "plan": asdict(self.plan),
            "postgres": self.postgres,
            "python": platform.python_version(),
            "works": {
                measured.work: {name: [asdict(each) for each in rounds] for name, rounds in measured.rounds.items()}
                for measured in self.found
            },
        }

    def svg(self) -> str:
        """The rates of each work, as shares of the fastest."""
        groups = []
        for work, measured in self._pairs():
            rates = {each.title: measured.middle(each.name, "rate") for each in self.contenders}
            groups.append((work.title, rates))
        return bars(groups, self._titles())

    def write(self, directory: Path) -> None:
        """Put the tables into the page, and the plot beside it."""
        page = directory / PAGE
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        plot = f"![Requests per second of each contender]({PLOT})"
        page.write_text(f"{before}{BEGIN}\n\n{plot}\n\n{self.markdown()}\n\n{END}{after}", encoding="utf-8")
        (directory / PLOT).write_text(self.svg(), encoding="utf-8")


def _processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _ratio(work: Work, ratios: list[float], other: str) -> str:
    goal = work.goals.get(other)
    aim = "" if goal is None else f" of {goal:g}"
    return f"**{median(ratios):.2f}**{aim} ({min(ratios):.2f} to {max(ratios):.2f})"


def _table(titles: list[str], lines: list[list[str]]) -> str:
    rows = [titles, ["---"] + ["---:"] * (len(titles) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
