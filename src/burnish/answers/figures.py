"""What fresh answers say about a run: rewards, distance from the reference, length, variety, signal. No torch.

Every figure is over the answers of one refresh. Judges are compared within prompts only: a judge's level may differ
from prompt to prompt, its order may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import exp
from statistics import fmean, pstdev

from burnish.answers.answered import Answered
from burnish.group import Feedback, Scores, Unjudged

Figures = dict[str, float]


def figures(answered: Sequence[Answered]) -> Figures:
    """All there is to say about a refresh. Figures without a basis (no reference, no gold) are left out."""
    groups = [a.encoded for a in answered]
    answers = [ids for group in groups for ids in group.completion_ids]
    result: Figures = {
        "answers": float(len(answers)),
        "length": _mean([len(ids) for ids in answers]),
        "finished": _mean([ended for group in groups for ended in group.ended]),
        "distinct": _mean([len(set(group.completion_ids)) / len(group.completion_ids) for group in groups]),
    }
    judged = [a.feedback for a in answered]
    result |= rewards(judged)
    if any(a.gold is not None for a in answered):
        gold = [a.gold or Unjudged() for a in answered]
        scored = [value for feedback in gold if isinstance(feedback, Scores) for value in feedback.values]
        result |= {"gold": _mean(scored)} if scored else {}
        result |= agreement(judged, gold)
    tokens = max(1, sum(map(len, answers)))
    kl = [value for a in answered for value in a.measured.kl]
    entropy = [value for a in answered for value in a.measured.entropy]
    if kl:
        result |= {"kl/token": sum(kl) / tokens, "kl/answer": sum(kl) / len(kl)}
    if entropy:
        result["entropy/token"] = sum(entropy) / tokens
    return result


def rewards(judged: Sequence[Feedback]) -> Figures:
    """Mean reward, each part of it, the spread within a prompt, and the shares without signal and without judgement."""
    scored = [feedback for feedback in judged if isinstance(feedback, Scores)]
    result: Figures = {"unjudged": _mean([isinstance(feedback, Unjudged) for feedback in judged])}
    if not scored:
        return result
    result["reward"] = _mean([value for scores in scored for value in scores.values])
    result["reward/spread"] = _mean([pstdev(scores.values) for scores in scored])
    result["no_signal"] = _mean([max(scores.values) == min(scores.values) for scores in scored])
    for name in dict.fromkeys(name for scores in scored for name in scores.parts):
        result[f"reward/{name}"] = _mean([v for scores in scored for v in scores.parts.get(name, ())])
    return result


def agreement(judged: Sequence[Feedback], gold: Sequence[Feedback]) -> Figures:
    """Share of pairs of answers to one prompt, of which gold prefers one, that the judge puts the same way round; a
    tie of the judge counts one half."""
    right = total = 0.0
    for scores, truth in zip(judged, gold, strict=True):
        if not (isinstance(scores, Scores) and isinstance(truth, Scores)):
            continue
        for i, j in combinations(range(len(truth.values)), 2):
            gap = truth.values[i] - truth.values[j]
            if gap:
                total += 1
                agreed = (scores.values[i] - scores.values[j]) * gap
                right += 1.0 if agreed > 0 else 0.5 if agreed == 0 else 0.0
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
