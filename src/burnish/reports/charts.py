"""The pictures of a run's end, from its records: `summary.png` shows the steps, `answers.png` the refreshes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.runlog.records import AlarmRecord, RefreshRecord, StepRecord

# what to draw of both sides, by the first that a run has; sums without a reference would show mostly the lengths
SIDES = {
    "logratio/chosen": ("logratio/{}", "log-ratio to the reference", "nats per answer"),
    "logps/chosen_per_token": ("logps/{}_per_token", "log-probability", "nats per token"),
    "rewards/chosen": ("rewards/{}", "reward", "reward"),
    "rewards/margins": ("rewards/margins", "margin between answers", "reward"),
}
PANELS = (  # of the refreshes: (metric, label, colour) of each curve, and their unit
    ((("reward", "judge's reward", "#2563eb"), ("gold", "gold", "#059669")), "mean over the answers"),
    ((("kl/answer", "exact KL to the reference", "#dc2626"),), "nats an answer"),
    ((("length", "mean length", "#7c3aed"),), "tokens"),
    ((
        ("distinct", "distinct answers", "#2563eb"), ("finished", "finished", "#6b7280"),
        ("judge_accuracy", "judge agrees with gold", "#059669"), ("no_signal", "prompts without signal", "#f59e0b"),
    ), "share"),
)  # fmt: skip


def draw_steps(steps: Sequence[StepRecord], file: Path) -> None:
    """Chosen and rejected apart (log-ratios; without a reference log-probs per token), and accuracy, over the steps."""
    figure = _figure(10.0, 3.4)
    left, right = figure.subplots(1, 2)
    at, last = [step.step for step in steps], steps[-1].metrics
    pattern, title, unit = SIDES[next(name for name in SIDES if name in last)]
    for side, color in (("chosen", "#1b7837"), ("rejected", "#b2182b")):
        if pattern.format(side) in last:
            left.plot(at, [step.metrics[pattern.format(side)] for step in steps], color=color, label=side)
    if "logratio/chosen" in last:
        left.axhline(0, color="#999999", linewidth=0.8)
    left.set(title=title, xlabel="step", ylabel=unit)
    left.legend(frameon=False)
    right.plot(at, [step.metrics["rewards/accuracies"] for step in steps], color="#2166ac")
    right.axhline(0.5, color="#999999", linewidth=0.8)
    right.set(title="pairs ranked right", xlabel="step", ylim=(0, 1.02))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def draw_refreshes(refreshes: Sequence[RefreshRecord], alarms: Sequence[AlarmRecord], file: Path) -> None:
    """Four panels over the optimiser's steps; a mark where an alarm rang."""
    figure = _figure(15.0, 4.0)
    for axes, (curves, unit) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for name, label, colour in curves:
            points = [(record.step, record.metrics[name]) for record in refreshes if name in record.metrics]
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=colour, lw=0.8, alpha=0.35)
                axes.plot(steps, _smoothed(values), color=colour, lw=1.8, label=label)
        for alarm in alarms:
            axes.axvline(alarm.step, color="#9ca3af", lw=1, ls=":")
        axes.set(xlabel="step", ylabel=unit)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    figure.savefig(file, dpi=130)


def _figure(width: float, height: float) -> Any:
    """A figure that needs no display and leaves pyplot's state alone; matplotlib is loaded only where one is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over a twentieth of the run around each point; what is no number stays out."""
    half = len(values) // 40
    means = []
    for i in range(len(values)):
        window = [value for value in values[max(0, i - half) : i + half + 1] if value == value]
        means.append(sum(window) / len(window) if window else float("nan"))
    return means


def frontier_figure(
    ways: Mapping[str, Sequence[Sequence[float]]], marks: Mapping[str, Sequence[float | None]], what: str, picked: str,
    file: Path, unit: str = "nats an answer",
) -> None:  # fmt: skip
    """Runs in the plane of distance and quality: a way [sqrt KL, value, step] each, or one mark with its interval.

    `marks` are (value, low, high, KL in `unit`); without a KL they stand beside each other.
    """
    figure = _figure(8.0, 4.6)
    axes = figure.subplots()
    if ways:
        for name, points in ways.items():
            width = 2.6 if name == picked else 1.4
            axes.plot([p[0] for p in points], [p[1] for p in points], lw=width, label=name)
        axes.set(xlabel="sqrt(KL), KL in nats an answer", ylabel=what)
    else:
        placed = all(mark[3] is not None for mark in marks.values())
        for number, (name, (value, low, high, kl)) in enumerate(marks.items()):
            at = float(kl) if placed and kl is not None else float(number)
            known = None if low is None or high is None or value is None else [[value - low], [high - value]]
            axes.errorbar([at], [value], yerr=known, fmt="o", ms=9 if name == picked else 6, capsize=3, label=name)
        axes.set(xlabel=f"KL, {unit}" if placed else "", ylabel=what)
        if not placed:
            axes.set_xticks(range(len(marks)), list(marks), rotation=20, ha="right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=130)
