"""The end of a run with fresh answers, in words and one picture: what they were worth, how far they went, what they
cost. Drawn from the log alone, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
SILENT = 0.8  # share of prompts without signal from which it is said
PANELS = (
    ("reward", (("reward", "judge's reward", "#2563eb"), ("gold", "gold", "#059669")), "mean over the answers"),
    ("kl/answer", (("kl/answer", "exact KL to the reference", "#dc2626"),), "nats an answer"),
    ("length", (("length", "mean length", "#7c3aed"),), "tokens"),
    ("distinct", (
        ("distinct", "distinct answers", "#2563eb"), ("finished", "finished", "#6b7280"),
        ("judge_accuracy", "judge agrees with gold", "#059669"), ("no_signal", "prompts without signal", "#f59e0b"),
    ), "share"),
)  # fmt: skip


def words(fresh: Sequence[Record]) -> list[str]:
    """What the policy's own answers were like at first and at last: means over a tenth of the refreshes each."""
    if not fresh:
        return []
    tenth = max(1, len(fresh) // 10)

    def mean(name: str, some: Sequence[Record]) -> float | None:
        known = [float(r[name]) for r in some if name in r and float(r[name]) == float(r[name])]
        return sum(known) / len(known) if known else None

    def moved(name: str, unit: str = "", digits: int = 3) -> str | None:
        first, last = mean(name, fresh[:tenth]), mean(name, fresh[-tenth:])
        return None if first is None or last is None else f"{first:.{digits}g} -> {last:.{digits}g}{unit}"

    rows = [
        ("reward", moved("reward")), ("gold", moved("gold")), ("judge agrees with gold", moved("judge_accuracy")),
        ("KL to the reference", moved("kl/answer", " nats an answer")), ("length", moved("length", " tokens")),
        ("distinct answers", moved("distinct")), ("finished", moved("finished")),
        ("prompts without signal", moved("no_signal")),
    ]  # fmt: skip
    told = ", ".join(f"{name} {value}" for name, value in rows if value is not None)
    times = "the one refresh" if len(fresh) == 1 else f"first and last tenth of {len(fresh)} refreshes"
    lines = [f"own answers, {times}: {told}"]
    silent = mean("no_signal", fresh)
    if silent is not None and silent > SILENT:
        lines.append(
            f"in {silent:.0%} of the prompts all answers scored alike, so that there was nothing to learn from: easier "
            "(or harder) prompts, more answers (source.k), or a judge that grades instead of passing and failing."
        )
    parts = {name: mean(f"seconds/{name}", fresh) for name in ("sampling", "judging", "measuring")}
    known = {name: value for name, value in parts.items() if value is not None}
    if known:
        lines.append("a refresh took " + ", ".join(f"{value:.3g} s {name}" for name, value in known.items()))
    return lines


def draw(fresh: Sequence[Record], alarms: Sequence[Record], file: Path) -> None:
    """Four panels over the optimiser's steps; a mark where an alarm rang."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4)
    steps = [int(r["step"]) for r in fresh]
    for one, (_, curves, unit) in zip(axes, PANELS, strict=True):
        for name, label, colour in curves:
            points = [(s, float(r[name])) for s, r in zip(steps, fresh, strict=True) if name in r]
            if points:
                xs, ys = zip(*points, strict=True)
                one.plot(xs, ys, color=colour, lw=0.8, alpha=0.35)
                one.plot(xs, _smooth(ys), color=colour, lw=1.8, label=label)
        for alarm in alarms:
            one.axvline(int(alarm["step"]), color="#9ca3af", lw=1, ls=":")
        one.set(xlabel="step", ylabel=unit)
        one.spines[["top", "right"]].set_visible(False)
        if one.get_legend_handles_labels()[0]:
            one.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    figure.savefig(file, dpi=130)


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over a twentieth of the run around each point; what is no number stays out."""
    half = len(values) // 40
    found = []
    for i in range(len(values)):
        part = [v for v in values[max(0, i - half) : i + half + 1] if v == v]
        found.append(sum(part) / len(part) if part else float("nan"))
    return found
