"""The panel: what else a model does otherwise than the baseline, and whether it is beyond the noise of another draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.pages.numbers import digits, points, share
from burnish.reports.evals.passes import by_prompt, compared
from burnish.reports.evals.records import SuiteOutcome
from burnish.stats import clustered_mean

KL, NLL = "kl", "nll"  # of texts: nats a token
TOKENS, FINISHED, DISTINCT = "tokens", "finished", "distinct"  # of answers
OF_TEXTS = (KL, NLL)
NAMES = {
    KL: "KL to the baseline, nats a token", NLL: "surprise at the texts, nats a token", TOKENS: "length, tokens",
    FINISHED: "answers that end", DISTINCT: "distinct answers of a prompt",
}  # fmt: skip
AGAIN = "#again"  # behind the baseline's name: its answers by another seed


def figures(
    outcomes: Sequence[SuiteOutcome], baseline: Sequence[SuiteOutcome], again: Sequence[SuiteOutcome]
) -> dict[str, Any]:
    """By metric: the baseline's level, the model's, their paired difference, the noise floor, and whether it counts.

    The noise floor is the farther end of the 95 % interval of the baseline's second draw minus its first; where nothing
    is drawn it is 0. A difference counts when its interval excludes 0 and its value lies beyond the floor.
    """
    found: dict[str, Any] = {}
    for metric in dict.fromkeys(outcome.metric for outcome in outcomes):
        if metric in OF_TEXTS:
            row = _of_texts(metric, outcomes, baseline)
        else:
            row = _of_answers(by_prompt(outcomes, metric), by_prompt(baseline, metric), by_prompt(again, metric))
        if row is not None:
            found[metric] = row
    return found


def _of_texts(metric: str, outcomes: Sequence[SuiteOutcome], baseline: Sequence[SuiteOutcome]) -> dict[str, Any] | None:
    """Means over the tokens of the texts, with texts as clusters."""
    model = {o.prompt: o for o in outcomes if o.metric == metric}
    base = {o.prompt: o for o in baseline if o.metric == metric}
    common = [text for text in model if metric == KL or text in base]
    if not common:
        return None
    weights = np.array([model[text].length for text in common])
    clusters = np.arange(len(common))
    here = np.array([model[text].value for text in common])
    there = np.array([0.0 if metric == KL else base[text].value for text in common])
    gap = clustered_mean(here - there, clusters, weights)
    levels = [float((weights * side).sum() / weights.sum()) for side in (there, here)]
    return _row(levels, [gap.value, gap.low, gap.high], 0.0)


def _of_answers(
    model: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]], again: Mapping[str, Sequence[float]]
) -> dict[str, Any] | None:
    change, noise = compared(model, base), compared(again, base)
    if change is None:
        return None
    gap = change.difference
    levels = [float(np.mean([np.mean(side[p]) for p in model if p in base])) for side in (base, model)]
    floor = None if noise is None else max(abs(noise.difference.low), abs(noise.difference.high))
    return _row(levels, [gap.value, gap.low, gap.high], floor)


def _row(levels: Sequence[float], gap: list[float], floor: float | None) -> dict[str, Any]:
    beyond = gap[1] > 0 or gap[2] < 0
    counts = beyond and (floor is None or abs(gap[0]) > floor)
    return {"baseline": levels[0], "model": levels[1], "difference": gap, "floor": floor, "counts": counts}


def level(metric: str, value: float) -> str:
    """A level of a metric as people read it: a share for habits, a number for the others."""
    return digits(value) if metric in (*OF_TEXTS, TOKENS) else share(value)


def gap(metric: str, value: float) -> str:
    """A difference of a metric, with its sign: in points for habits."""
    if metric in (*OF_TEXTS, TOKENS):
        return ("+" if value > 0 else "") + digits(value)
    return f"{points(value)} points"


def words(found: Mapping[str, Any]) -> list[str]:
    """The differences that count, largest first among equals of kind; or that there is none."""
    moved = [metric for metric, row in found.items() if row["counts"]]
    if not moved:
        return ["nothing moved beyond the noise of another draw"]
    lines = []
    for metric in moved:
        row = found[metric]
        low, high = row["difference"][1:]
        lines.append(
            f"{NAMES.get(metric, metric)}: {level(metric, row['baseline'])} -> {level(metric, row['model'])} "
            f"({gap(metric, low)} to {gap(metric, high)})"
        )
    still = [NAMES.get(metric, metric).partition(",")[0] for metric in found if metric not in moved]
    return [*lines, f"within the noise: {', '.join(still)}"] if still else lines
