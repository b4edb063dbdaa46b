"""The verdict on a run: what got better, what got worse, whether to keep it, and what would change that.

Nothing is said that an interval does not allow. Levels are means over windows of refreshes, with t-intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.findings import counted
from burnish.reports.compare import levels
from burnish.reports.compare.levels import Level
from burnish.reports.compare.quality import names_of
from burnish.reports.compare.tracks import Track
from burnish.reports.history import History
from burnish.stats import Z95, wilson

WATCHED = (("length", "length", " tokens"), ("distinct", "distinct answers", ""), ("entropy/token", "entropy", " nats"))


DECIDED = 1.314  # a verdict asks for 99 %, whose intervals are so much wider than those of 95 %


@dataclass
class RunVerdict:
    """`keep`: "yes", "no", "earlier" (weights of an earlier step), or "unknown"."""

    keep: str = "unknown"
    headline: str = ""
    better: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)  # that moved, and is neither
    change: list[str] = field(default_factory=list)  # what would change the verdict

    def figures(self) -> dict[str, Any]:
        return dict(vars(self))


def verdict(history: History, track: Track, evals: Sequence[Mapping[str, Any]]) -> RunVerdict:
    """The verdict by the best that is at hand: gold, then evaluations, then the held-out groups."""
    found = RunVerdict()
    judged = _by_gold(history, track, found) or _by_evals(history, evals, found) or _by_held_out(history, found)
    if not judged:
        found.headline = "this run cannot tell whether the model got better: no gold, no evaluation, no held-out groups"
        found.change.append(f"an evaluation against the model that it began with: burnish eval ... ({history.folder})")
    _side_effects(track, found)
    for alarm in history.alarms:
        found.worse.append(f"alarm ({alarm.name}) at step {alarm.step}: {alarm.text}")
    if history.state != "finished":
        done = history.steps[-1].step if history.steps else 0
        state = "is still going" if history.state == "running" else "was cut off"
        found.headline += f"; it {state} after {done} of {history.planned or '?'} steps"
    return found


def _by_gold(history: History, track: Track, found: RunVerdict) -> bool:
    """Gold's way: risen, flat, fallen, or risen and fallen again."""
    if not len(track):
        return False
    first = levels.level_at(track, min(track.window, len(track)) - 1, "gold")
    best, last = levels.at_best(track, "gold"), levels.at_end(track, "gold")
    if first is None or best is None or last is None or first.step == last.step:
        return False
    gained, lost = best.value - first.value, best.value - last.value
    chosen = _selection(track)  # the best window was chosen among many
    fell = _apart(best, last, chosen) and lost > 0
    line = f"gold went from {_told(first)} to {_told(last)}"
    if fell and gained > 0 and _apart(best, first, chosen) and best.step < last.step:
        found.keep, found.headline = "earlier", f"keep the weights of about step {best.step}, not the last"
        found.better.append(f"gold rose from {_told(first)} to {_told(best)} at step {best.step}")
        found.worse.append(f"then gold fell to {_told(last)}{_while_reward_rose(track, best)}")
        found.change += [
            'stop.when = ["gold"] ends such a run and keeps its best weights; save.every keeps the steps in between',
            "a judge that stays right (a verifier, an ensemble, newer labels), or more KL to the reference",
        ]
    elif _apart(first, last, DECIDED) and last.value > first.value:
        found.keep, found.headline = "yes", "keep it: gold rose"
        found.better.append(line)
        found.change.append("side effects that gold does not see: read the answers; burnish eval has a panel")
    elif _apart(first, last, DECIDED):
        found.keep, found.headline = "no", "do not keep it: gold fell"
        found.worse.append(line)
        found.change.append("another rate, objective or judge; the data's audit (burnish audit) comes first")
    else:
        found.headline = "gold did not move beyond its noise"
        found.other.append(line)
        found.change.append("more steps or a higher optim.lr, if the KL is still small; more prompts, if gold is noisy")
    return True


def _while_reward_rose(track: Track, best: Level) -> str:
    """What the judge said meanwhile."""
    place = int((track.step <= best.step).sum()) - 1
    then, now = levels.level_at(track, place, "reward"), levels.at_end(track, "reward")
    if then is None or now is None or not now.value > then.value:
        return ""
    return f", while the judge's reward rose on ({then.value:.3g} to {now.value:.3g}): the policy learnt the judge"


