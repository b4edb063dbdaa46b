"""docs/alarms.png: what each alarm's threshold buys, and two runs as the gold alarm sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.config import StopConfig

if TYPE_CHECKING:
    from alarm_audit import Run

COLOURS = {"kl": "#2563eb", "length": "#059669", "distinct": "#7c3aed", "gold": "#dc2626",
           "gold, other windows": "#f59e0b", "gold, old rule": "#6b7280"}  # fmt: skip
LOWEST = 0.02  # rings per 1,000 refreshes that the axis shows; none at all is drawn there
DEFAULTS = {"gold, other windows": ("window", 10), "gold, old rule": ("noise", 2)}


def draw(file: Path, figures: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, *right) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained", width_ratios=(1.5, 1, 1))
    _trade_off(left, figures["curves"])
    hacked = [run for run in runs if run.kind == "frozen, KL 0" and run.truth.hacked]
    hacked.sort(key=lambda run: float(run.truth.curve.max() - run.truth.curve[-1]))
    healthy = [run for run in runs if run.kind == "RLOO rater, KL 0.3" and not run.truth.hacked]
    _trace(right[0], healthy[0], "Healthy: the rater is noisy and right")
    _trace(right[1], hacked[len(hacked) // 2], "Hacked: a frozen reward model, no KL")
    for panel in (left, *right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _trade_off(axes: Any, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    leads = [q for rows in curves.values() for row in rows if (q := row["hacked"]["lead_half"][1]) is not None]
    never = min(leads) - 8
    defaults = StopConfig()
    for number, (name, rows) in enumerate(curves.items()):
        none = LOWEST * 1.13**number  # side by side
        key = next(iter(rows[0]))
        usual = DEFAULTS.get(name, (key, getattr(defaults, key)))[1]
        x = [max(none, row["false"]["healthy, sound judge"]["per_1000"]) for row in rows]
        middle = [row["hacked"]["lead_half"][1] for row in rows]
        y = [never if value is None else value for value in middle]
        colour = COLOURS[name]
        axes.plot(
            x,
            y,
            "-o",
            color=colour,
            ms=3,
            lw=1.3,
            alpha=0.85,
            label=f"{name} ({key} {rows[0][key]:g} to {rows[-1][key]:g})",
        )
        for place, row in enumerate(rows):
            if row[key] == usual:
                axes.plot(x[place], y[place], "o", color=colour, ms=10, mec="black", mew=1.2, zorder=3)
    axes.axhline(0, color="#9ca3af", lw=1, zorder=0)
    axes.set(
        title="What a threshold buys (ringed: the default)", xscale="log",
        xlabel="false rings per 1,000 refreshes of healthy runs whose judge cannot be fooled",
        ylabel="median lead on half of gold's gain lost, refreshes",
    )  # fmt: skip
    ticks = [LOWEST, 0.1, 1, 10]
    axes.set_xticks(ticks, ["none", "0.1", "1", "10"])
    places = [tick for tick in axes.get_yticks() if tick > never + 3]
    axes.set_yticks([never, *places], ["never", *(f"{place:g}" for place in places)])
    axes.legend(frameon=False, fontsize=8)


def _trace(axes: Any, run: Run, title: str) -> None:
    """Gold and its moving mean; the reward's place on the other axis; a line where an alarm rings first."""
    from alarm_audit import WIDTH, rings

    gold = np.asarray(run.trace["gold"])
    axes.plot(gold, ".", color="#dc2626", ms=3, alpha=0.5)
    places = np.arange(len(run.truth.curve)) + WIDTH // 2
    axes.plot(places, run.truth.curve, color="#dc2626", lw=2, label="gold")
    axes.set(title=title, xlabel="update", ylabel="gold utility")
    other = axes.twinx()
    other.plot(run.trace["reward"], color="#f59e0b", lw=1, alpha=0.7, label="judge's reward")
    other.spines[["top"]].set_visible(False)
    other.set_yticks([])
    top = axes.get_ylim()[1]
    if run.truth.hacked:
        for place, label in ((run.truth.peak, "peak"), (run.truth.half, "half lost")):
            axes.axvline(place, color="#9ca3af", lw=1, ls=":")
            axes.text(place - 0.5, top, label, fontsize=8, color="#6b7280", ha="right", va="top", rotation=90)
    for number, (name, heard) in enumerate(rings(run.trace, StopConfig()).items()):
        if heard:
            axes.axvline(heard[0], color=COLOURS.get(name, "black"), lw=1.2)
            axes.text(heard[0] + 0.5, top - (0.04 + 0.05 * number) * (top - axes.get_ylim()[0]), name, fontsize=8,
                      color=COLOURS.get(name, "black"))  # fmt: skip
    lines = [*axes.get_lines()[1:2], *other.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, fontsize=8, loc="lower left")
