"""The report as one HTML file: no network, no script; readable on a telephone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from burnish.audit.page import _shown
from burnish.findings import counted, printable
from burnish.pages import intervals
from burnish.pages import svg as shapes

LEAST_SHIFT = 0.05  # of the axis of shifts, in standard deviations
LEAST_SHARE = 0.2  # of the axis of flips
LEAST_PAIRS = 10  # in a bin of the reliability diagram, to be drawn
MOST_ROWS = 24  # of a picture; the table beside it has all


def page(figures: Mapping[str, Any]) -> str:
    """The page of a report's figures, with a `title` and a date `made` if they are there.

    Every text is escaped, and what would reorder or hide text is shown as its escape.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    environment.filters.update(number=shapes.number, share=shapes.share, sentence=_sentence)
    template = environment.from_string(
        (files("burnish.reports.rewards") / "page.html.jinja").read_text(encoding="utf-8")
    )
    figures = _printable(figures)
    names = [scorer["name"] for scorer in figures["scorers"]]
    swatches = {name: Markup(intervals.swatch(index)) for index, name in enumerate(names)}
    key = Markup('<p class="key">{}</p>').format(
        Markup("").join(Markup("<span>{} {}</span>").format(swatches[name], name) for name in names)
    )
    accuracy = figures["accuracy"] or {}
    bounds = {
        kind: "; ".join(f"{row['name']}: {row['bounds']}" for row in accuracy.get(kind, []))
        for kind in ("length", "contrast")
    }
    return template.render(
        r=figures, style=Markup(_style()), swatches=swatches, key=key, bounds=bounds, slices=_slices(accuracy),
        warnings=sum(line["severity"] == "warn" for line in figures["advice"]),
        advice=_by_scorer(figures["advice"]), most=MOST_ROWS, least=LEAST_PAIRS,
        share=shapes.share, signed=_signed, points=_points, plain=_plain,
        pictures={name: Markup(svg) for name, svg in _pictures(figures, names).items()},
    )  # fmt: skip


def _printable(value: Any) -> Any:
    """The same figures with every text, the names of scorers and probes too, as it can be shown."""
    if isinstance(value, Mapping):
        return {printable(str(name)): _printable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(part) for part in value]
    return printable(value) if isinstance(value, str) else value


def _style() -> str:
    """The style of the audit's page: one look for all pages."""
    text = (files("burnish.audit") / "page.html.jinja").read_text(encoding="utf-8")
    return text.split("<style>", 1)[1].split("</style>", 1)[0]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _signed(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:+.2f}".replace("-", "\u2212") if value else "0"


def _points(value: float | None) -> str:
    """A difference of shares in percentage points."""
    return "\u2013" if value is None else f"{100 * value:+.1f}".replace("-", "\u2212")


def _plain(value: float | None) -> str:
    return (
        "\u2013" if value is None else (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "\u2212")
    )


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


