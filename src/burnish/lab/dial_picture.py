"""The four panels of the dial: what each end gains, what a frozen judge does, how right it stays, and at what KL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.lab.curves import RunCurves, smoothed

if TYPE_CHECKING:
    from burnish.lab.cosine import Cosines

COLOURS = {"static": "#6b7280", "online": "#2563eb", "rloo": "#059669", "frozen": "#dc2626"}
LABELS = {"static": "DPO, one data set", "online": "online DPO", "rloo": "RLOO, gold", "frozen": "RLOO, frozen RM"}


def draw(file: Path, curves: dict[str, list[RunCurves]], cosines: Sequence[Cosines]) -> None:
    """Write the picture; lines are means over seeds, bands reach from the lowest seed to the highest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8.2), layout="constrained")
    _gains(axes[0, 0], curves, cosines)
    _hacking(axes[0, 1], curves["frozen"])
    _accuracy(axes[1, 0], curves)
    _frontier(axes[1, 1], curves)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _line(axes: Any, seeds: Sequence[RunCurves], name: str, colour: str, label: str, style: str = "-") -> None:
    rows = [smoothed(getattr(run, name)) for run in seeds]
    points = [list(values) for values in zip(*rows, strict=True)]
    steps = seeds[0].steps
    axes.plot(steps, [sum(p) / len(p) for p in points], style, color=colour, lw=2, label=label)
    axes.fill_between(steps, [min(p) for p in points], [max(p) for p in points], color=colour, alpha=0.15, lw=0)


def _gains(axes: Any, curves: dict[str, list[RunCurves]], cosines: Sequence[Cosines]) -> None:
    for arm in ("rloo", "online", "static"):
        _line(axes, curves[arm], "gold", COLOURS[arm], LABELS[arm])
    mean = sum(seed.corrected["dpo_gold"] for seed in cosines) / len(cosines)
    axes.set(
        title=f"The ends begin alike (cosine of gradients {mean:.2f}), then part",
        xlabel="update", ylabel="gold utility of the policy's own answers",
    )  # fmt: skip
    axes.legend(frameon=False, loc="lower right")


def _hacking(axes: Any, seeds: Sequence[RunCurves]) -> None:
    _line(axes, seeds, "reward", "#f59e0b", "reward model's score")
    _line(axes, seeds, "gold", COLOURS["frozen"], "gold utility", "--")
    axes.set(title="A frozen judge and nothing that holds back", xlabel="update", ylabel="reward, utility")
    axes.legend(frameon=False, loc="upper left")


def _accuracy(axes: Any, curves: dict[str, list[RunCurves]]) -> None:
    for arm, label in (("online", "noisy rater, always asked"), ("frozen", "frozen reward model")):
        _line(axes, curves[arm], "accuracy", COLOURS[arm], label)
    axes.axhline(0.5, color="#9ca3af", lw=1, zorder=0)
    axes.set(
        title="Judge right about pairs of current answers", xlabel="update", ylabel="agreement with gold", ylim=(0, 1)
    )
    axes.legend(frameon=False, loc="lower left")


def _frontier(axes: Any, curves: dict[str, list[RunCurves]]) -> None:
    for arm, seeds in curves.items():
        for number, run in enumerate(seeds):
            axes.plot(
                smoothed(run.kl), smoothed(run.gold), color=COLOURS[arm], lw=1, alpha=0.7,
                label=LABELS[arm] if number == 0 else None,
            )  # fmt: skip
            axes.plot(run.at_end("kl"), run.at_end("gold"), "o", color=COLOURS[arm], ms=5)
    axes.set(title="What each nat bought (dots: the end)", xlabel="exact KL to the start, nats an answer",
             ylabel="gold utility", xscale="symlog")  # fmt: skip
    axes.legend(frameon=False, loc="lower left")
