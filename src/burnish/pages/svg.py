"""Pictures of an audit as inline SVG: histograms and intervals, drawn by small pure functions of numbers.

Colours and sizes of letters are CSS of the page, so that they follow the reader's light or dark and width of screen;
the places leave room for the largest letters. Nothing is told by colour alone: sides are named, a second series is a
line, and what may be chance is hollow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Number = int | float
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 480, 56, 26, 30, 48
PLOT = 132  # height of a histogram's bars
NAMES, VALUES, LINE = 160, 52, 25  # an interval's name on the left, its value on the right, its height
MOST_LETTERS = 17  # of a name


def ticks(low: Number, high: Number, wanted: int = 5, *, whole: bool = False) -> list[Number]:
    """Round numbers (1, 2 or 5 times a power of ten apart; counts are `whole`) that lie in low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def number(value: Number | None) -> str:
    """1,234 or 0.25, with a true minus; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    text = f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"
    return text.replace("-", "\u2212")


def tick(value: Number) -> str:
    """A number in little room: 250k, 1.2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e5):
            return f"{value / size:.3g}{letter}".replace("-", "\u2212")
    return number(value)


def share(value: Number | None) -> str:
    """67%, and 4.2% or 0.3% where one digit would say too little."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    percent = 100 * value
    if 0 < percent < 0.05:
        return "<0.1%"
    few = percent < 9.95 and abs(percent - round(percent)) >= 0.05
    return f"{percent:.1f}%" if few else f"{percent:.0f}%"


def histogram(edges: Sequence[Number], series: Mapping[str, Sequence[Number]], title: str, axis: str,
              *, counted: str = "pairs", sides: tuple[str, str] | None = None) -> str:  # fmt: skip
    """Counts over `edges`: the first of the series as bars, a second as a line of steps.

    `sides` names what lies left and right of zero; the bars are coloured by side, and a bar that zero splits by none.
    """
    top = max((max(counts, default=0) for counts in series.values()), default=0)
    if len(edges) < 2 or not top > 0:
        return ""
    floor = TOP + PLOT
    x, y = Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT), Scale(0, top, floor, TOP)
    (_, bars), *others = series.items()
    parts = [_rules(y, ticks(0, top, 3, whole=True)), _text("label", 0, 15, counted)]
    parts += [_bar(x, y, *bar, sided=sides is not None) for bar in zip(edges, edges[1:], bars, strict=False)]
    parts += [f'<path class="steps" d="{_steps(x, y, edges, counts)}"/>' for _, counts in others]
    parts.append(_axis(x, [(at, tick(at)) for at in ticks(edges[0], edges[-1])], floor, axis))
    if sides:
        parts.append(_half(x, 0, sides, floor))
    if others:
        parts.append(_key(list(series)))
    return _svg(floor + BOTTOM, title, parts)


def intervals(rows: Sequence[tuple[str, Number | None, Number | None, Number | None, str]], title: str, axis: str,
              sides: tuple[str, str]) -> str:  # fmt: skip
    """A line for each row (name, share, low, high, what to say of it): dot and interval in 0 to 1, one half marked."""
    known = [(name, [v for v in values if v is not None and math.isfinite(v)], said) for name, *values, said in rows]
    known = [row for row in known if len(row[1]) == 3]
    if not known:
        return ""
    floor = TOP + LINE * len(known)
    x = Scale(0, 1, NAMES, WIDTH - VALUES)
    parts = [
        f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{floor}"/>' for at in (0, 0.25, 0.75, 1)
    ]
    parts.append(_half(x, 0.5, sides, floor))
    for index, (name, (value, low, high), said) in enumerate(known):
        parts.append(_interval(x, TOP + LINE * (index + 0.5), name, value, low, high, said))
    parts.append(_axis(x, [(at, share(at)) for at in (0, 0.25, 0.5, 0.75, 1)], floor, axis))
    return _svg(floor + BOTTOM, title, parts)


class Scale:
    """A linear map from numbers to places on the picture."""

    def __init__(self, low: Number, high: Number, first: Number, last: Number) -> None:
        self.low, self.high, self.first, self.last = low, high, first, last
        self.slope = (last - first) / ((high - low) or 1)

    def __call__(self, value: Number) -> float:
        return self.first + (value - self.low) * self.slope


def _bar(x: Scale, y: Scale, left: Number, right: Number, count: Number, *, sided: bool) -> str:
    if not count > 0:
        return ""
    kind = "bar" if not sided else "bar right" if left >= 0 else "bar left" if right <= 0 else "bar even"
    wide, high = max(1.0, x(right) - x(left) - 1), max(0.6, y(0) - y(count))  # one pair among thousands is still seen
    said = f"{number(left)} to {number(right)}: {number(count)}"
    return (
        f'<rect class="{kind}" x="{x(left) + 0.5:.1f}" y="{y(0) - high:.1f}" width="{wide:.1f}" height="{high:.1f}">'
        f"<title>{said}</title></rect>"
    )


def _steps(x: Scale, y: Scale, edges: Sequence[Number], counts: Sequence[Number]) -> str:
    """The outline of a histogram as a path: up at each edge, along each bin, down at the end."""
    along = [f"V{y(count):.1f}H{x(right):.1f}" for right, count in zip(edges[1:], counts, strict=False)]
    return f"M{x(edges[0]):.1f} {y(0):.1f}{''.join(along)}V{y(0):.1f}"


def _interval(x: Scale, y: float, name: str, value: float, low: float, high: float, said: str) -> str:
    kind = "even" if low <= 0.5 <= high else "right" if value > 0.5 else "left"
    ends = f'x1="{x(max(0, low)):.1f}" x2="{x(min(1, high)):.1f}"'
    return (
        f'<g class="{kind}"><title>{escape(f"{name}: {said}")}</title>'
        f"{_text('name', NAMES - 12, y, middle_cut(name), 'end')}"
        f'<line class="range" {ends} y1="{y:.1f}" y2="{y:.1f}"/><circle cx="{x(value):.1f}" cy="{y:.1f}" r="4"/>'
        f"{_text('value', WIDTH - 6, y, share(value), 'end')}</g>"
    )


def middle_cut(name: str) -> str:
    """A name in little room; paths differ at their ends, so the middle goes."""
    half = (MOST_LETTERS - 1) // 2
    return name if len(name) <= MOST_LETTERS else f"{name[:half].strip()}\u2026{name[-half:].strip()}"


def _half(x: Scale, at: Number, sides: tuple[str, str], floor: Number) -> str:
    """The dashed line between two sides, and their names above it."""
    if not x.low <= at <= x.high:
        return ""
    left, right = f"\u2190 {sides[0]}", f"{sides[1]} \u2192"
    return (
        f'<line class="zero" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP - 8}" y2="{floor}"/>'
        f"{_text('label', x.first, 15, left)}{_text('label', x.last, 15, right, 'end')}"
    )


def _rules(y: Scale, at: Sequence[Number]) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f"{_text('tick', LEFT - 9, y(v), tick(v), 'end')}"
        for v in at
    )


def _axis(x: Scale, marks: Sequence[tuple[Number, str]], floor: Number, name: str) -> str:
    line = f'<line class="axis" x1="{x.first}" x2="{x.last}" y1="{floor}" y2="{floor}"/>'
    for at, said in marks:
        line += f'<line class="axis" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{floor}" y2="{floor + 4}"/>'
        line += _text("tick below", x(at), floor + 10, said, "middle")
    return line + _text("label below", (x.first + x.last) / 2, floor + 29, name, "middle")


def _key(names: Sequence[str]) -> str:
    signs = (("bar", "\u25a0"), ("steps", "\u2501"))
    said = "\u2003".join(
        f'<tspan class="{css}-key">{sign}</tspan> {escape(name)}'
        for (css, sign), name in zip(signs, names, strict=False)
    )
    return f'<text class="label" x="{WIDTH - RIGHT}" y="15" text-anchor="end">{said}</text>'


def _text(css: str, x: Number, y: Number, text: str, anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: Number, title: str, parts: Sequence[str]) -> str:
    said = escape(title)
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{said}"><title>{said}</title>'
    return f"{head}{''.join(parts)}</svg>"
