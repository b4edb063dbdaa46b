"""Estimates with their intervals, row by row: shares about one half, and a forest of several series."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from burnish.pages import svg
from burnish.pages.numbers import Number, share, shorten
from burnish.pages.svg import Picture, Scale

Estimate = tuple[Number | None, Number | None, Number | None]  # value, low, high; None where unknown
Form = Callable[[Number], str]
SHARE_NAMES, SHARE_VALUES, SHARE_ROW = 160, 52, 25  # a share's name on the left, its value on the right, its height
NAMES = 176  # of a forest: room for seventeen wide letters
STEP, PAD = 11, 14  # of a forest: height of a series' line within a row, and between rows


class ShareRow(NamedTuple):
    """A share with its interval, and its tooltip."""

    name: str
    value: Number | None
    low: Number | None
    high: Number | None
    tooltip: str


def shares(rows: Sequence[ShareRow], title: str, x_name: str, sides: tuple[str, str]) -> Picture | None:
    """A line for each share: dot and interval in 0 to 1, one half marked. None where no share is known."""
    known = [row for row in rows if all(v is not None and math.isfinite(v) for v in (row.value, row.low, row.high))]
    if not known:
        return None
    floor = svg.TOP + SHARE_ROW * len(known)
    x = Scale(0, 1, SHARE_NAMES, svg.WIDTH - SHARE_VALUES)
    parts = [svg.line("grid", x(at), svg.TOP, x(at), floor) for at in (0, 0.25, 0.75, 1)]
    parts.append(svg.divide(x, 0.5, sides, floor))
    parts += [_share(x, svg.TOP + SHARE_ROW * (index + 0.5), row) for index, row in enumerate(known)]
    parts.append(svg.axis(x, [(at, share(at)) for at in (0, 0.25, 0.5, 0.75, 1)], floor, x_name))
    return Picture(title, floor + svg.BOTTOM, "".join(parts))


def _share(x: Scale, y: float, row: ShareRow) -> str:
    assert row.value is not None and row.low is not None and row.high is not None
    kind = "even" if row.low <= 0.5 <= row.high else "right" if row.value > 0.5 else "left"
    body = (
        f"{svg.text('name', SHARE_NAMES - 12, y, shorten(row.name), 'end')}"
        f"{svg.line('range', x.clamp(row.low), y, x.clamp(row.high), y)}"
        f'<circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="4"/>'
        f"{svg.text('value', svg.WIDTH - 6, y, share(row.value), 'end')}"
    )
    return svg.titled(kind, f"{row.name}: {row.tooltip}", body)


class Row(NamedTuple):
    """A row of a forest: its name, its tooltip, series -> estimate, and a named number to compare them with."""

    name: str
    tooltip: str
    estimates: Mapping[str, Estimate]
    reference: tuple[str, Number] | None = None


def forest(rows: Sequence[Row], series: Sequence[str], title: str, x_name: str, sides: tuple[str, str],
           *, bounds: tuple[Number, Number] = (0, 1), middle: Number = 0.5, form: Form = share,
           ) -> Picture | None:  # fmt: skip
    """A line for each series in every row, `middle` marked, and a row's reference drawn across it.

    None where no row has an estimate.
    """
    known = [row for row in rows if any(estimate[0] is not None for estimate in row.estimates.values())]
    if not known:
        return None
    height = STEP * len(series) + PAD
    floor = svg.TOP + height * len(known)
    x = Scale(*bounds, NAMES, svg.RIGHT)
    at = svg.ticks(*bounds, 4)
    parts = [svg.line("grid", x(v), svg.TOP, x(v), floor) for v in at if v != middle]
    parts.append(svg.divide(x, middle, sides, floor))
    parts += [_row(x, svg.TOP + height * number, row, series, form) for number, row in enumerate(known)]
    parts += [svg.line("grid", 0, svg.TOP + height * n, svg.RIGHT, svg.TOP + height * n) for n in range(1, len(known))]
    parts.append(svg.axis(x, [(v, form(v)) for v in at], floor, x_name))
    return Picture(title, floor + svg.BOTTOM, "".join(parts))


def _row(x: Scale, top: Number, row: Row, series: Sequence[str], form: Form) -> str:
    height = STEP * len(series) + PAD
    head = svg.text("name", NAMES - 12, top + height / 2, shorten(row.name), "end")
    parts = [svg.titled("row", f"{row.name}: {row.tooltip}", head)]
    if row.reference is not None:
        name, value = row.reference
        across = svg.line("reference", x.clamp(value), top + 3, x.clamp(value), top + height - 3)
        parts.append(svg.titled("row", f"{name}: {form(value)}", across))
    for index, name in enumerate(series):
        if name in row.estimates and row.estimates[name][0] is not None:
            parts.append(_interval(x, top + PAD / 2 + STEP * (index + 0.5), index, name, row.estimates[name], form))
    return "".join(parts)


def _interval(x: Scale, y: Number, index: int, name: str, estimate: Estimate, form: Form) -> str:
    """A mark at the value with a line through its interval; the mark alone where the interval is unknown."""
    value, low, high = estimate
    assert value is not None
    reach, tooltip = "", f"{name}: {form(value)}"
    if low is not None and high is not None:
        tooltip += f" ({form(low)} to {form(high)})"
        reach = svg.line("reach", x.clamp(low), y, x.clamp(high), y)
    return svg.titled(svg.hue(index), tooltip, reach + svg.place_mark(index, x.clamp(value), y))
