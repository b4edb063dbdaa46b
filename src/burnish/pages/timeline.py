"""Events along the steps of a run: a mark for each, a line for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from burnish.pages import svg
from burnish.pages.numbers import Number, shorten, tick
from burnish.pages.svg import Picture, Scale

NAMES, ROW = 120, 26  # room for a kind's name on the left; height of its line


class Event(NamedTuple):
    """What happened at a step: its kind, and the sentence that a reader sees on its mark."""

    step: Number
    kind: str
    text: str


def timeline(events: Sequence[Event], last: Number, title: str) -> Picture | None:
    """The events from step 0 to `last`; None where nothing happened."""
    if not events or not last > 0:
        return None
    kinds = list(dict.fromkeys(event.kind for event in events))
    floor = svg.TOP + ROW * len(kinds)
    x = Scale(0, last, NAMES, svg.RIGHT)
    parts = []
    for row, kind in enumerate(kinds):
        y = svg.TOP + ROW * (row + 0.5)
        parts.append(svg.text("name", NAMES - 12, y, shorten(kind), "end"))
        parts.append(svg.line("grid", NAMES, y, svg.RIGHT, y))
        own = [event for event in events if event.kind == kind]
        marks = [svg.place_mark(row, x.clamp(e.step), y, f"step {tick(e.step)}: {e.text}") for e in own]
        parts.append(svg.titled(svg.hue(row), kind, "".join(marks)))
    parts.append(svg.axis(x, [(v, tick(v)) for v in svg.ticks(0, last, 5, whole=True)], floor, "step"))
    return Picture(title, floor + svg.BOTTOM, "".join(parts))
