"""The report as an HTML file, and its main pictures on a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.findings import counted
from burnish.pages import numbers
from burnish.pages.curves import Point, curves
from burnish.pages.intervals import Estimate, Row, forest
from burnish.pages.svg import Picture, sheet, swatch
from burnish.pages.template import render

LEAST_SHIFT = 0.05  # of the axis of shifts, in standard deviations
LEAST_SHARE = 0.2  # of the axis of flips
LEAST_PAIRS = 10  # in a bin of the reliability diagram, to be drawn
MOST_ROWS = 24  # of a picture; the table below it has all
ON_SHEET = ("slices", "length", "reliability", "gold", "correlation", "flips", "disagreement")

Figures = Mapping[str, Any]
Pictures = dict[str, Picture | None]


def page(figures: Figures) -> str:
    """The page of a report's figures, with a `title` and a date `made` if they are there."""
    from markupsafe import Markup

    names = [scorer["name"] for scorer in figures["scorers"]]
    accuracy = figures["accuracy"] or {}
    bounds = {
        kind: "; ".join(f"{row['name']}: {row['bounds']}" for row in accuracy.get(kind, []))
        for kind in ("length", "contrast")
    }
    return render(
        "reports/rewards/page.html.jinja", heading=f"Reward report of {figures.get('title') or 'scored answers'}",
        version=figures["version"], made=figures.get("made"), r=figures,
        swatches={name: Markup(swatch(index)) for index, name in enumerate(names)}, bounds=bounds,
        slices=_slices(accuracy), warnings=sum(line["severity"] == "warn" for line in figures["advice"]),
        advice=_by_scorer(figures["advice"]), most=MOST_ROWS, least=LEAST_PAIRS, pictures=_pictures(figures, names),
    )  # fmt: skip


def picture(figures: Figures) -> str:
    """An SVG file of the page's main pictures."""
    names = [scorer["name"] for scorer in figures["scorers"]]
    pictures = _pictures(figures, names)
    gold = "gold" if pictures.get("gold") else "gain"
    drawn = [pictures.get(gold if name == "gold" else name) for name in ON_SHEET]
    nouns = {"pairs": "judged pair", "answers": "answer", "prompts": "prompt"}
    counts = ", ".join(counted(figures[name], noun) for name, noun in nouns.items())
    caption = f"{counts}; intervals are 95 % and count prompts as independent"
    return sheet([panel for panel in drawn if panel is not None], names, caption)


def _by_scorer(lines: Sequence[Mapping[str, str]]) -> list[tuple[str, list[Mapping[str, str]]]]:
    """(scorer or "", its lines) in the order in which they come."""
    names = dict.fromkeys(line["scorer"] for line in lines)
    return [(name, [line for line in lines if line["scorer"] == name]) for name in names]


