"""Pictures of an audit as inline SVG: histograms and intervals, drawn by small pure functions of numbers.

Colours are CSS classes, so that the page's light and dark colours hold here too; nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Number = int | float
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 46, 14, 12, 44


def ticks(low: Number, high: Number, wanted: int = 6) -> list[Number]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def number(value: Number) -> str:
    """1,234 or 0.25, and 1.2M where it would be long."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"


def histogram(
    edges: Sequence[Number], series: Sequence[tuple[str, str, Sequence[Number]]], title: str, axis: str,
    *, zero: tuple[str, str] | None = None, height: int = 240,
) -> str:  # fmt: skip
    """Bars over `edges`; `series` are (name, css class, counts), drawn over one another.

    `zero` names the two sides of 0, and colours bars by side.
    """
    top = max((max(counts, default=0) for _, _, counts in series), default=0)
    if len(edges) < 2 or top <= 0:
        return ""
    x = _Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    floor = height - BOTTOM
    y = _Scale(0, top * 1.06, floor, TOP + (16 if zero or len(series) > 1 else 0))
    parts = [_grid(y, ticks(0, top, 4))]
    for _name, css, counts in series:
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                kind = css if zero is None else f"{css} {'right' if (left + right) / 2 > 0 else 'left'}"
                box = f'x="{x(left) + 0.5:.1f}" y="{y(count):.1f}" width="{max(1, x(right) - x(left) - 1):.1f}"'
                said = f"{number(left)} to {number(right)}: {number(count)}"
                parts.append(f'<rect class="{kind}" {box} height="{floor - y(count):.1f}"><title>{said}</title></rect>')
    parts.append(_axis(x, ticks(edges[0], edges[-1]), floor, axis))
    if zero:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{floor}"/>')
        for text, anchor, at in ((zero[0], "end", x(0) - 8), (zero[1], "start", x(0) + 8)):
            parts.append(
                f'<text class="label" x="{at:.1f}" y="{TOP + 10}" text-anchor="{anchor}">{escape(text)}</text>'
            )
    elif len(series) > 1:
        parts.append(_legend(series))
    return _svg(height, title, parts)


def intervals(rows: Sequence[tuple[str, Number, Number, Number, str]], title: str, axis: str) -> str:
    """One line a row (name, value, low, high, said): dot and interval between 0 and 1, with a mark at one half."""
    rows = [row for row in rows if all(math.isfinite(v) for v in row[1:4])]
    if not rows:
        return ""
    left, line = 172, 30
    height = TOP + line * len(rows) + BOTTOM
    x = _Scale(0, 1, left, WIDTH - RIGHT - 46)
    floor = height - BOTTOM
    parts = [f'<line class="zero" x1="{x(0.5):.1f}" x2="{x(0.5):.1f}" y1="{TOP}" y2="{floor}"/>']
    for index, (name, value, low, high, said) in enumerate(rows):
        y = TOP + line * (index + 0.5)
        side = "even" if low <= 0.5 <= high else "right" if value > 0.5 else "left"
        short = name if len(name) <= 20 else f"{name[:19]}\u2026"
        parts.append(
            f'<g class="{side}"><title>{escape(f"{name}: {said}")}</title>'
            f'<text class="name" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}</text>'
            f'<line class="range" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="5"/>'
            f'<text class="value" x="{WIDTH - RIGHT}" y="{y + 4:.1f}" text-anchor="end">{value:.0%}</text></g>'
        )
    parts.append(_axis(x, [0, 0.25, 0.5, 0.75, 1], floor, axis, percent=True))
    return _svg(height, title, parts)


class _Scale:
    """A linear map from numbers to places on the picture."""

    def __init__(self, low: Number, high: Number, first: Number, last: Number) -> None:
        self.low, self.first = low, first
        self.slope = (last - first) / ((high - low) or 1)

    def __call__(self, value: Number) -> float:
        return self.first + (value - self.low) * self.slope


def _grid(y: _Scale, at: Sequence[Number]) -> str:
    lines = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{number(v)}</text>'
        for v in at
    ]
    return "".join(lines)


def _axis(x: _Scale, at: Sequence[Number], floor: Number, text: str, percent: bool = False) -> str:
    marks = [
        f'<text class="tick" x="{x(v):.1f}" y="{floor + 17:.1f}" text-anchor="middle">'
        f"{f'{v:.0%}' if percent else number(v)}</text>"
        for v in at
    ]
    middle = x.first + (WIDTH - RIGHT - x.first) / 2
    line = f'<line class="axis" x1="{x.first:.1f}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
    name = f'<text class="label" x="{middle:.1f}" y="{floor + 36:.1f}" text-anchor="middle">{escape(text)}</text>'
    return line + "".join(marks) + name


def _legend(series: Sequence[tuple[str, str, Sequence[Number]]]) -> str:
    parts, at = [], WIDTH - RIGHT - 10
    for name, css, _ in reversed(series):
        parts.append(f'<text class="label" x="{at}" y="{TOP + 10}" text-anchor="end">{escape(name)}</text>')
        at -= 8 * len(name) + 18
        parts.append(f'<rect class="{css}" x="{at}" y="{TOP}" width="12" height="12"/>')
        at -= 14
    return "".join(parts)


def _svg(height: Number, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"
