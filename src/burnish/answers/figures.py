"""What fresh answers say about a run: rewards, distance from the reference, length, variety, signal. No torch.

Every figure is over the answers of one refresh. Judges are compared within prompts only: a judge's level may differ
from prompt to prompt, its order may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp
from statistics import fmean, pstdev

from burnish.group import EncodedGroup, Feedback, Scores, Unjudged

Figures = dict[str, float]


@dataclass(frozen=True)
class Seen:
    """One prompt's fresh answers: tokens, whether they ended, what the judge said (before anything was made of it),
    what a better judge said, and by answer the exact KL to the reference and the entropy, nats summed over tokens."""

    group: EncodedGroup
    judged: Feedback
    gold: Feedback | None = None
    kl: Sequence[float] = ()
    entropy: Sequence[float] = ()


def figures(seen: Sequence[Seen]) -> Figures:
    """All there is to say about a refresh. Figures without a basis (no reference, no gold) are left out."""
    answers = [ids for one in seen for ids in one.group.completion_ids]
    ended = [flag for one in seen for flag in one.group.ended]
    found: Figures = {
        "answers": float(len(answers)),
        "length": _mean([len(ids) for ids in answers]),
        "finished": _mean(ended),
        "distinct": _mean([len(set(one.group.completion_ids)) / len(one.group.completion_ids) for one in seen]),
    }
    judged = [one.judged for one in seen]
    found |= rewards(judged)
    if any(one.gold is not None for one in seen):
        gold = [one.gold or Unjudged() for one in seen]
        scored = [value for one in gold if isinstance(one, Scores) for value in one.values]
        found |= {"gold": _mean(scored)} if scored else {}
        found |= agreement(judged, gold)
    tokens = max(1, sum(map(len, answers)))
    for name in ("kl", "entropy"):
        values = [value for one in seen for value in getattr(one, name)]
        if values:
            found[f"{name}/token"] = sum(values) / tokens
            if name == "kl":
                found["kl/answer"] = sum(values) / len(values)
    return found


def rewards(judged: Sequence[Feedback]) -> Figures:
    """Mean reward, each part of it, the spread within a prompt, and the shares without signal and without judgement."""
    scored = [one for one in judged if isinstance(one, Scores)]
    found: Figures = {"unjudged": _mean([isinstance(one, Unjudged) for one in judged])}
    if not scored:
        return found
    found["reward"] = _mean([value for one in scored for value in one.values])
    found["reward/spread"] = _mean([pstdev(one.values) for one in scored])
    found["no_signal"] = _mean([max(one.values) == min(one.values) for one in scored])
    for name in dict.fromkeys(name for one in scored for name in one.parts):
        found[f"reward/{name}"] = _mean([v for one in scored for v in one.parts.get(name, ())])
    return found


def agreement(judged: Sequence[Feedback], gold: Sequence[Feedback]) -> Figures:
    """Share of pairs of answers to one prompt, of which gold prefers one, that the judge puts the same way round; a
    tie of the judge counts one half."""
    right = total = 0.0
    for ours, better in zip(judged, gold, strict=True):
        if not (isinstance(ours, Scores) and isinstance(better, Scores)):
            continue
        for i, j in combinations(range(len(better.values)), 2):
            way = better.values[i] - better.values[j]
            if way:
                total += 1
                said = (ours.values[i] - ours.values[j]) * way
                right += 1.0 if said > 0 else 0.5 if said == 0 else 0.0
    return {"judge_accuracy": right / total, "judge_pairs": total} if total else {}


def mismatch(behavior: Sequence[Sequence[float]], policy: Sequence[Sequence[float]]) -> Figures:
    """How far the sampler's log-probs are from the trainer's for the same tokens: mean |difference| in nats, and the
    largest ratio of the two probabilities, either way."""
    gaps = [abs(p - b) for old, new in zip(behavior, policy, strict=True) for b, p in zip(old, new, strict=True)]
    if not gaps:
        return {}
    return {"mismatch/mean": fmean(gaps), "mismatch/max_ratio": exp(min(max(gaps), 700.0))}


def _mean(values: Sequence[float | int]) -> float:
    return fmean(values) if values else 0.0
