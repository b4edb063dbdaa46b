"""Pictures of a reward report as inline SVG: intervals row by row, and curves with their bands, one mark a scorer.

As in the audit's pictures, colours and letters are CSS of the page. Scorers are told apart by the form of their mark as
well as by its colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from burnish.pages.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Number,
    Scale,
    _axis,
    _svg,
    _text,
    middle_cut,
    share,
    tick,
    ticks,
)

Estimate = tuple[Number | None, Number | None, Number | None]  # value, low, high; None where unknown
Point = tuple[Number, Number, Number | None, Number | None]  # x, y, low, high
Form = Callable[[Number], str]
COLOURS = 6
NAMES = 176  # room for seventeen wide letters
STEP, PAD = 11, 14  # height of a scorer's line within a row, and between rows
HIGH = 190  # of the field of curves
MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # circle, square, diamond, triangles up and down, cross
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5L5 0L0 5L-5 0z",
    "M0-4.8L4.8 3.6H-4.8z",
    "M0 4.8L4.8-3.6H-4.8z",
    "M-4.6-1.5h3.1v-3.1h3v3.1h3.1v3h-3.1v3.1h-3v-3.1h-3.1z",
)


def mark(index: int) -> str:
    """The form of a scorer's mark, around (0, 0): a circle, a square, ...; after six the forms change colours."""
    return MARKS[(index + index // COLOURS) % len(MARKS)]


def swatch(index: int) -> str:
    """A mark by itself, for a key beside text."""
    head = f'<svg class="swatch s{index % COLOURS}" viewBox="-5.5 -5.5 11 11" aria-hidden="true">'
    return f'{head}<path d="{mark(index)}"/></svg>'


class Block(NamedTuple):
    """A row of intervals: its name, what to say of it, scorer -> estimate, and a number to compare them with."""

    name: str
    said: str
    by: Mapping[str, Estimate]
    beside: tuple[str, Number] | None = None


def forest(
    blocks: Sequence[Block],
    names: Sequence[str],
    title: str,
    axis: str,
    sides: tuple[str, str],
    *,
    bounds: tuple[Number, Number] = (0, 1),
    middle: Number = 0.5,
    shown: Form = share,
) -> str:
    """A line for each scorer in every block, `middle` marked, and what stands beside drawn across the block.

    Empty where no block has an estimate.
    """
    known = [block for block in blocks if any(e[0] is not None for e in block.by.values())]
    if not known:
        return ""
    height = STEP * len(names) + PAD
    floor = TOP + height * len(known)
    x = Scale(*bounds, NAMES, WIDTH - RIGHT)
    at = ticks(*bounds, 4)
    parts = [_line("grid", x(v), TOP, x(v), floor) for v in at if v != middle]
    parts.append(_middle(x, middle, sides, floor))
    for number, block in enumerate(known):
        parts.append(_block(x, TOP + height * number, block, names, shown))
    parts += [_line("grid", 0, TOP + height * n, WIDTH - RIGHT, TOP + height * n) for n in range(1, len(known))]
    parts.append(_axis(x, [(v, shown(v)) for v in at], floor, axis))
    return _svg(floor + BOTTOM, title, parts)


def _block(x: Scale, top: Number, block: Block, names: Sequence[str], shown: Form) -> str:
    height = STEP * len(names) + PAD
    head = _text("name", NAMES - 12, top + height / 2, middle_cut(block.name), "end")
    parts = [f"<g><title>{escape(f'{block.name}: {block.said}')}</title>{head}</g>"]
    if block.beside is not None:
        what, value = block.beside
        line = _line("aside", _within(x, value), top + 3, _within(x, value), top + height - 3)
        parts.append(f"<g><title>{escape(f'{what}: {shown(value)}')}</title>{line}</g>")
    for place, name in enumerate(names):
        if name in block.by and block.by[name][0] is not None:
            parts.append(_range(x, top + PAD / 2 + STEP * (place + 0.5), place, name, block.by[name], shown))
    return "".join(parts)


def curves(
    series: Mapping[str, Sequence[Point]],
    names: Sequence[str],
    title: str,
    axes: tuple[str, str],
    *,
    x_bounds: tuple[Number, Number],
    y_bounds: tuple[Number, Number] | None = None,
    shown: tuple[Form, Form] = (tick, tick),
    diagonal: bool = False,
    level: Number | None = None,
    whole: bool = False,
) -> str:
    """A line with its band for each scorer, with marks where points are few; a series that is no scorer's is dashed.

    `diagonal` draws y = x, `level` a line across; `whole` numbers stand along x. Empty where there are no points.
    """
    known = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        return ""
    low, high = y_bounds or _reach([p for points in known.values() for p in points])
    floor = TOP + HIGH
    x, y = Scale(*x_bounds, LEFT, WIDTH - RIGHT), Scale(low, high, floor, TOP)
    parts = [_text("label", 0, 15, axes[1])]
    for value in ticks(low, high, 4):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(_text("tick", LEFT - 9, y(value), shown[1](value), "end"))
    if diagonal:
        ends = max(low, x_bounds[0]), min(high, x_bounds[1])
        parts.append(_line("zero", x(ends[0]), y(ends[0]), x(ends[1]), y(ends[1])))
    if level is not None and low <= level <= high:
        parts.append(_line("zero", LEFT, y(level), WIDTH - RIGHT, y(level)))
    for name, points in known.items():
        place = names.index(name) if name in names else None
        parts.append(_curve(x, y, name, place, points, shown))
    parts.append(_axis(x, [(v, shown[0](v)) for v in ticks(*x_bounds, 5, whole=whole)], floor, axes[0]))
    return _svg(floor + BOTTOM, title, parts)


def _range(x: Scale, y: Number, place: int, name: str, estimate: Estimate, shown: Form) -> str:
    """A mark at the value with a line through its interval; the mark alone where the interval is unknown."""
    value, low, high = estimate
    assert value is not None
    line, said = "", f"{name}: {shown(value)}"
    if low is not None and high is not None:
        said += f" ({shown(low)} to {shown(high)})"
        ends = f'x1="{_within(x, low):.1f}" x2="{_within(x, high):.1f}"'
        line = f'<line class="reach" {ends} y1="{y:.1f}" y2="{y:.1f}"/>'
    return (
        f'<g class="s{place % COLOURS}"><title>{escape(said)}</title>{line}'
        f'<path class="mark" d="{mark(place)}" transform="translate({_within(x, value):.1f} {y:.1f})"/></g>'
    )


def _curve(
    x: Scale,
    y: Scale,
    name: str,
    place: int | None,
    points: Sequence[Point],
    shown: tuple[Form, Form],
) -> str:
    along = " ".join(f"{x(p[0]):.1f},{_within(y, p[1]):.1f}" for p in points)
    banded = [p for p in points if p[2] is not None and p[3] is not None]
    band = [(p[0], p[3]) for p in banded] + [(p[0], p[2]) for p in reversed(banded)]
    area = " ".join(f"{x(at):.1f},{_within(y, value):.1f}" for at, value in band if value is not None)
    css = "plain" if place is None else f"s{place % COLOURS}"
    parts = [f'<g class="{css}"><title>{escape(name)}</title>']
    if len(banded) > 1:
        parts.append(f'<polygon class="band" points="{area}"/>')
    parts.append(f'<polyline class="curve" points="{along}"/>')
    if place is not None:
        every = max(1, len(points) // 8)
        for p in points[::every]:
            said = f"{name}: {shown[1](p[1])} at {shown[0](p[0])}"
            where = f'transform="translate({x(p[0]):.1f} {_within(y, p[1]):.1f})"'
            parts.append(f'<path class="mark" d="{mark(place)}" {where}><title>{escape(said)}</title></path>')
    return "".join(parts) + "</g>"


def _within(scale: Scale, value: Number) -> float:
    return scale(min(scale.high, max(scale.low, value)))


def _reach(points: Sequence[Point]) -> tuple[float, float]:
    """Bounds that hold every value and band, with a little air; never of no height."""
    values = [float(v) for p in points for v in p[1:] if v is not None and math.isfinite(v)]
    low, high = min(values), max(values)
    air = 0.05 * (high - low) or max(1e-9, 0.05 * abs(high)) or 1.0
    return low - air, high + air


def _middle(x: Scale, at: Number, sides: tuple[str, str], floor: Number) -> str:
    left, right = f"\u2190 {sides[0]}", f"{sides[1]} \u2192"
    line = _line("zero", x(at), TOP - 8, x(at), floor) if x.low <= at <= x.high else ""
    return line + (_text("label", x.first, 15, left) + _text("label", x.last, 15, right, "end") if any(sides) else "")


def _line(css: str, x1: Number, y1: Number, x2: Number, y2: Number) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
