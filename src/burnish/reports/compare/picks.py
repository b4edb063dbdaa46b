"""Which run to keep, by a rule that is stated: the highest lower bound of the best measure at hand, within a KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.reports.compare.paired import of_pair
from burnish.reports.compare.quality import ACCURACY, ORDER, Quality

RULE = (
    "the highest lower bound of gold, else of the win rate, else of the pass rate, else of held-out accuracy, among "
    "the runs whose KL is within stop.kl"
)
NOTHING = "no gold, no win rate, no pass rate and no held-out accuracy is at hand; run burnish eval on them"


@dataclass(frozen=True)
class Pick:
    """The run to keep, the runner-up, and why; `run` is empty where no run can be told from another by any measure."""

    run: str
    runner_up: str
    measure: str
    reasons: tuple[str, ...]


def pick(
    names: Sequence[str], qualities: Mapping[str, Sequence[Quality | None]], limits: Sequence[float | None],
    pairs: Sequence[Mapping[str, Any]],
) -> Pick:  # fmt: skip
    """The pick among runs. `limits`: each run's stop.kl, None where it has no KL that it could pass."""
    measure = next((m for m in ORDER if m in qualities and any(q is not None for q in qualities[m])), "")
    if not measure:
        return Pick("", "", "", (NOTHING,))
    reasons = [f"rule: {RULE}"]
    unknown = [name for name, quality in zip(names, qualities[measure], strict=True) if quality is None]
    if unknown:
        reasons.append(f"{', '.join(unknown)} had no {measure} and took no part")
    known = [(n, q, limit) for n, q, limit in zip(names, qualities[measure], limits, strict=True) if q is not None]
    beyond = [(n, q) for n, q, limit in known if limit is not None and math.isfinite(q.kl) and q.kl > limit]
    for name, quality in beyond:
        reasons.append(f"{name} was left out: its KL, {quality.kl:.3g} nats an answer, is above stop.kl")
    standing = [(n, q) for n, q, _ in known if n not in [name for name, _ in beyond]]
    if not standing:
        return Pick("", "", measure, (*reasons, "every run passed stop.kl; lower optim.lr, or raise beta or stop.kl"))
    ranked = sorted(standing, key=lambda pair: -(pair[1].low if math.isfinite(pair[1].low) else -math.inf))
    (best, quality), *others = ranked
    reasons.append(f"{best}: {measure} {_told(quality)}")
    if measure == ACCURACY:
        reasons.append("that says how it ranks pairs, not how it answers: burnish eval does, on the first two at least")
    if not others:
        return Pick(best, "", measure, (*reasons, "it was the only one that could be ranked"))
    second, other = others[0]
    reasons.append(f"runner-up {second}: {_told(other)}; {_difference(best, quality, second, other, pairs)}")
    if len(ranked) > 2:
        reasons.append(
            f"it is the best of {len(ranked)}, and the best of several looks better than it is: measure it again, on "
            "prompts that took no part, before you rely on its level"
        )
    return Pick(best, second, measure, tuple(reasons))


def _told(quality: Quality) -> str:
    return f"{quality.value:.3f} ({quality.low:.3f} to {quality.high:.3f})"


def _difference(best: str, quality: Quality, second: str, other: Quality, pairs: Sequence[Mapping[str, Any]]) -> str:
    """How far the two are apart: paired by prompt where that is known, else by both intervals."""
    row = of_pair(pairs, second, best)
    if row is not None:
        value, low, high = row["value"]
        told = "the two are told apart" if low > 0 else "the two are not told apart"
        return f"paired by prompt {value:+.3f} ({low:+.3f} to {high:+.3f}), {told}"
    gap = quality.value - other.value
    half = math.hypot((quality.high - quality.low) / 2, (other.high - other.low) / 2)
    told = "the two are told apart" if gap > half else "the two are not told apart"
    return f"difference {gap:+.3f} (+- {half:.3f}, not paired), {told}"
