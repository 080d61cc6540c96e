"""What was measured, as a table in Markdown, a plot, and plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.peers.contenders import FLOOR, OWN, Contender
from benchmarks.peers.data import Scale
from benchmarks.peers.measure import Measured, Plan
from benchmarks.peers.works import Work

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Report:
    """One run."""

    contenders: Sequence[Contender]
    works: Sequence[Work]
    found: Sequence[Measured]
    scale: Scale
    plan: Plan

    def markdown(self) -> str:
        """The tables."""
        return "\n\n".join([self._ratios(), self._rates(), self._latencies()])

    def _others(self) -> list[Contender]:
        """In the order of the goals: the peers, then the floor."""
        peers = [each for each in self.contenders if each.name not in {OWN, FLOOR}]
        return [*peers, *(each for each in self.contenders if each.name == FLOOR)]

    def _ratios(self) -> str:
        others = self._others()
        titles = [f"share of {each.title}" if each.name == FLOOR else f"× {each.title}" for each in others]
        lines = [
            [work.title, *(_ratio(work, measured.ratios(each.name), each.name) for each in others)]
            for work, measured in zip(self.works, self.found, strict=True)
        ]
        return _table(["work", *titles], lines)

    def _rates(self) -> str:
        lines = [
            [work.title, *(f"{measured.rate(each.name):,.0f}" for each in self.contenders)]
            for work, measured in zip(self.works, self.found, strict=True)
        ]
        return _table(["requests per second", *(each.title for each in self.contenders)], lines)

    def _latencies(self) -> str:
        lines = [
            [
                work.title,
                *(f"{measured.p50(each.name):.1f} / {measured.p99(each.name):.1f}" for each in self.contenders),
            ]
            for work, measured in zip(self.works, self.found, strict=True)
        ]
        return _table(["p50 / p99, ms", *(each.title for each in self.contenders)], lines)

    def plain(self) -> dict[str, Any]:
        """Every single round."""
        return {
            "scale": asdict(self.scale),
            "plan": asdict(self.plan),
            "works": {
                measured.work: {name: [asdict(each) for each in rounds] for name, rounds in measured.rounds.items()}
                for measured in self.found
            },
        }

    def write(self, directory: Path) -> None:
        """Write the page and its plot."""


def _ratio(work: Work, ratios: list[float], other: str) -> str:
    goal = work.goals.get(other)
    middle = median(ratios)
    mark = "" if goal is None else f" of {goal:g}"
    return f"**{middle:.2f}**{mark} ({min(ratios):.2f} to {max(ratios):.2f})"


def _table(titles: list[str], lines: list[list[str]]) -> str:
    rows = [titles, ["---"] + ["---:"] * (len(titles) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
