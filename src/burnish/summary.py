"""The end of a run in words and one picture, and its model card: drawn from the log alone, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish import runlog
from burnish.config import Run, to_toml

Record = dict[str, Any]


def write_summary(folder: Path) -> str:
    """Write summary.txt and summary.png into the run's folder; returns the text."""
    records = list(runlog.read(folder))
    steps = [r for r in records if r["record"] == "step"]
    text = words(steps, [r for r in records if r["record"] == "eval"])
    text += f"\nmodel: {folder / 'model'}\nlog:   {folder / 'log.jsonl'}\n"
    if "rewards/margins" in (steps[-1] if steps else {}):
        draw(steps, folder / "summary.png")
        text += f"chart: {folder / 'summary.png'}\n"
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    return text


def words(steps: Sequence[Record], evals: Sequence[Record]) -> str:
    """What moved, from the first step to the last tenth of them, and what is usual about it."""
    if not steps:
        return "no step was made"
    last = steps[-max(1, len(steps) // 10) :]

    def end(name: str) -> float:
        return sum(float(r[name]) for r in last) / len(last)

    lines = [
        "",
        f"{len(steps)} steps, {sum(r['tokens'] for r in steps):,} tokens, {sum(r['seconds'] for r in steps):.1f} s",
    ]
    lines.append(f"loss {float(steps[0]['loss']):.4f} -> {end('loss'):.4f}")
    if "logratio/chosen" in steps[-1]:
        lines.append(_displacement(end("logratio/chosen"), end("logratio/rejected")))
    if "rewards/accuracies" in steps[-1]:
        lines += _margins(steps, end)
    for record in evals[-1:]:
        accuracy = record.get("rewards/accuracies")
        more = f", accuracy {accuracy:.3f}" if accuracy is not None else ""
        lines.append(f"held out ({record['groups']} groups): loss {record['loss']:.4f}{more}")
    return "\n".join(lines)


def _displacement(chosen: float, rejected: float) -> str:
    def moved(x: float) -> str:
        return f"gained {x:.2f} nats" if x >= 0 else f"lost {-x:.2f} nats"

    text = f"chosen answers {moved(chosen)}, rejected {moved(rejected)}: "
    if max(abs(chosen), abs(rejected)) < 0.05:
        return text + "the policy has hardly left its reference; more steps or a higher optim.lr would move it."
    if chosen < 0 and rejected < chosen:
        return text + (
            "this is normal: the loss asks only for the difference, and text that the policy did not write itself "
            "loses probability as it moves. Beyond some ten nats on the chosen side, lower optim.lr or add an SFT term."
        )
    if chosen < 0:
        return text + "the chosen answers fell more than the rejected: the ranking got worse; look at the labels."
    if rejected > 0:
        return text + "both rose: the two sides share text, and the chosen answers pulled the rejected along."
    return text + "the two sides parted, which is what the objective asks for."


def _margins(steps: Sequence[Record], end: Any) -> list[str]:
    accuracy = end("rewards/accuracies")
    lines = [f"margin {end('rewards/margins'):.4f}, training accuracy {accuracy:.3f} (0.5 is chance)"]
    early = steps[: max(2, len(steps) // 20)]
    if len(steps) >= 20 and sum(float(r["rewards/accuracies"]) for r in early[1:]) / (len(early) - 1) > 0.97:
        lines.append(
            "accuracy was almost 1 at once: something trivial separates the sides; look for it before trusting it."
        )
    longer = sum(float(r["length/longer_wins"]) for r in steps) / len(steps)
    if abs(longer - 0.5) > 0.05:
        which = "longer" if longer > 0.5 else "shorter"
        lines.append(
            f"the {which} answer is the chosen one in {max(longer, 1 - longer):.0%} of the pairs: "
            "expect answers to drift that way."
        )
    return lines


def draw(steps: Sequence[Record], file: Path) -> None:
    """Log-ratios apart, margin and accuracy, over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    at = [r["step"] for r in steps]
    for side, color in (("chosen", "#1b7837"), ("rejected", "#b2182b")):
        left.plot(
            at,
            [float(r[f"logratio/{side}"]) for r in steps if f"logratio/{side}" in r] or [0.0] * len(at),
            color=color,
            label=side,
        )
    left.axhline(0, color="#999999", linewidth=0.8)
    left.set(title="log-ratio to the reference", xlabel="step", ylabel="nats per answer")
    left.legend(frameon=False)
    right.plot(at, [float(r["rewards/accuracies"]) for r in steps], color="#2166ac")
    right.axhline(0.5, color="#999999", linewidth=0.8)
    right.set(title="pairs ranked right", xlabel="step", ylim=(0, 1.02))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def model_card(run: Run, notes: Sequence[str]) -> str:
    """A README.md for the model's folder, with the settings as they were."""
    library = "peft" if run.adapter.kind != "none" else "transformers"
    front = f"---\nbase_model: {run.model.path}\nlibrary_name: {library}\ntags: [burnish, {run.objective.name}]\n---\n"
    told = "\n".join(f"    {line}" for line in notes)
    return (
        f"{front}\n# {Path(run.model.path).name}, polished with {run.objective.name}\n\nTrained with burnish.\n\n"
        f"## Data and objective\n\n{told}\n\n## Settings\n\n```toml\n{to_toml(run)}```\n"
    )
