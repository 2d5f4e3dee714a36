"""Line plots with logarithmic scales as SVG: sixty lines here, a hundred megabytes by a library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 96, 40, 48
_COLOURS = ("#b5413a", "#2d6a9f", "#3d8b57", "#8a6d3b")


def lines(
    path: Path, title: str, across: str, up: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    """Draw a line for each of `series`, named at its end; zero is shown where one would be."""
    xs = [max(1.0, x) for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))
    first, last = math.log10(min(xs)), math.log10(max(xs))

    def at(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(max(1.0, x)) - first) / ((last - first) or 1)
        raised = (math.log10(y) - math.log10(low)) / (math.log10(high / low) or 1)
        inner = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + right * inner[0], _HEIGHT - _BOTTOM - raised * inner[1]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{across}</text>',
        f'<text x="14" y="{_TOP - 8}">{up}</text>',
    ]
    value = low
    while value <= high * 1.0001:
        x, y = at(min(xs), value)
        end = _WIDTH - _RIGHT
        parts.append(f'<line x1="{x:.0f}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        value *= 10
    for x in sorted({x for points in series.values() for x, _ in points}):
        place, bottom = at(x, low)
        parts.append(f'<text x="{place:.0f}" y="{bottom + 16:.0f}" text-anchor="middle">{x:g}</text>')
    for (name, points), colour in zip(series.items(), _COLOURS, strict=False):
        places = [at(x, y) for x, y in points]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
