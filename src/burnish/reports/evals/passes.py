"""Pass rates, pass@k, and the paired difference of each model from the baseline, prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.findings import counted
from burnish.pages.numbers import points, share
from burnish.reports.evals.records import SuiteOutcome
from burnish.stats import Mean, Paired, clustered_mean, clustered_share, paired, pass_at_k

LEVEL = 0.05  # of the family of paired tests, by Holm
MISSING = 0.02  # a share of answers without a verdict beyond which the bounds are told
SCORE, UNJUDGED = "score", "unjudged"


def figures(outcomes: Sequence[SuiteOutcome], pass_mark: float) -> dict[str, Any]:
    """The figures of a model: pass rate with its interval by prompt, mean score, pass@k, and what was not judged."""
    scores = by_prompt(outcomes, SCORE)
    missing = len([o for o in outcomes if o.metric == UNJUDGED])
    known: dict[str, Any] = {"prompts": len(scores), "answers": sum(map(len, scores.values())), "unjudged": missing}
    if not scores:
        return known
    passed = {prompt: [float(value >= pass_mark) for value in values] for prompt, values in scores.items()}
    rate = clustered_share(np.concatenate(list(map(np.array, passed.values()))), _clusters(passed))
    mean = clustered_mean(np.concatenate(list(map(np.array, scores.values()))), _clusters(scores))
    draws = min(map(len, passed.values()))
    at_k = {str(k): _pass_at(passed, k) for k in (1, 2, 4, 8, 16, 32, 64) if k <= draws}
    if draws > 1 and str(draws) not in at_k:
        at_k[str(draws)] = _pass_at(passed, draws)
    bounds = None
    if missing > MISSING * (missing + known["answers"]):
        total = missing + known["answers"]
        bounds = [rate.low * known["answers"] / total, (rate.high * known["answers"] + missing) / total]
    return {
        **known, "pass_rate": [rate.value, rate.low, rate.high], "score": [mean.value, mean.low, mean.high],
        "pass_at_k": at_k, "bounds": bounds,
    }  # fmt: skip


def difference(
    outcomes: Sequence[SuiteOutcome], baseline: Sequence[SuiteOutcome], metric: str, pass_mark: float | None = None
) -> dict[str, Any] | None:
    """The model minus the baseline on the prompts that both have, or None where there is none.

    Each prompt counts once, by the mean over its answers: `stats.paired` tests it.
    """
    result = compared(by_prompt(outcomes, metric), by_prompt(baseline, metric), pass_mark)
    if result is None:
        return None
    gap = result.difference
    return {
        "value": [gap.value, gap.low, gap.high], "p": result.p, "test": result.test, "prompts": gap.clusters,
        "lost": result.only_a, "gained": result.only_b,
    }  # fmt: skip


def compared(
    model: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]], pass_mark: float | None = None
) -> Paired | None:
    """The paired comparison of two models' numbers by prompt; with `pass_mark` of whether they pass it."""
    common = [prompt for prompt in model if prompt in baseline]
    if not common:
        return None

    def level(values: Sequence[float]) -> float:
        return math.fsum(values if pass_mark is None else [float(v >= pass_mark) for v in values]) / len(values)

    a, b = (np.array([level(side[prompt]) for prompt in common]) for side in (baseline, model))
    return paired(a, b, np.arange(len(common)))


def by_prompt(outcomes: Sequence[SuiteOutcome], metric: str) -> dict[str, list[float]]:
    """The values of a metric by prompt, in the order of the draws."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.metric == metric:
            values.setdefault(outcome.prompt, []).append(outcome.value)
    return values


def words(found: Mapping[str, Any], change: Mapping[str, Any] | None, adjusted: float | None) -> list[str]:
    """What the intervals allow to be said of a model. `adjusted`: Holm's p-value of the change."""
    if "pass_rate" not in found:
        return ["none of its answers could be judged"]
    value, low, high = found["pass_rate"]
    lines = [f"passes {share(value)} ({share(low)} to {share(high)}) of {counted(found['answers'], 'answer')}"]
    others = {k: at for k, at in found["pass_at_k"].items() if k != "1"}
    if others:
        lines.append(", ".join(f"pass@{k} {share(at[0])}" for k, at in others.items()))
    if change is not None:
        lines.append(change_in_words(change, adjusted))
    if found["bounds"] is not None:
        low, high = found["bounds"]
        lines.append(
            f"{counted(found['unjudged'], 'answer')} got no verdict; the rate lies in {share(low)} to {share(high)}"
        )
    return lines


def change_in_words(change: Mapping[str, Any], adjusted: float | None) -> str:
    """A paired difference with its test."""
    value, low, high = change["value"]
    test = {"mcnemar": "McNemar, exact", "t": "t by prompt"}.get(change["test"], "")
    p = "" if adjusted is None or math.isnan(adjusted) else f", p = {adjusted:.2g} after Holm ({test})"
    told = adjusted is not None and adjusted < LEVEL
    verdict = "better" if told and value > 0 else "worse" if told and value < 0 else "not told from the baseline"
    gained = f"; {change['gained']} gained, {change['lost']} lost" if change["test"] == "mcnemar" else ""
    return f"{verdict}: {points(value)} points ({points(low)} to {points(high)}){p}{gained}"


def _clusters(values: Mapping[str, Sequence[float]]) -> Any:
    return np.repeat(np.arange(len(values)), [len(v) for v in values.values()])


def _pass_at(passed: Mapping[str, Sequence[float]], k: int) -> list[float]:
    """pass@k with its interval over prompts: the mean of the unbiased estimates."""
    values = np.array([pass_at_k(round(sum(draws)), len(draws), k) for draws in passed.values()])
    mean: Mean = clustered_mean(values, np.arange(len(values)))
    return [mean.value, mean.low, mean.high]


def mean(outcomes: Sequence[SuiteOutcome], metric: str) -> dict[str, Any]:
    """The mean of a metric over its prompts (documents), with its interval."""
    values = by_prompt(outcomes, metric)
    found = clustered_mean(np.concatenate(list(map(np.array, values.values()))), _clusters(values))
    return {"value": [found.value, found.low, found.high], "prompts": len(values)}


def task_words(metric: str, row: Mapping[str, Any]) -> list[str]:
    """A task's level, and how it differs from the baseline's."""
    value, low, high = row["value"]
    line = f"{metric}: {value:.4g} ({low:.4g} to {high:.4g}) on {counted(row['prompts'], 'document')}"
    change = row.get("change")
    if change is None:
        return [line]
    gap, below, above = change["value"]
    p = "" if change["p_holm"] is None else f", p = {change['p_holm']:.2g} after Holm"
    told = change["p_holm"] is not None and change["p_holm"] < LEVEL
    return [
        f"{line}, {gap:+.4g} ({below:+.4g} to {above:+.4g}) from the baseline{p}{'' if told else ', not told apart'}"
    ]
