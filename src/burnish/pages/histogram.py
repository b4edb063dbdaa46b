"""Counts over bins: the first series as bars, a second as a line of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from burnish.pages import svg
from burnish.pages.numbers import Number, number, tick
from burnish.pages.svg import Picture, Scale

PLOT = 132  # height of the bars


def histogram(edges: Sequence[Number], series: Mapping[str, Sequence[Number]], title: str, x_name: str,
              *, counted: str = "pairs", sides: tuple[str, str] | None = None) -> Picture | None:  # fmt: skip
    """The picture of counts over `edges`; None where there is nothing to count.

    `sides` names what lies left and right of zero; the bars are coloured by side, and a bar that zero splits by none.
    """
    top = max((max(counts, default=0) for counts in series.values()), default=0)
    if len(edges) < 2 or not top > 0:
        return None
    floor = svg.TOP + PLOT
    x, y = Scale(edges[0], edges[-1], svg.LEFT, svg.RIGHT), Scale(0, top, floor, svg.TOP)
    (_, bars), *others = series.items()
    parts = [_rules(y, svg.ticks(0, top, 3, whole=True)), svg.text("label", 0, 15, counted)]
    parts += [_bar(x, y, *bar, sided=sides is not None) for bar in zip(edges, edges[1:], bars, strict=False)]
    parts += [f'<path class="steps" d="{_steps(x, y, edges, counts)}"/>' for _, counts in others]
    parts.append(svg.axis(x, [(at, tick(at)) for at in svg.ticks(edges[0], edges[-1])], floor, x_name))
    if sides and x.low <= 0 <= x.high:
        parts.append(svg.divide(x, 0, sides, floor))
    if others:
        parts.append(_key(list(series)))
    return Picture(title, floor + svg.BOTTOM, "".join(parts))


def _bar(x: Scale, y: Scale, left: Number, right: Number, count: Number, *, sided: bool) -> str:
    if not count > 0:
        return ""
    kind = "bar" if not sided else "bar right" if left >= 0 else "bar left" if right <= 0 else "bar even"
    wide, high = max(1.0, x(right) - x(left) - 1), max(0.6, y(0) - y(count))  # one pair among thousands is still seen
    return (
        f'<rect class="{kind}" x="{x(left) + 0.5:.1f}" y="{y(0) - high:.1f}" width="{wide:.1f}" height="{high:.1f}">'
        f"<title>{number(left)} to {number(right)}: {number(count)}</title></rect>"
    )


def _steps(x: Scale, y: Scale, edges: Sequence[Number], counts: Sequence[Number]) -> str:
    """The outline of a histogram as a path: up at each edge, along each bin, down at the end."""
    along = [f"V{y(count):.1f}H{x(right):.1f}" for right, count in zip(edges[1:], counts, strict=False)]
    return f"M{x(edges[0]):.1f} {y(0):.1f}{''.join(along)}V{y(0):.1f}"


def _rules(y: Scale, at: Sequence[Number]) -> str:
    return "".join(
        svg.line("grid", svg.LEFT, y(value), svg.RIGHT, y(value))
        + svg.text("tick", svg.LEFT - 9, y(value), tick(value), "end")
        for value in at
    )


def _key(names: Sequence[str]) -> str:
    signs = (("bar", "\u25a0"), ("steps", "\u2501"))
    entries = "\u2003".join(
        f'<tspan class="{css}-key">{sign}</tspan> {escape(name)}'
        for (css, sign), name in zip(signs, names, strict=False)
    )
    return f'<text class="label" x="{svg.RIGHT}" y="15" text-anchor="end">{entries}</text>'
