"""A bar chart as SVG, by hand: groups of bars, each as long as its share of the longest in the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 900
LEFT, RIGHT = 30, 110
TOP = 56
BAR = 13
TITLE, GAP = 20, 14
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
    style = 'font-family="sans-serif" font-size="11" fill="#222222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" {style}>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def _legend(colours: Mapping[str, str]) -> str:
    parts = [f'<text x="{LEFT}" y="18" font-size="13">Requests per second; more is better</text>']
    x = float(LEFT)
    for name, colour in colours.items():
        parts.append(f'<rect x="{x:.0f}" y="28" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15:.0f}" y="38">{escape(name)}</text>')
        x += 30 + 6.2 * len(name)
    return "\n".join(parts)
