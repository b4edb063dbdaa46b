"""The figures of an evaluation as a page that fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.pages.intervals import Row, forest
from burnish.pages.numbers import points, share
from burnish.pages.svg import Picture, swatch
from burnish.pages.template import render
from burnish.reports.evals import moved
from burnish.reports.evals.terminal import remarks

LEAST_REACH = 0.05  # of the axis of differences


def page(results: Mapping[str, Any]) -> str:
    """The page of an evaluation's results."""
    suites = [
        {**suite, "picture": PICTURES[suite["kind"]](suite), "remarks": remarks(suite), "rows": _rows(suite)}
        for suite in results["suites"]
    ]
    names = ", ".join(results["models"])
    return render(
        "reports/evals/page.html.jinja", heading=f"Evaluation of {names}", version=results["version"],
        made=results.get("made"), r=results, suites=suites, keys={"win_rate": _key(("raw", "at equal length"))},
    )  # fmt: skip


def _key(series: tuple[str, ...]) -> Any:
    from markupsafe import Markup, escape

    entries = "".join(f"<span>{swatch(index)} {escape(name)}</span>" for index, name in enumerate(series))
    return Markup(f'<p class="key">{entries}</p>')


def _win_rates(suite: Mapping[str, Any]) -> Picture | None:
    rows = [
        Row(name, "win rate", {"raw": tuple(f["raw"]), "at equal length": tuple(f["length_controlled"])})
        for name, f in suite["models"].items()
        if "raw" in f
    ]
    sides = f"{suite['baseline']} better", "model better"
    return forest(rows, ("raw", "at equal length"), "Win rate", "share of pairs", sides, form=share)


def _changes(suite: Mapping[str, Any]) -> Picture | None:
    changed = {name: f["change"]["value"] for name, f in suite["models"].items() if "change" in f}
    rows = [Row(name, "passes", {"difference": tuple(value)}) for name, value in changed.items()]
    return _differences(rows, f"Pass rate minus that of {suite['baseline']}")


def _task_changes(suite: Mapping[str, Any]) -> Picture | None:
    rows = [
        Row(f"{name} {metric}", metric, {"difference": tuple(row["change"]["value"])})
        for name, f in suite["models"].items()
        for metric, row in f["tasks"].items()
        if "change" in row and abs(row["change"]["value"][0]) <= 1
    ]
    return _differences(rows, f"Minus the score of {suite['baseline']}")


def _panel(suite: Mapping[str, Any]) -> Picture | None:
    """The habits, which are shares; lengths and nats have other units and stand in the table."""
    rows = [
        Row(f"{name} {metric}", metric, {"difference": tuple(row["difference"])})
        for name, f in suite["models"].items()
        for metric, row in f["metrics"].items()
        if metric not in (*moved.OF_TEXTS, moved.TOKENS)
    ]
    return _differences(rows, f"Habits minus those of {suite['baseline']}")


def _differences(rows: list[Row], title: str) -> Picture | None:
    values = [v for row in rows for estimate in row.estimates.values() for v in estimate if v is not None]
    if not values:
        return None
    reach = max(LEAST_REACH, *map(abs, values))
    sides = "less", "more"
    return forest(
        rows, ("difference",), title, "percentage points", sides, bounds=(-reach, reach), middle=0.0, form=points
    )


PICTURES = {"win_rate": _win_rates, "verifier": _changes, "panel": _panel, "lm_eval": _task_changes}


def _rows(suite: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panel's table: a row for each model and metric."""
    if suite["kind"] != "panel":
        return []
    return [
        {
            "model": name, "metric": moved.NAMES.get(metric, metric), "counts": row["counts"],
            "baseline": moved.level(metric, row["baseline"]), "here": moved.level(metric, row["model"]),
            "gap": " to ".join(moved.gap(metric, value) for value in row["difference"][1:]),
            "floor": "" if not row["floor"] else moved.gap(metric, row["floor"]).removeprefix("+"),
        }
        for name, figures in suite["models"].items()
        for metric, row in figures["metrics"].items()
    ]  # fmt: skip
