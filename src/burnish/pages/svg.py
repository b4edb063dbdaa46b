"""Pictures as SVG: scales, lines, letters and marks, and several pictures on one sheet.

Colours and sizes of letters are in `style.css`, so that they follow the reader's light or dark and width of screen; the
places leave room for the largest letters. Nothing depends on colour alone: sides are named, a second series is a line,
what may be chance is hollow, and series differ in the form of their marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from burnish.findings import printable
from burnish.pages.numbers import Number, shorten
from burnish.pages.template import style

WIDTH, BOTTOM = 480, 48  # of a picture, and of what stands below its field
LEFT, RIGHT, TOP = 56, 454, 30  # where the field begins and ends
COLOURS = 6
MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # circle, square, diamond, triangles up and down, cross
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5L5 0L0 5L-5 0z",
    "M0-4.8L4.8 3.6H-4.8z",
    "M0 4.8L4.8-3.6H-4.8z",
    "M-4.6-1.5h3.1v-3.1h3v3.1h3.1v3h-3.1v3.1h-3v-3.1h-3.1z",
)
GAP, MARGIN, HEAD, KEY = 36, 24, 24, 26  # of a sheet: between columns, around it, a picture's title, a line of the key
KEY_ENTRY = 150  # width of a name in a sheet's key


@dataclass(frozen=True)
class Picture:
    """A drawing of WIDTH x height; in a template it stands for its `<svg>`."""

    title: str
    height: Number
    body: str

    def __html__(self) -> str:
        title = clean(self.title)
        head = f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{title}"><title>{title}</title>'
        return f"{head}{self.body}</svg>"


class Scale:
    """A linear map from numbers to places on the picture."""

    def __init__(self, low: Number, high: Number, first: Number, last: Number) -> None:
        self.low, self.high, self.first, self.last = low, high, first, last
        self.slope = (last - first) / ((high - low) or 1)

    def __call__(self, value: Number) -> float:
        return self.first + (value - self.low) * self.slope

    def clamp(self, value: Number) -> float:
        """The place of a value, or the end of the scale that it lies beyond."""
        return self(min(self.high, max(self.low, value)))


def ticks(low: Number, high: Number, count: int = 5, *, whole: bool = False) -> list[Number]:
    """Round numbers (1, 2 or 5 times a power of ten apart; counts are `whole`) that lie in low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def clean(text: str) -> str:
    """The text escaped for SVG and HTML, characters that would hide or reorder it as their escapes."""
    return escape(printable(text))


def text(css: str, x: Number, y: Number, content: str, anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{clean(content)}</text>'


def line(css: str, x1: Number, y1: Number, x2: Number, y2: Number) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def titled(css: str, title: str, body: str) -> str:
    """A group with a tooltip."""
    return f'<g class="{css}"><title>{clean(title)}</title>{body}</g>'


def axis(x: Scale, labels: Sequence[tuple[Number, str]], floor: Number, name: str) -> str:
    """The axis below a picture: its line, its ticks with their labels, its name."""
    parts = [line("axis", x.first, floor, x.last, floor)]
    for at, label in labels:
        parts.append(line("axis", x(at), floor, x(at), floor + 4))
        parts.append(text("tick below", x(at), floor + 10, label, "middle"))
    return "".join(parts) + text("label below", (x.first + x.last) / 2, floor + 29, name, "middle")


def divide(x: Scale, at: Number, sides: tuple[str, str], floor: Number) -> str:
    """The dashed line between two sides, and their names above it."""
    parts = [line("zero", x(at), TOP - 8, x(at), floor)] if x.low <= at <= x.high else []
    if any(sides):
        parts.append(text("label", x.first, 15, f"\u2190 {sides[0]}"))
        parts.append(text("label", x.last, 15, f"{sides[1]} \u2192", "end"))
    return "".join(parts)


def mark(index: int) -> str:
    """The path of a series' mark around (0, 0): a circle, a square, ...; after six the forms change colours."""
    return MARKS[(index + index // COLOURS) % len(MARKS)]


def hue(index: int) -> str:
    """The class that gives a series its colour."""
    return f"s{index % COLOURS}"


def place_mark(index: int, x: Number, y: Number, title: str = "") -> str:
    """A series' mark at a place, with a tooltip where there is one."""
    inner = f"><title>{clean(title)}</title></path>" if title else "/>"
    return f'<path class="mark" d="{mark(index)}" transform="translate({x:.1f} {y:.1f})"{inner}'


def swatch(index: int) -> str:
    """A mark by itself, for a key within text."""
    head = f'<svg class="swatch {hue(index)}" viewBox="-5.5 -5.5 11 11" aria-hidden="true">'
    return f'{head}<path d="{mark(index)}"/></svg>'


def sheet(pictures: Sequence[Picture], series: Sequence[str], caption: str, columns: int = 3) -> str:
    """An SVG file of several pictures, each in the column that is shortest so far, below a key of the series' names."""
    columns = max(1, min(columns, len(pictures)))
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP
    each_line = max(1, (width - 2 * MARGIN) // KEY_ENTRY)
    parts = []
    for index, name in enumerate(series):
        x, y = MARGIN + 6 + KEY_ENTRY * (index % each_line), MARGIN + 6 + KEY * (index // each_line)
        parts.append(f'<g class="{hue(index)}">{place_mark(index, x, y)}</g>')
        parts.append(text("name", x + 10, y, shorten(name)))
    ends = [MARGIN + KEY * -(-len(series) // each_line)] * columns
    for picture in pictures:
        column = ends.index(min(ends))
        x, y = MARGIN + column * (WIDTH + GAP), ends[column]
        title = text("heading", x, y + HEAD / 2, picture.title)
        parts.append(f'{title}<g transform="translate({x} {y + HEAD})">{picture.body}</g>')
        ends[column] += int(picture.height) + HEAD + MARGIN
    height = max(ends) + MARGIN
    parts.append(text("tick", MARGIN, height - MARGIN, caption))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="sheet" width="{width}" viewBox="0 0 {width} {height}">'
    paper = f'<rect class="paper" width="{width}" height="{height}"/>'
    return f"{head}<style>{style()}</style>{paper}{''.join(parts)}</svg>\n"
