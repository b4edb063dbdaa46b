"""The report in one wide picture: a panel for each question that the figures can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from burnish.findings import printable
from burnish.pages.svg import middle_cut

COLOURS = ("#2b66a8", "#b4541f", "#1a6139", "#7a3f9d", "#80600a", "#a3244f")
MARKS = "osD^vP"
QUIET, SOFT = "#b9bec6", "#5b6068"
MOST_ROWS = 10  # subsets or sources in the first panel
LEAST_PAIRS = 10  # in a bin of the reliability diagram, to be drawn
COLUMNS = 4
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.parse_math": False,  # names are not formulas
}

Figures = Mapping[str, Any]
Panel = Callable[[Axes, Figures, Sequence[str]], None]


def draw(figures: Figures, file: Path) -> None:
    """Write the picture as PNG: as many panels as there is something to draw in, at most seven and a key."""
    names = [scorer["name"] for scorer in figures["scorers"]]
    panels = _panels(figures)
    rows = 1 if len(panels) <= COLUMNS else 2
    columns = -(-len(panels) // rows)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.1 * columns, 3.9 * rows + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            panel(axes, figures, names)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        keys = [
            Line2D([], [], color=_colour(i), marker=_mark(i), lw=1.8, ms=6, label=middle_cut(printable(name)))
            for i, name in enumerate(names)
        ]
        figure.legend(handles=keys, loc="outside upper left", ncols=min(len(keys), 8), frameon=False, fontsize=11)
        figure.supxlabel(
            f"{figures['pairs']:,} judged pairs, {figures['answers']:,} answers, {figures['prompts']:,} prompts; "
            "intervals are 95 % and count prompts as independent",
            fontsize=9,
            color=SOFT,
        )  # fmt: skip
        figure.savefig(file, dpi=130)


def _panels(figures: Figures) -> list[Panel]:
    found: list[Panel] = []
    if figures["accuracy"]:
        found += [_accuracy, _by_length, _reliability]
    if figures["best_of_n"]:
        found.append(_best_of_n)
    found.append(_correlation)
    if figures["probes"]:
        found.append(_probes)
    if any(row.get("bins") for row in figures["ensembles"].values()):
        found.append(_disagreement)
    return found


def _accuracy(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    """All pairs, then subsets (else sources) with most pairs: intervals, and a tick where the longer answer wins."""
    accuracy = figures["accuracy"]
    parts = accuracy["subsets"] or accuracy["sources"]
    mean = [accuracy["mean_over_subsets"]] if accuracy["mean_over_subsets"] else []
    rows = [accuracy["all"], *mean, *parts[:MOST_ROWS]]
    _blocks(axes, [(row["name"], row["by"]) for row in rows], names)
    for place, row in enumerate(rows):
        longer = row["longer"]["value"]
        axes.plot([longer, longer], [place - 0.42, place + 0.42], color=SOFT, lw=1.4, ls=(0, (1, 1.2)), zorder=1)
    axes.axvline(0.5, color=QUIET, lw=1, zorder=0)
    axes.set(title="Accuracy (dotted: the longer wins)", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _by_length(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    rows = figures["accuracy"]["length"]
    for index, name in enumerate(names):
        points = [(place, row["by"][name]) for place, row in enumerate(rows)]
        _bars(axes, [(place + _aside(index, names, 0.5), e) for place, e in points], index, join=True)
    axes.axhline(0.5, color=QUIET, lw=1, zorder=0)
    axes.set(title="Accuracy by length of the chosen", ylim=(0, 1.02), xlim=(-0.5, len(rows) - 0.5))
    axes.set_xticks(range(len(rows)), [row["name"].replace(" ", "\n") for row in rows], fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _reliability(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    axes.plot([0.5, 1], [0.5, 1], color=SOFT, lw=1, ls="--", zorder=0)
    for index, name in enumerate(names):
        bins = [row for row in figures["calibration"][name]["bins"] if row["pairs"] >= LEAST_PAIRS]
        x, y = [row["confidence"] for row in bins], [row["value"] for row in bins]
        axes.plot(x, y, color=_colour(index), marker=_mark(index), ms=4.5, lw=1.4)
    axes.axhline(0.5, color=QUIET, lw=1, zorder=0)
    axes.set(title="Calibration", xlabel="probability given to its choice", ylabel="how often right", xlim=(0.49, 1.01))
    axes.set_ylim(min(0.3, axes.get_ylim()[0]), 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _best_of_n(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    """Gold scores of the answers picked, where the data has them; else the scorers' own gain."""
    found = figures["best_of_n"]
    what = "gold" if found["gold"] else "gain"
    for index, name in enumerate(names):
        row = found["by"][name].get(what)
        if row is None:
            continue
        axes.plot(found["n"], row["value"], color=_colour(index), lw=1.8)
        every = max(1, len(found["n"]) // 5)
        axes.plot(found["n"][::every], row["value"][::every], color=_colour(index), marker=_mark(index), ms=4.5, lw=0)
        if None not in row["low"]:
            axes.fill_between(found["n"], row["low"], row["high"], color=_colour(index), alpha=0.12, lw=0)
    if found["gold"]:
        axes.plot(found["n"], found["gold"]["value"], color=SOFT, lw=1.3, ls="--")
        axes.annotate("by gold", (found["n"][-1], found["gold"]["value"][-1]), (-4, 3), textcoords="offset points",
                      color=SOFT, fontsize=9, ha="right", va="bottom")  # fmt: skip
    label = "gold score of the pick" if found["gold"] else "own gain, sd within a prompt"
    axes.set(title="Best of n", xlabel="n", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _correlation(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    found = figures["length_correlation"]
    for index, name in enumerate(names):
        _bars(axes, [(index, found["by"][name])], index)
    axes.axhline(0, color=QUIET, lw=1, zorder=0)
    if found["gold"] and found["gold"]["value"] is not None:
        gold = found["gold"]["value"]
        axes.axhline(gold, color=SOFT, lw=1.2, ls="--", zorder=0)
        axes.annotate("the data's scores", (0, gold), (4, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", color=SOFT, fontsize=9)  # fmt: skip
    axes.set(title="Reward and length within a prompt", ylabel="correlation", ylim=(-1.02, 1.02))
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xticks([])


def _probes(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    rows = [(probe, {name: row["flips"] for name, row in by.items()}) for probe, by in figures["probes"].items()]
    _blocks(axes, rows, names)
    axes.set_xlim(left=-0.03 * axes.get_xlim()[1])  # room for the marks at nought
    axes.set(title="Pairs turned by an edit of form", xlabel="share of the pairs ranked right")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _disagreement(axes: Axes, figures: Figures, names: Sequence[str]) -> None:
    for name, row in figures["ensembles"].items():
        _bars(axes, [(b["disagreement"], b) for b in row.get("bins") or []], names.index(name), join=True)
    axes.axhline(0.5, color=QUIET, lw=1, zorder=0)
    axes.set(title="Where members disagree", xlabel="sd between the members' margins", ylabel="accuracy")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _blocks(axes: Axes, rows: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> None:
    """Horizontal intervals: a block a row, from the top, and within it a line for each scorer."""
    for index, name in enumerate(names):
        for place, (_, by) in enumerate(rows):
            estimate = by.get(name)
            if estimate and estimate["value"] is not None:
                y = place + _aside(index, names, 0.7)
                if estimate["low"] is not None:
                    axes.plot([estimate["low"], estimate["high"]], [y, y], color=_colour(index), lw=1.5)
                axes.plot(estimate["value"], y, color=_colour(index), marker=_mark(index), ms=4.5)
    axes.set_yticks(range(len(rows)), [middle_cut(printable(name)) for name, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color="#e6e3dd", lw=0.7, zorder=0)


def _bars(axes: Axes, points: Sequence[tuple[int | float, Any]], index: int, *, join: bool = False) -> None:
    """Vertical intervals at places along x, joined by a line if wanted."""
    known = [(x, e) for x, e in points if e and e["value"] is not None]
    for x, estimate in known:
        if estimate["low"] is not None:
            axes.plot([x, x], [estimate["low"], estimate["high"]], color=_colour(index), lw=1.3)
    style: dict[str, Any] = {"lw": 1.4 if join else 0, "marker": _mark(index), "ms": 4.5}
    axes.plot([x for x, _ in known], [e["value"] for _, e in known], color=_colour(index), **style)


def _aside(index: int, names: Sequence[str], width: float) -> float:
    """Where a scorer stands beside the middle of its row, so that intervals do not cover each other."""
    step = min(width / 4, width / max(1, len(names) - 1))
    return step * (index - (len(names) - 1) / 2)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _mark(index: int) -> str:
    return MARKS[(index + index // len(COLOURS)) % len(MARKS)]
