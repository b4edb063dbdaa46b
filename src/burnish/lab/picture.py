"""The quickstart's picture: what was gained, whether length drifted, and what DPO did to the two log-ratios."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from burnish.lab.measure import Evaluation

BEFORE, AFTER, QUIET = "#8a8f98", "#1f6fb4", "#b9bec6"
CHOSEN, REJECTED = "#2a8c4a", "#c8442f"


@dataclass(frozen=True, slots=True)
class LogRatioCurve:
    """Log-ratios over steps in nats per answer: the mean of each window, and its 95 % interval over pairs."""

    steps: tuple[float, ...]
    mean: tuple[float, ...]
    half: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[tuple[int, float]], window: int) -> LogRatioCurve:
        """`(step, value)` per pair, put together over `window` steps (1..window, window+1.., ...)."""
        bins: dict[int, list[float]] = {}
        for step, value in values:
            bins.setdefault((step - 1) // window, []).append(value)
        kept = [(number, ratios) for number, ratios in sorted(bins.items()) if len(ratios) > 1]
        return LogRatioCurve(
            tuple(number * window + (window + 1) / 2 for number, _ in kept),
            tuple(statistics.fmean(ratios) for _, ratios in kept),
            tuple(1.96 * statistics.stdev(ratios) / len(ratios) ** 0.5 for _, ratios in kept),
        )


def draw(
    file: Path,
    before: Evaluation,
    after: Evaluation,
    demonstrator: float,
    chosen: LogRatioCurve,
    rejected: LogRatioCurve,
) -> None:
    """Three panels into a PNG file."""
    style: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
    }
    with rc_context(style):
        figure = Figure(figsize=(13.5, 4.3), layout="constrained")
        panels = figure.subplots(1, 3, width_ratios=(1, 1.15, 1.25))
        _utility(panels[0], before, after, demonstrator)
        _lengths(panels[1], before, after)
        _log_ratios(panels[2], chosen, rejected)
        count = len(before.lengths)
        figure.supxlabel(
            f"{count} sampled answers before and after, {count // len(before.utility_by_card)} per card; intervals are "
            "95 % over cards (left) and over pairs (right), for one training seed",
            fontsize=8.5,
            color="#5b6068",
        )
        figure.savefig(file, dpi=150)


def _utility(axes: Axes, before: Evaluation, after: Evaluation, demonstrator: float) -> None:
    """One dot per card, the mean next to it; what perfect copying of the demonstrator would earn as a line."""
    count = len(before.utility_by_card)
    for place, (evaluation, colour) in enumerate(((before, BEFORE), (after, AFTER))):
        spread = [place - 0.14 + 0.22 * ((index * 0.618034) % 1 - 0.5) for index in range(count)]
        axes.scatter(spread, evaluation.utility_by_card, s=11, color=colour, alpha=0.4, linewidths=0)
        x, utility = place + 0.13, evaluation.utility
        axes.errorbar(x, utility.mean, utility.half, fmt="o", color=colour, ms=6.5, capsize=4, lw=2)
        axes.annotate(
            f"{utility.mean:.2f}",
            (x, utility.mean),
            (9, -4),
            textcoords="offset points",
            color=colour,
            fontweight="bold",
        )
    axes.axhline(demonstrator, color=QUIET, ls="--", lw=1, zorder=0)
    axes.text(1.49, demonstrator - 0.006, "demonstrator", color="#7d828a", fontsize=8.5, ha="right", va="top")
    names = [f"before (SFT)\n{before.accuracy.mean:.0%} right", f"after (DPO)\n{after.accuracy.mean:.0%} right"]
    axes.set(title="Gold utility", ylabel="mean utility of a card's answers", xlim=(-0.45, 1.5))
    axes.set_xticks([0, 1], names)


def _lengths(axes: Axes, before: Evaluation, after: Evaluation) -> None:
    longest = max(*before.lengths, *after.lengths)
    for shift, (name, evaluation, colour) in zip(
        (-0.2, 0.2), (("before", before, BEFORE), ("after", after, AFTER)), strict=True
    ):
        shares = Counter(evaluation.lengths)
        sizes = range(min(*before.lengths, *after.lengths), longest + 1)
        axes.bar(
            [size + shift for size in sizes],
            [100 * shares[size] / len(evaluation.lengths) for size in sizes],
            width=0.4,
            color=colour,
            label=f"{name}: mean {evaluation.length.mean:.2f}, {evaluation.finished:.1%} finished",
        )
    axes.set(title="Length of answers", xlabel="tokens", ylabel="% of answers")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.legend(frameon=False, loc="upper right", fontsize=9)


def _log_ratios(axes: Axes, chosen: LogRatioCurve, rejected: LogRatioCurve) -> None:
    for name, curve, colour in (("chosen", chosen, CHOSEN), ("rejected", rejected, REJECTED)):
        low = [m - h for m, h in zip(curve.mean, curve.half, strict=True)]
        high = [m + h for m, h in zip(curve.mean, curve.half, strict=True)]
        axes.fill_between(curve.steps, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(curve.steps, curve.mean, color=colour, lw=2)
        axes.annotate(
            name,
            (curve.steps[-1], curve.mean[-1]),
            (6, -3),
            textcoords="offset points",
            color=colour,
            fontweight="bold",
        )
    axes.axhline(0, color=QUIET, lw=1, zorder=0)
    axes.margins(x=0.02)
    right = axes.get_xlim()[1]
    axes.set_xlim(right=right * 1.2)
    axes.set(
        title="Log-ratio to the reference",
        xlabel="DPO step",
        ylabel=r"$\log\pi - \log\pi_\mathrm{ref}$, nats per answer",
    )