def _pictures(figures: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    found = {"correlation": _correlation(figures, names), **_probes(figures, names)}
    if figures["accuracy"]:
        found |= _accuracy(figures["accuracy"], names)
        found["reliability"] = _reliability(figures, names)
    if figures["best_of_n"]:
        found |= _best_of_n(figures["best_of_n"], names)
    bins = {name: row.get("bins") or [] for name, row in figures["ensembles"].items()}
    points = {
        name: [(row["disagreement"], row["value"], row["low"], row["high"]) for row in rows]
        for name, rows in bins.items()
    }
    top = max((point[0] for row in points.values() for point in row), default=1.0)
    found["disagreement"] = intervals.curves(
        points, names, "Is it right where its members agree?",
        ("standard deviation between the members\u2019 margins", "accuracy"), x_bounds=(0, 1.05 * top), y_bounds=(0, 1),
        shown=(shapes.tick, shapes.share), level=0.5,
    )  # fmt: skip
    return found


def _accuracy(accuracy: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    mean = [accuracy["mean_over_subsets"]] if accuracy["mean_over_subsets"] else []
    rows = [accuracy["all"], *mean, *accuracy["subsets"], *accuracy["sources"]]
    kinds = {
        "slices": (rows, "Where it is right"), "length": (accuracy["length"], "By difference of length"),
        "contrast": (accuracy["contrast"], "By difference of text"),
    }  # fmt: skip
    return {
        name: intervals.forest(
            [
                intervals.Block(row["name"], counted(row["pairs"], "pair"), _estimates(row["by"]),
                             ("longer wins", row["longer"]["value"]))
                for row in found[:MOST_ROWS]
            ],
            names, title, "accuracy, 95% interval", ("worse than chance", "better"),
        )
        for name, (found, title) in kinds.items()
    }  # fmt: skip


def _reliability(figures: Mapping[str, Any], names: Sequence[str]) -> str:
    points = {
        name: [
            (row["confidence"], row["value"], *((row["low"], row["high"]) if len(names) < 3 else (None, None)))
            for row in figures["calibration"][name]["bins"]
            if row["pairs"] >= LEAST_PAIRS
        ]
        for name in names
    }
    return intervals.curves(
        points, names, "Is it as sure as it is right?",
        ("probability that the scorer gives its choice", "how often right"),
        x_bounds=(0.5, 1), y_bounds=(0.2, 1), shown=(shapes.share, shapes.share), diagonal=True, level=0.5,
    )  # fmt: skip


def _correlation(figures: Mapping[str, Any], names: Sequence[str]) -> str:
    found = figures["length_correlation"]
    gold = (found["gold"] or {}).get("value")
    beside = None if gold is None else ("the data\u2019s scores", gold)
    block = intervals.Block("within a prompt", counted(figures["answers"], "answer"), _estimates(found["by"]), beside)
    return intervals.forest(
        [block], names, "Reward and length within a prompt", "correlation, 95% interval",
        ("pays for shorter", "for longer"), bounds=(-1, 1), middle=0, shown=_signed,
    )  # fmt: skip


def _probes(figures: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    shifts, flips = (
        [
            intervals.Block(
                probe,
                counted(max(row[size] for row in by.values()), size.removesuffix("s")),
                _estimates({name: row[what] for name, row in by.items() if row[what]}),
            )
            for probe, by in figures["probes"].items()
        ]
        for what, size in (("shift", "answers"), ("flips", "pairs"))
    )
    ends = [abs(end) for block in shifts for estimate in block.by.values() for end in estimate if end is not None]
    reach = 1.1 * max([LEAST_SHIFT, *ends])
    turned = [end for block in flips for estimate in block.by.values() for end in estimate if end is not None]
    return {
        "shift": intervals.forest(
            shifts, names, "What an edit of form adds to the reward", "standard deviations, 95% interval",
            ("costs", "pays"), bounds=(-reach, reach), middle=0, shown=_signed,
        ),
        "flips": intervals.forest(
            flips, names, "How often it turns a pair around", "share of pairs, 95% interval",
            ("", ""), bounds=(0, min(1.0, 1.1 * max([LEAST_SHARE, *turned]))), middle=0,
        ),
    }  # fmt: skip


def _best_of_n(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    def along(row: Mapping[str, Any] | None) -> list[intervals.Point]:
        return [] if row is None else list(zip(found["n"], row["value"], row["low"], row["high"], strict=True))

    gold = {name: along(row.get("gold")) for name, row in found["by"].items()}
    gold |= {"picked by gold itself": along(found["gold"])}
    gain = {name: along(row["gain"]) for name, row in found["by"].items()}
    drawn: dict[str, Any] = {"x_bounds": (1, found["n"][-1]), "whole": True}
    return {
        "gold": intervals.curves(gold, names, "Gold score of the best of n", ("n", "gold score"), **drawn),
        "gain": intervals.curves(gain, names, "Own reward of the best of n", ("n", "gain"), **drawn),
    }


def _estimates(by: Mapping[str, Mapping[str, Any]]) -> dict[str, intervals.Estimate]:
    return {name: (row["value"], row["low"], row["high"]) for name, row in by.items()}
