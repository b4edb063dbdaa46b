"""The end of a run in words and one picture, and its model card: drawn from the log alone, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish.config import Run, to_toml
from burnish.reports import online
from burnish.runlog import log

Record = dict[str, Any]

# what to draw of both sides, by the first that a run has; sums without a reference would show mostly the lengths
SIDES = {
    "logratio/chosen": ("logratio/{}", "log-ratio to the reference", "nats per answer"),
    "logps/chosen_per_token": ("logps/{}_per_token", "log-probability", "nats per token"),
    "rewards/chosen": ("rewards/{}", "reward", "reward"),
    "rewards/margins": ("rewards/margins", "margin between answers", "reward"),
}
STILL_NATS = 0.05  # log-ratios below this are within what one step moves
STILL_MARGIN = 0.01  # in the reward of the loss; 0.01 more margin is a quarter of a per cent more probability


def write_summary(folder: Path) -> str:
    """Write summary.txt and summary.png into the run's folder; returns the text."""
    records = list(log.read_rows(folder))
    steps = [r for r in records if r["record"] == "step"]
    text = words(steps, [r for r in records if r["record"] == "eval"])
    fresh = [r for r in records if r["record"] == "refresh"]
    text += "".join(f"\n{line}" for line in online.words(fresh))
    text += f"\nmodel: {folder / 'model'}\nlog:   {folder / 'log.jsonl'}\n"
    if "rewards/margins" in (steps[-1] if steps else {}):
        draw(steps, folder / "summary.png")
        text += f"chart: {folder / 'summary.png'}\n"
    if len(fresh) > 1:
        online.draw(fresh, [r for r in records if r["record"] == "alarm"], folder / "answers.png")
        text += f"own answers: {folder / 'answers.png'}\n"
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    return text


def words(steps: Sequence[Record], evals: Sequence[Record]) -> str:
    """What moved, from the start to the last tenth of the steps, and what is usual about it.

    With a reference the start is the first step (where the initial one gives log-ratios of exactly 0); without one
    each step's level depends on its own groups, so the first tenth of the steps stands for the start.
    """
    if not steps:
        return "no step was made"
    tenth = max(1, len(steps) // 10)
    referenced = "logratio/chosen" in steps[-1]

    def mean(name: str, some: Sequence[Record]) -> float:
        return sum(float(r[name]) for r in some) / len(some)

    def moved(name: str) -> tuple[float, float]:
        return mean(name, steps[:1] if referenced else steps[:tenth]), mean(name, steps[-tenth:])

    tokens, seconds = sum(r["tokens"] for r in steps), sum(r["seconds"] for r in steps)
    before, after = moved("loss")
    lines = ["", f"{len(steps)} steps, {tokens:,} tokens, {seconds:.1f} s", f"loss {before:.4f} -> {after:.4f}"]
    if referenced:
        sides = [moved(f"logratio/{side}") for side in ("chosen", "rejected")]
        lines.append(_displacement(*(after - before for before, after in sides)))
    elif "logps/chosen_per_token" in steps[-1]:
        sides_seen = [side for side in ("chosen", "rejected") if f"logps/{side}_per_token" in steps[-1]]
        levels = [(side, *moved(f"logps/{side}_per_token")) for side in sides_seen]
        told = ", ".join(f"{side} answers {start:.3f} -> {end:.3f} nats a token" for side, start, end in levels)
        lines.append(f"log-probability of {told} (no reference: the level varies with each step's groups)")
    if "rewards/accuracies" in steps[-1]:
        lines += _margins(steps, moved)
    for record in evals[-1:]:
        accuracy = record.get("rewards/accuracies")
        more = f", accuracy {float(accuracy):.3f}" if accuracy is not None else ""
        lines.append(f"held out ({record['groups']} groups): loss {float(record['loss']):.4f}{more}")
    return "\n".join(lines)


def _displacement(chosen: float, rejected: float) -> str:
    def moved(x: float) -> str:
        return f"gained {x:.2f} nats" if x >= 0 else f"lost {-x:.2f} nats"

    text = f"chosen answers {moved(chosen)}, rejected {moved(rejected)}: "
    if max(abs(chosen), abs(rejected)) < STILL_NATS:
        return text + "the policy has hardly left its reference; more steps or a higher optim.lr would move it."
    if chosen < 0 and rejected < chosen:
        return text + (
            "this is normal: the loss asks only for the difference, and text that the policy did not write itself "
            "loses probability as it moves. Beyond some ten nats on the chosen side, lower optim.lr or add an SFT term."
        )
    if rejected >= chosen:
        return text + "the rejected side came out ahead, so the ranking got worse; look at the labels."
    if rejected > 0:
        return text + "both rose: the two sides share text, and the chosen answers pulled the rejected along."
    return text + "the two sides parted, which is what the objective asks for."


def _margins(steps: Sequence[Record], moved: Callable[[str], tuple[float, float]]) -> list[str]:
    before, after = moved("rewards/margins")
    ranked_before, ranked = moved("rewards/accuracies")
    lines = [
        f"margin {before:.4f} -> {after:.4f}, training accuracy {ranked_before:.3f} -> {ranked:.3f} (0.5 is chance)"
    ]
    if abs(after - before) < STILL_MARGIN:
        lines.append("the margin hardly moved: optim.lr is likely too low, or the steps too few.")
    early = steps[: max(2, len(steps) // 20)]
    if len(steps) >= 20 and sum(float(r["rewards/accuracies"]) for r in early[1:]) / (len(early) - 1) > 0.97:
        lines.append(
            "accuracy was almost 1 at once: something trivial separates the sides; look for it before trusting it."
        )
    told = [float(r["length/longer_wins"]) for r in steps if "length/longer_wins" in r]
    longer = sum(told) / len(told) if told else 0.5
    if abs(longer - 0.5) > 0.05:
        which = "longer" if longer > 0.5 else "shorter"
        lines.append(
            f"the {which} answer is the chosen one in {max(longer, 1 - longer):.0%} of the pairs: "
            "expect answers to drift that way."
        )
    return lines


def draw(steps: Sequence[Record], file: Path) -> None:
    """Chosen and rejected apart (log-ratios; without a reference log-probs per token), and accuracy, over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    at = [r["step"] for r in steps]
    referenced = "logratio/chosen" in steps[-1]
    shown, title, unit = SIDES[next(name for name in SIDES if name in steps[-1])]
    for side, color in (("chosen", "#1b7837"), ("rejected", "#b2182b")):
        if shown.format(side) in steps[-1]:
            left.plot(at, [float(r[shown.format(side)]) for r in steps], color=color, label=side)
    if referenced:
        left.axhline(0, color="#999999", linewidth=0.8)
    left.set(title=title, xlabel="step", ylabel=unit)
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
    name = Path(run.model.path).resolve().name
    names = [one.name for one in run.objective]
    tags, title = ", ".join(names), " + ".join(names)
    base = json.dumps(run.model.path)  # a YAML string whatever the path holds
    front = f"---\nbase_model: {base}\nlibrary_name: {library}\ntags: [burnish, {tags}]\n---\n"
    told = "\n".join(f"    {line}" for line in notes)
    return (
        f"{front}\n# {name}, polished with {title}\n\nTrained with burnish.\n\n"
        f"## Data and objective\n\n{told}\n\n## Settings\n\n```toml\n{to_toml(run)}```\n"
    )
