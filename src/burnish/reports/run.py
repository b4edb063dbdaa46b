"""The end of a run in words: what moved from the start to the last tenth of the steps, and what is usual about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

from burnish import config as configuration
from burnish.findings import counted
from burnish.reports import charts, refreshes
from burnish.runlog import log
from burnish.runlog.records import AlarmRecord, EvalRecord, RefreshRecord, RunRecord, StepRecord

REWARD = "reward.json"  # in the folder of a reward model
STILL_NATS = 0.5  # log-ratios below this are within what rounding and single steps move
PUBLISHED = "published runs move them by several to some tens of nats, over a hundred steps and more"
STILL_MARGIN = 0.01  # in the reward of the loss; 0.01 more margin is a quarter of a per cent more probability
Moved = Callable[[str], tuple[float, float]]  # a metric's name -> its level at the start, and at the end


def write_summary(folder: Path) -> str:
    """Write summary.txt and the pictures into a run's folder, from its log alone; returns the text."""
    records = list(log.read(folder, RunRecord, StepRecord, EvalRecord, RefreshRecord, AlarmRecord))
    notes = next((record.notes for record in reversed(records) if isinstance(record, RunRecord)), ())
    steps = [record for record in records if isinstance(record, StepRecord)]
    answered = [record for record in records if isinstance(record, RefreshRecord)]
    text = words(steps, [record for record in records if isinstance(record, EvalRecord)])
    text += "".join(f"\n{line}" for line in refreshes.words(answered))
    text += "".join(f"\n{note}" for note in notes if note.startswith("advice: "))
    text += f"\nmodel: {folder / 'model'}\nlog:   {folder / 'log.jsonl'}\n"
    learned = learning(steps)
    if learned and "rewards/margins" in learned[-1].metrics:
        charts.draw_steps(learned, folder / "summary.png")
        text += f"chart: {folder / 'summary.png'}\n"
    if len(answered) > 1:
        alarms = [record for record in records if isinstance(record, AlarmRecord)]
        charts.draw_refreshes(answered, alarms, folder / "answers.png")
        text += f"own answers: {folder / 'answers.png'}\n"
    text += "".join(f"next:  {command}\n" for command in next_commands(folder))
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    return text


def next_commands(folder: Path) -> list[str]:
    """What people look at after training, as commands for this run: of a policy its answers beside those it began
    with, of a reward model how good it is."""
    model, settings = folder / "model", folder / "config.toml"
    if not settings.exists():
        return []
    base = configuration.load_partly(str(settings)).model.path
    place = quote(str(folder))
    commands = [
        f"burnish report {place}",
        f"burnish ask {quote(base)} {place} --prompt 'a prompt of yours'",
        f"burnish vote base={quote(base)} tuned={place} prompts=PROMPTS.jsonl",
        f"burnish eval models.base={quote(base)} models.tuned={place} suite.kind=panel suite.texts=HELD_OUT.jsonl",
    ]
    if (model / REWARD).exists():
        commands = [f"burnish reward-report HELD_OUT.jsonl {place}"]
    if (model / "adapter_config.json").exists():
        commands.append(f"burnish merge {quote(str(model))} {quote(str(folder / 'merged'))}")
    return commands


def learning(steps: Sequence[StepRecord]) -> list[StepRecord]:
    """The steps that had a group to learn from; others, which only runs with fresh answers have, hold no metrics."""
    return [step for step in steps if step.groups != 0]


def words(steps: Sequence[StepRecord], evals: Sequence[EvalRecord]) -> str:
    """What moved, in sentences.

    With a reference the start is the first step (where the initial one gives log-ratios of exactly 0); without one
    each step's level depends on its own groups, so the first tenth of the steps stands for the start.
    """
    if not steps:
        return "no step was made"
    tokens, seconds = sum(step.tokens for step in steps), sum(step.seconds for step in steps)
    lines = ["", f"{counted(len(steps), 'step')}, {counted(tokens, 'token')}, {seconds:.1f} s"]
    learned = learning(steps)
    if not learned:
        return "\n".join([*lines, "no step had a group to learn from"])
    tenth = max(1, len(learned) // 10)
    last = learned[-1].metrics
    referenced = "logratio/chosen" in last
    first, end = learned[:1] if referenced else learned[:tenth], learned[-tenth:]

    def moved(name: str) -> tuple[float, float]:
        return _mean([step.metrics[name] for step in first]), _mean([step.metrics[name] for step in end])

    lines.append(f"loss {_mean([step.loss for step in first]):.4f} -> {_mean([step.loss for step in end]):.4f}")
    if referenced:
        sides = [moved(f"logratio/{side}") for side in ("chosen", "rejected")]
        chosen, rejected = (after - before for before, after in sides)
        lines.append(_displacement(chosen, rejected, len(learned)))
    elif "logps/chosen_per_token" in last:
        levels = {side: f"logps/{side}_per_token" for side in ("chosen", "rejected")}
        drifts = {side: moved(name) for side, name in levels.items() if name in last}
        sentences = [f"{side} answers {start:.3f} -> {end:.3f} nats a token" for side, (start, end) in drifts.items()]
        lines.append(
            f"log-probability of {', '.join(sentences)} (no reference: the level varies with each step's groups)"
        )
    if "rewards/accuracies" in last:
        lines += _margins(learned, moved)
    for record in evals[-1:]:
        accuracy = record.metrics.get("rewards/accuracies")
        ranked = "" if accuracy is None else f", accuracy {accuracy:.3f}"
        lines.append(f"held out ({counted(record.groups, 'group')}): loss {record.loss:.4f}{ranked}")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _displacement(chosen: float, rejected: float, steps: int) -> str:
    """What DPO-like losses do to the two sides' log-probs, and whether it is usual."""

    def moved(nats: float) -> str:
        return f"gained {nats:.2f} nats" if nats >= 0 else f"lost {-nats:.2f} nats"

    text = f"chosen answers {moved(chosen)}, rejected {moved(rejected)}: "
    if max(abs(chosen), abs(rejected)) < STILL_NATS:
        return text + (
            f"the policy has hardly left its reference after {counted(steps, 'step')}, and which way it went is noise; "
            f"{PUBLISHED}. More steps (optim.epochs) or a higher optim.lr would move it."
        )
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


def _margins(steps: Sequence[StepRecord], moved: Moved) -> list[str]:
    """Margin and accuracy, and what points to data that teaches something else than it seems to."""
    before, after = moved("rewards/margins")
    ranked_before, ranked = moved("rewards/accuracies")
    lines = [
        f"margin {before:.4f} -> {after:.4f}, training accuracy {ranked_before:.3f} -> {ranked:.3f} (0.5 is chance)"
    ]
    if abs(after - before) < STILL_MARGIN:
        lines.append("the margin hardly moved: optim.lr is likely too low, or the steps too few.")
    early = [step.metrics["rewards/accuracies"] for step in steps[1 : max(2, len(steps) // 20)]]
    if len(steps) >= 20 and _mean(early) > 0.97:
        lines.append(
            "accuracy was almost 1 at once: something trivial separates the sides; look for it before trusting it."
        )
    shares = [step.metrics["length/longer_wins"] for step in steps if "length/longer_wins" in step.metrics]
    longer = _mean(shares) if shares else 0.5
    if abs(longer - 0.5) > 0.05:
        which = "longer" if longer > 0.5 else "shorter"
        lines.append(
            f"the {which} answer is the chosen one in {max(longer, 1 - longer):.0%} of the pairs: "
            "expect answers to drift that way."
        )
    return lines
