"""Columns and a cloud of words as HTML, without any script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, FOOT, HEAD = 420, 180, 28, 14


def columns(bars: Sequence[tuple[str, int]], title: str, axis: str) -> str:
    """A chart of named columns with their counts on top, as an SVG figure."""
    most = max((count for _, count in bars), default=0) or 1
    step = WIDTH / max(1, len(bars))
    every = math.ceil(len(bars) / 14)  # labels that have room
    parts = []
    for place, (name, count) in enumerate(bars):
        height = (HEIGHT - FOOT - HEAD) * count / most
        x, y = place * step, HEIGHT - FOOT - height
        parts.append(
            f'<rect x="{x + step * 0.1:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" '
            f'height="{height:.1f}"><title>{escape(name)}: {count}</title></rect>'
        )
        middle = x + step / 2
        if place % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - FOOT + 12}">{escape(name)}</text>')
        if count and step > 6 * len(str(count)):
            parts.append(f'<text x="{middle:.1f}" y="{y - 3:.1f}">{count}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 3}">{escape(axis)}</text>')
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg></figure>'
    )


def numbers(counts: Mapping[int, int], last: int, first: int = 1) -> list[tuple[str, int]]:
    """Columns for the numbers from ``first`` to ``last``; what is beyond goes into the outer ones.

    >>> numbers({1: 4, 3: 1, 9: 2}, last=3)
    [('1', 4), ('2', 0), ('3+', 3)]
    """
    bars = [0] * (last - first + 1)
    for value, count in counts.items():
        bars[min(max(value, first), last) - first] += count
    names = [str(first + place) for place in range(len(bars))]
    names[-1] += "+" if any(value > last for value in counts) else ""
    return list(zip(names, bars, strict=True))


def cloud(counts: Sequence[tuple[str, int]]) -> str:
    """Words, larger the more frequent, in the order of the alphabet."""
    most = max((count for _, count in counts), default=1)
    words = [
        f'<span style="font-size:{0.7 + 1.6 * math.sqrt(count / most):.2f}em" title="{count}">'
        f"{escape(word)}</span>"
        for word, count in sorted(counts)
    ]
    return f'<p class="cloud">{" ".join(words)}</p>'
