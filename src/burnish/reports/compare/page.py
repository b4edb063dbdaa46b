"""A comparison as a page that fetches nothing, and its frontier as a picture of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.pages.curves import Point, curves
from burnish.pages.intervals import Row, forest
from burnish.pages.numbers import digits
from burnish.pages.svg import Picture, sheet, swatch
from burnish.pages.template import render
from burnish.reports.compare.comparison import words

AIR = 1.05  # of the axes beyond the largest value


def page(found: Mapping[str, Any]) -> str:
    """The page of a comparison's figures."""
    from markupsafe import Markup

    names = [run["name"] for run in found["runs"]]
    return render(
        "reports/compare/page.html.jinja", heading=f"{len(names)} runs compared", version=found["version"],
        made=found.get("made"), r=found, words=words(found), names=names,
        swatches={name: Markup(swatch(index)) for index, name in enumerate(names)},
        pictures={"frontier": frontier(found), "quality": _quality(found)},
    )  # fmt: skip


def picture(found: Mapping[str, Any]) -> str | None:
    """An SVG file of the frontier, or of the qualities where no run has refreshes; None where nothing can be drawn."""
    drawn = [panel for panel in (frontier(found), _quality(found)) if panel is not None]
    return sheet(drawn, [run["name"] for run in found["runs"]], found["method"]) if drawn else None


def frontier(found: Mapping[str, Any]) -> Picture | None:
    """Each run's way through sqrt(KL) and the figure."""
    series: dict[str, list[Point]] = {
        name: [(x, y, None, None) for x, y, _ in points] for name, points in found["frontier"].items()
    }
    highest = max((point[0] for points in series.values() for point in points), default=0.0)
    if not highest > 0:
        return None
    names = [run["name"] for run in found["runs"]]
    title = f"{found['figure']} against the distance from the start"
    axes = "sqrt(KL), KL in nats an answer", found["figure"]
    return curves(series, names, title, axes, x_bounds=(0.0, AIR * highest), forms=(digits, digits))


def _quality(found: Mapping[str, Any]) -> Picture | None:
    """Every run's quality by the measure of the pick."""
    measure = found["pick"]["measure"]
    values = found["quality"].get(measure, {})
    rows = [
        Row(n, measure, {measure: (v[0], v[1], v[2])}) for n, v in values.items() if v is not None and v[0] is not None
    ]
    ends = [end for row in rows for end in row.estimates[measure] if end is not None]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    air = 0.1 * (high - low) or 0.05
    middle = (values.get(found["pick"]["run"]) or [low])[0]
    return forest(rows, (measure,), measure, measure, ("lower", "higher"), bounds=(low - air, high + air),
                  middle=middle, form=digits)  # fmt: skip


def draw_png(found: Mapping[str, Any], file: Path) -> bool:
    """The frontier as a PNG: a run's way, or one mark a run where it has no refreshes. False where there is nothing."""
    from burnish.reports.charts import frontier_figure

    names = [run["name"] for run in found["runs"]]
    marks = {n: v for n, v in found["quality"].get(found["pick"]["measure"], {}).items() if v is not None}
    ways = {name: found["frontier"][name] for name in names if name in found["frontier"]}
    if not ways and not marks:
        return False
    frontier_figure(ways, marks, found["figure"] or found["pick"]["measure"], found["pick"]["run"], file,
                    "nats a token on the panel" if found["panel_kl"] else "nats an answer")  # fmt: skip
    return True
