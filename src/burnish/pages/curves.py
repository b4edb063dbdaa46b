"""Curves with their bands, a line and a mark for each series."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from burnish.pages import svg
from burnish.pages.numbers import Number, tick
from burnish.pages.svg import Picture, Scale

Point = tuple[Number, Number, Number | None, Number | None]  # x, y, low, high
Form = Callable[[Number], str]
PLOT = 190  # height of the field


def curves(
    series: Mapping[str, Sequence[Point]],
    names: Sequence[str],
    title: str,
    axes: tuple[str, str],
    *,
    x_bounds: tuple[Number, Number],
    y_bounds: tuple[Number, Number] | None = None,
    forms: tuple[Form, Form] = (tick, tick),
    diagonal: bool = False,
    level: Number | None = None,
    whole: bool = False,
) -> Picture | None:
    """A line with its band for each of the names, with marks where points are few; other series are dashed lines.

    `forms` write the numbers of both axes, `diagonal` draws y = x, `level` a line across, and `whole` puts whole
    numbers along x. None where there are no points.
    """
    known = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        return None
    low, high = y_bounds or _reach([p for points in known.values() for p in points])
    floor = svg.TOP + PLOT
    x, y = Scale(*x_bounds, svg.LEFT, svg.RIGHT), Scale(low, high, floor, svg.TOP)
    parts = [svg.text("label", 0, 15, axes[1])]
    for value in svg.ticks(low, high, 4):
        parts.append(svg.line("grid", svg.LEFT, y(value), svg.RIGHT, y(value)))
        parts.append(svg.text("tick", svg.LEFT - 9, y(value), forms[1](value), "end"))
    if diagonal:
        ends = max(low, x_bounds[0]), min(high, x_bounds[1])
        parts.append(svg.line("zero", x(ends[0]), y(ends[0]), x(ends[1]), y(ends[1])))
    if level is not None and low <= level <= high:
        parts.append(svg.line("zero", svg.LEFT, y(level), svg.RIGHT, y(level)))
    for name, points in known.items():
        index = names.index(name) if name in names else None
        parts.append(_curve(x, y, name, index, points, forms))
    parts.append(svg.axis(x, [(v, forms[0](v)) for v in svg.ticks(*x_bounds, 5, whole=whole)], floor, axes[0]))
    return Picture(title, floor + svg.BOTTOM, "".join(parts))


def _curve(x: Scale, y: Scale, name: str, index: int | None, points: Sequence[Point], forms: tuple[Form, Form]) -> str:
    along = " ".join(f"{x(p[0]):.1f},{y.clamp(p[1]):.1f}" for p in points)
    banded = [p for p in points if p[2] is not None and p[3] is not None]
    band = [(p[0], p[3]) for p in banded] + [(p[0], p[2]) for p in reversed(banded)]
    area = " ".join(f"{x(at):.1f},{y.clamp(value):.1f}" for at, value in band if value is not None)
    parts = [f'<polygon class="band" points="{area}"/>'] if len(banded) > 1 else []
    parts.append(f'<polyline class="curve" points="{along}"/>')
    if index is not None:
        for p in points[:: max(1, len(points) // 8)]:
            tooltip = f"{name}: {forms[1](p[1])} at {forms[0](p[0])}"
            parts.append(svg.place_mark(index, x(p[0]), y.clamp(p[1]), tooltip))
    return svg.titled("plain" if index is None else svg.hue(index), name, "".join(parts))


def _reach(points: Sequence[Point]) -> tuple[float, float]:
    """Bounds that hold every value and band, with a little air; never of no height."""
    values = [float(v) for p in points for v in p[1:] if v is not None and math.isfinite(v)]
    low, high = min(values), max(values)
    air = 0.05 * (high - low) or max(1e-9, 0.05 * abs(high)) or 1.0
    return low - air, high + air
