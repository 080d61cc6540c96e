"""Charts as SVG, by hand: groups of bars, each as long as its share of the longest in the group; and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH = 900
LEFT, RIGHT = 30, 110
TOP = 56
BAR = 13
TITLE, GAP = 20, 14
HEIGHT, BOTTOM, LEGEND = 420, 46, 250
# Told apart by those who see few colours, too (Okabe and Ito).
COLOURS = ("#d55e00", "#999999", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9")


def bars(groups: Sequence[tuple[str, Mapping[str, float]]], series: Sequence[str]) -> str:
    """The chart: `groups` holds a title and the values by series of each; the values are rates a second."""
    colours = dict(zip(series, COLOURS, strict=False))
    parts = [_legend(colours)]
    y = TOP
    for title, values in groups:
        parts.append(f'<text x="{LEFT}" y="{y + 14}" font-weight="bold">{escape(title)}</text>')
        y += TITLE
        longest = max(values.values())
        for name in series:
            length = (WIDTH - LEFT - RIGHT) * values[name] / longest
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{colours[name]}"/>')
            parts.append(f'<text x="{LEFT + length + 5:.1f}" y="{y + BAR - 4}">{values[name]:,.0f}</text>')
            y += BAR
        y += GAP
    return _framed(parts, y)


def _framed(parts: Sequence[str], height: int) -> str:
    """The document."""
    style = 'font-family="sans-serif" font-size="11" fill="#222222"'
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def _legend(colours: Mapping[str, str]) -> str:
    parts = [f'<text x="{LEFT}" y="18" font-size="13">Requests per second; more is better</text>']
    x = float(LEFT)
    for name, colour in colours.items():
        parts.append(f'<rect x="{x:.0f}" y="28" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15:.0f}" y="38">{escape(name)}</text>')
        x += 30 + 6.2 * len(name)
    return "\n".join(parts)


def lines(found: Mapping[str, Mapping[int, float]]) -> str:
    """A line for each read: milliseconds against rows, both in powers of ten."""
    sizes = sorted({size for times in found.values() for size in times})
    values = [value for times in found.values() for value in times.values()]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    first, last = log10(sizes[0]), log10(sizes[-1])
    right, bottom = WIDTH - LEGEND, HEIGHT - BOTTOM

    def x(size: float) -> float:
        return 2 * LEFT + (right - 2 * LEFT) * (log10(size) - first) / max(last - first, 1)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (log10(value) - low) / max(high - low, 1)

    parts = [f'<text x="{LEFT}" y="18" font-size="13">Milliseconds of a read against rows of its table</text>']
    for power in range(low, high + 1):
        level = y(10**power)
        parts.append(f'<line x1="{2 * LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{2 * LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    parts += [f'<text x="{x(size):.1f}" y="{bottom + 20}" text-anchor="middle">{size:,}</text>' for size in sizes]
    for number, (title, times) in enumerate(found.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], "" if number < len(COLOURS) else ' stroke-dasharray="5 3"'
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in sorted(times.items()))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        level = TOP + 18 * number
        ends = f'x1="{right + 14}" x2="{right + 36}" y1="{level}" y2="{level}"'
        parts.append(f'<line {ends} stroke="{colour}" stroke-width="2"{dashes}/>')
        parts.append(f'<text x="{right + 42}" y="{level + 4}">{escape(title)}</text>')
    return _framed(parts, HEIGHT)