def _slices(accuracy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All rows of accuracy, from the whole to the parts."""
    if not accuracy:
        return []
    mean = [accuracy["mean_over_subsets"]] if accuracy["mean_over_subsets"] else []
    parts = [row for kind in ("sources", "length", "contrast") for row in accuracy[kind]]
    return [accuracy["all"], *mean, *accuracy["subsets"], *parts]


def _pictures(figures: Figures, names: Sequence[str]) -> Pictures:
    pictures: Pictures = {"correlation": _correlation(figures, names), **_probes(figures, names)}
    if figures["accuracy"]:
        pictures |= _accuracy(figures["accuracy"], names)
        pictures["reliability"] = _reliability(figures, names)
    if figures["best_of_n"]:
        pictures |= _best_of_n(figures["best_of_n"], names)
    pictures["disagreement"] = _disagreement(figures, names)
    return pictures


def _accuracy(accuracy: Mapping[str, Any], names: Sequence[str]) -> Pictures:
    mean = [accuracy["mean_over_subsets"]] if accuracy["mean_over_subsets"] else []
    kinds = {
        "slices": ([accuracy["all"], *mean, *accuracy["subsets"], *accuracy["sources"]], "Where it is right"),
        "length": (accuracy["length"], "By difference of length"),
        "contrast": (accuracy["contrast"], "By difference of text"),
    }
    pictures: Pictures = {}
    for kind, (slices, title) in kinds.items():
        rows = [
            Row(part["name"], counted(part["pairs"], "pair"), _estimates(part["by"]),
                ("longer wins", part["longer"]["value"]))
            for part in slices[:MOST_ROWS]
        ]  # fmt: skip
        sides = ("worse than chance", "better")
        pictures[kind] = forest(rows, names, title, "accuracy, 95% interval", sides)
    return pictures


def _reliability(figures: Figures, names: Sequence[str]) -> Picture | None:
    points = {
        name: [
            (row["confidence"], row["value"], *((row["low"], row["high"]) if len(names) < 3 else (None, None)))
            for row in figures["calibration"][name]["bins"]
            if row["pairs"] >= LEAST_PAIRS
        ]
        for name in names
    }
    return curves(
        points, names, "Is it as sure as it is right?",
        ("probability that the scorer gives its choice", "how often right"),
        x_bounds=(0.5, 1), y_bounds=(0.2, 1), forms=(numbers.share, numbers.share), diagonal=True, level=0.5,
    )  # fmt: skip


def _correlation(figures: Figures, names: Sequence[str]) -> Picture | None:
    correlation = figures["length_correlation"]
    gold = (correlation["gold"] or {}).get("value")
    reference = None if gold is None else ("the data\u2019s scores", gold)
    row = Row("within a prompt", counted(figures["answers"], "answer"), _estimates(correlation["by"]), reference)
    return forest(
        [row], names, "Reward and length within a prompt", "correlation, 95% interval",
        ("pays for shorter", "for longer"), bounds=(-1, 1), middle=0, form=numbers.signed,
    )  # fmt: skip


def _probes(figures: Figures, names: Sequence[str]) -> Pictures:
    shifts, flips = (
        [
            Row(
                probe,
                counted(max(row[size] for row in by.values()), size.removesuffix("s")),
                _estimates({name: row[what] for name, row in by.items() if row[what]}),
            )
            for probe, by in figures["probes"].items()
        ]
        for what, size in (("shift", "answers"), ("flips", "pairs"))
    )
    ends = [abs(end) for row in shifts for estimate in row.estimates.values() for end in estimate if end is not None]
    reach = 1.1 * max([LEAST_SHIFT, *ends])
    turned = [end for row in flips for estimate in row.estimates.values() for end in estimate if end is not None]
    return {
        "shift": forest(
            shifts, names, "What an edit of form adds to the reward", "standard deviations, 95% interval",
            ("costs", "pays"), bounds=(-reach, reach), middle=0, form=numbers.signed,
        ),
        "flips": forest(
            flips, names, "How often it turns a pair around", "share of pairs, 95% interval",
            ("", ""), bounds=(0, min(1.0, 1.1 * max([LEAST_SHARE, *turned]))), middle=0,
        ),
    }  # fmt: skip


def _best_of_n(best: Mapping[str, Any], names: Sequence[str]) -> Pictures:
    def along(row: Mapping[str, Any] | None) -> list[Point]:
        return [] if row is None else list(zip(best["n"], row["value"], row["low"], row["high"], strict=True))

    gold = {name: along(row.get("gold")) for name, row in best["by"].items()}
    gold |= {"picked by gold itself": along(best["gold"])}
    gain = {name: along(row["gain"]) for name, row in best["by"].items()}
    axis: dict[str, Any] = {"x_bounds": (1, best["n"][-1]), "whole": True}
    return {
        "gold": curves(gold, names, "Gold score of the best of n", ("n", "gold score"), **axis),
        "gain": curves(gain, names, "Reward of the best of n", ("n", "gain"), **axis),
    }


def _disagreement(figures: Figures, names: Sequence[str]) -> Picture | None:
    points = {
        name: [(row["disagreement"], row["value"], row["low"], row["high"]) for row in ensemble.get("bins") or []]
        for name, ensemble in figures["ensembles"].items()
    }
    top = max((point[0] for row in points.values() for point in row), default=1.0)
    return curves(
        points, names, "Is it right where its members agree?",
        ("standard deviation between the members\u2019 margins", "accuracy"), x_bounds=(0, 1.05 * top), y_bounds=(0, 1),
        forms=(numbers.tick, numbers.share), level=0.5,
    )  # fmt: skip


def _estimates(by: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: (row["value"], row["low"], row["high"]) for name, row in by.items()}
