"""Win rates of each model over the baseline, from the outcomes of judged pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.findings import counted
from burnish.pages.numbers import share
from burnish.reports.evals.records import SuiteOutcome
from burnish.stats import Share, Verdicts, WinRate, win_rate

Estimate = list[float]  # value, low, high

# metrics of an outcome
WIN = "win"  # of a pair: 1 won, 0 lost, one half a tie, the mean over both orders
FIRST, SECOND = "win shown first", "win shown second"  # with the model's answer in this place
AGAIN = "win again"  # FIRST, asked a second time
LONGER = "longer"  # characters by which the model's answer is longer
UNJUDGED = "unjudged"  # a pair without a verdict


def verdicts_of(outcomes: Sequence[SuiteOutcome]) -> Verdicts:
    """The verdicts on a model's pairs."""
    by_metric: dict[str, dict[tuple[str, int], float]] = {}
    for outcome in outcomes:
        by_metric.setdefault(outcome.metric, {})[outcome.prompt, outcome.draw] = outcome.value
    won = by_metric.get(WIN, {})
    pairs = list(won)
    numbers: dict[str, int] = {}
    prompts = np.array([numbers.setdefault(prompt, len(numbers)) for prompt, _ in pairs], dtype=np.int64)
    first, second, again = (by_metric.get(name, {}) for name in (FIRST, SECOND, AGAIN))
    ordered = bool(pairs) and all(pair in first and pair in second for pair in pairs)
    orders = np.array([[first[pair], second[pair]] for pair in pairs]) if ordered else None
    repeats = np.array([[first[pair], again[pair]] for pair in again if pair in first]) if again else None
    longer = by_metric.get(LONGER, {})
    return Verdicts(
        prompts, np.array([won[pair] for pair in pairs], dtype=np.float64),
        np.array([longer.get(pair, 0.0) for pair in pairs], dtype=np.float64), orders, repeats,
        len(by_metric.get(UNJUDGED, {})),
    )  # fmt: skip


def figures(outcomes: Sequence[SuiteOutcome]) -> dict[str, Any]:
    """The figures of a model's pairs; without a verdict only their number."""
    verdicts = verdicts_of(outcomes)
    count = len(verdicts.outcomes)
    known = {"pairs": count, "prompts": len(np.unique(verdicts.prompts)), "unjudged": verdicts.unjudged}
    if not count:
        return known
    rate = win_rate(verdicts)
    explained = None if rate.explained is None else [rate.explained, rate.explained_low, rate.explained_high]
    return {
        **known, "raw": _estimate(rate.raw), "length_controlled": _estimate(rate.controlled), "explained": explained,
        "longer": float(verdicts.longer.mean()), "ties": float((verdicts.outcomes == 0.5).mean()),
        "first_wins": rate.first and _estimate(rate.first), "agreement": rate.agreement and _estimate(rate.agreement),
        "more_prompts": rate.more_prompts, "bounds": rate.bounds and list(rate.bounds), "words": _words(rate, known),
    }  # fmt: skip


def _estimate(value: Share) -> Estimate:
    return [value.value, value.low, value.high]


def _words(rate: WinRate, known: dict[str, int]) -> list[str]:
    """What the intervals allow to be said."""
    raw, controlled = rate.raw, rate.controlled
    settled = "wins" if raw.low > 0.5 else "loses" if raw.high < 0.5 else "is not told from the baseline"
    lines = [f"{settled}: {_told(raw)} of {counted(known['pairs'], 'pair')}"]
    if controlled is not raw:
        same = "still so" if controlled.excludes_half and raw.excludes_half else "not told from one half"
        says = same if raw.excludes_half or not controlled.excludes_half else "beyond one half"
        lines.append(f"at equal length {_told(controlled)}, {says}")
    if rate.explained is not None:
        low, high = rate.explained_low, rate.explained_high
        lines.append(f"length explains {share(rate.explained)} of the edge ({share(low)} to {share(high)})")
    if rate.more_prompts:
        lines.append(f"some {rate.more_prompts:,} more prompts would settle it, if the rate stays as it is")
    elif rate.more_prompts is None:
        lines.append("no number of prompts within reach would settle a rate so near to one half")
    if rate.first is not None and rate.first.excludes_half:
        which = "first" if rate.first.value > 0.5 else "second"
        lines.append(
            f"the judge likes what is shown {which}: the first wins {_told(rate.first)}; the orders are averaged"
        )
    if rate.agreement is not None:
        lines.append(f"asked again, the judge says the same in {_told(rate.agreement)}")
    if rate.bounds is not None:
        low, high = rate.bounds
        lines.append(
            f"{counted(known['unjudged'], 'pair')} unjudged: were all lost or all won, the interval would reach from "
            f"{share(low)} to {share(high)}"
        )
    return lines


def _told(value: Share) -> str:
    return f"{share(value.value)} ({share(value.low)} to {share(value.high)})"