def _by_evals(history: History, evals: Sequence[Mapping[str, Any]], found: RunVerdict) -> bool:
    """The first line of every suite of the evaluations that have this run."""
    said = False
    for results in evals:
        for name in names_of(history, results):
            for suite in results["suites"]:
                figures = suite["models"].get(name)
                if figures:
                    said |= _suite(suite, figures, found)
    if said:
        ways = {(True, False): "yes", (False, True): "no"}
        found.keep = ways.get((bool(found.better), bool(found.worse)), "unknown")
        found.headline = {
            "yes": "keep it: an evaluation found it better, and none found it worse",
            "no": "do not keep it: an evaluation found it worse, and none found it better",
        }.get(found.keep, "the evaluations do not settle it")
    return said


def _suite(suite: Mapping[str, Any], figures: Mapping[str, Any], found: RunVerdict) -> bool:
    lines = figures.get("words", [])
    if suite["kind"] == "win_rate" and "raw" in figures:
        _, low, high = figures["length_controlled"]
        place = found.better if low > 0.5 else found.worse if high < 0.5 else found.other
        place.append(f"{suite['name']}: {'; '.join(lines[:2])}")
        return True
    change = figures.get("change")
    if suite["kind"] == "verifier" and change:
        told = change["p_holm"] is not None and change["p_holm"] < 0.05
        place = found.other if not told else found.better if change["value"][0] > 0 else found.worse
        place.append(f"{suite['name']}: {lines[-1]}")
        return True
    found.other += [f"{suite['name']}: {line}" for line in lines]
    return False


def _by_held_out(history: History, found: RunVerdict) -> bool:
    """The held-out pairs: how they are ranked, which says little of how the model answers."""
    known = [record for record in history.evals if math.isfinite(record.metrics.get("rewards/accuracies", math.nan))]
    if not known or not known[-1].groups:
        return False
    share, groups = known[-1].metrics["rewards/accuracies"], known[-1].groups
    low, high = wilson(share, float(groups))
    line = f"{share:.0%} of {counted(groups, 'held-out pair')} ranked right ({low:.0%} to {high:.0%}; 50% is chance)"
    (found.better if low > 0.5 else found.worse if high < 0.5 else found.other).append(line)
    found.headline = "it ranks the held-out pairs " + ("better than chance" if low > 0.5 else "no better than chance")
    found.headline += "; whether its answers are better, this run cannot tell"
    found.change.append("how it answers: burnish eval against the model that it began with, or [gold] along the way")
    return True


def _side_effects(track: Track, found: RunVerdict) -> None:
    """Length, variety and entropy from the first window to the last, where they moved beyond their noise."""
    if not len(track):
        return
    for figure, label, unit in WATCHED:
        first = levels.level_at(track, min(track.window, len(track)) - 1, figure)
        last = levels.at_end(track, figure)
        if first is not None and last is not None and first.step != last.step and _apart(first, last):
            found.other.append(f"{label} {first.value:.3g} -> {last.value:.3g}{unit}")
    kl = levels.at_end(track, "kl/answer")
    if kl is not None:
        found.other.append(f"KL to the start: {kl.value:.3g} nats an answer")


def _selection(track: Track) -> float:
    """How much wider an interval must be for a window that was chosen as the best of all (Bonferroni)."""
    from scipy.special import ndtri

    windows = max(1.0, len(track) / track.window)
    return max(DECIDED, float(ndtri(1 - 0.025 / windows)) / Z95)


def _apart(a: Level, b: Level, wider: float = 1.0) -> bool:
    """Whether two windows' means differ beyond their intervals; of single refreshes nothing is told."""
    half = wider * math.hypot((a.high - a.low) / 2, (b.high - b.low) / 2)
    return math.isfinite(half) and abs(a.value - b.value) > half


def _told(level: Level) -> str:
    bounds = f" ({level.low:.3g} to {level.high:.3g})" if math.isfinite(level.low) else ""
    return f"{level.value:.3g}{bounds}"
