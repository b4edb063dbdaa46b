"""What the votes of a ballot say. Every figure is of counted votes: hidden repeats tell only how steady raters are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from burnish.stats import (
    Share,
    Verdicts,
    chances,
    clustered_share,
    in_order,
    krippendorff,
    outcomes_ahead,
    predicted_win_rate,
    ranking,
    sequential,
    win_rate,
)  # fmt: skip
from burnish.vote.records import Settings, Vote
from burnish.vote.store import Ballot

Estimate = list[float]  # value, low, high
FEWEST = 5  # votes of a part (a rater, a kind of prompt) that gets figures


def figures(ballot: Ballot, *, without_named: bool = False) -> dict[str, Any]:
    """Everything that the organiser sees. `without_named`: pairs in which an answer says who made it do not count."""
    settings, models, votes, pairs = ballot.settings(), ballot.models(), ballot.votes(), ballot.pairs()
    if without_named:
        votes = [vote for vote in votes if not vote.names_maker]
    counted = [vote for vote in votes if vote.repeats is None and vote.origin == "set"]
    asked = [vote for vote in votes if vote.repeats is None and vote.origin == "asked"]
    kinds = [] if settings.get("round") else combinations(range(len(models)), 2)  # a run's answers are no models
    by_pair = [_comparison(pairs, counted, a, b, models, settings) for a, b in kinds]
    return {
        "round": settings.get("round"),
        "models": models, "closed": settings["closed"], "overlap": settings["overlap"], "width": settings["width"],
        "prompts": len({row["prompt"] for row in pairs}), "pairs": len(pairs),
        "alike": sum(row["alike"] for row in pairs), "votes": len(counted), "asked": len(asked),
        "repeats": len(votes) - len(counted) - len(asked), "raters": _raters(votes, models),
        "comparisons": by_pair, "ranking": _ranked(counted, models) if len(by_pair) > 1 else None,
        "asked_wins": _wins(asked, 0, 1) if len(by_pair) == 1 and len(asked) >= FEWEST else None,
        "agreement": _agreement(counted), "sides": _sides(counted), "steady": _steady(votes),
        "named": sum(vote.names_maker for vote in counted), "flagged": sum(vote.flagged for vote in votes),
        "reasons": _counts(reason for vote in counted for reason in vote.reasons),
    }  # fmt: skip


def _comparison(
    pairs: Sequence[Any], votes: Sequence[Vote], a: int, b: int, models: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Two models: how often b's answer is preferred to a's."""
    pair_votes = [vote for vote in votes if (vote.a, vote.b) == (a, b)]
    rows = [row for row in pairs if (row["a"], row["b"]) == (a, b)]
    spread = len({row["weight"] for row in rows}) == 1
    comparison: dict[str, Any] = {
        "model": models[b], "against": models[a], "votes": len(pair_votes), "prompts": len(rows),
        "chosen": _counts(_word(vote, models) for vote in pair_votes), "evenly": spread,
    }  # fmt: skip
    outcomes = _complete(rows, pair_votes, settings["overlap"])
    tests = math.comb(len(models), 2)
    if spread:
        comparison["anytime"] = _anytime(outcomes, float(settings["width"]), 0.05 / tests, ahead=tests == 1)
    if pair_votes:
        comparison["wins"] = _wins(pair_votes, a, b)
        comparison["kinds"] = _by(pair_votes, lambda vote: vote.kind)
        comparison["raters"] = _by(pair_votes, lambda vote: vote.rater)
    if any(row["verdict"] is not None for row in rows):
        comparison["judge"] = _judged(rows, pair_votes)
    return comparison


def _complete(rows: Sequence[Any], votes: Sequence[Vote], overlap: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """b's outcomes by prompt in the order in which prompts were complete; pairs that are alike, ties nobody was asked
    about, count once the asking has passed their place."""
    outcomes = in_order([v.prompt for v in votes], np.array([1 - v.outcome for v in votes]), overlap)
    voted = {vote.prompt for vote in votes}
    last = max((place for place, row in enumerate(rows) if row["prompt"] in voted), default=-1)
    waiting = any(not row["alike"] and row["prompt"] not in voted for row in rows)
    passed = rows[: last + 1] if waiting else rows
    return np.concatenate([outcomes, np.full(sum(row["alike"] for row in passed), 0.5)])


def _anytime(outcomes: Any, width: float, level: float, *, ahead: bool) -> dict[str, Any]:
    """The interval that holds whenever one looks, and whether it is enough."""
    interval = sequential(outcomes, level)
    enough = interval.decided(width)
    more = outcomes_ahead(outcomes, width) if ahead and not enough else None
    return {
        "value": [interval.value, interval.low, interval.high], "evidence": interval.evidence,
        "prompts": interval.outcomes,
        "enough": enough, "more": more and [more.median, more.low, more.high],
    }  # fmt: skip


def _wins(votes: Sequence[Vote], a: int, b: int) -> dict[str, Any]:
    """b's win rate at one look: raw and at equal length, and whether raters prefer the longer."""
    pair_votes = [vote for vote in votes if (vote.a, vote.b) == (a, b)]
    prompts = np.unique([vote.prompt for vote in pair_votes], return_inverse=True)[1].astype(np.int64)
    outcomes = np.array([1 - vote.outcome for vote in pair_votes])
    longer = np.array([float(vote.length_b - vote.length_a) for vote in pair_votes])
    rate = win_rate(Verdicts(prompts, outcomes, longer))
    decided = (outcomes != 0.5) & (longer != 0)
    took_longer = ((outcomes > 0.5) == (longer > 0)).astype(np.float64)[decided]
    share = clustered_share(took_longer, prompts[decided]) if decided.any() else None
    return {
        "raw": _estimate(rate.raw), "length_controlled": _estimate(rate.controlled), "longer": float(longer.mean()),
        "prefers_longer": share and _estimate(share),
        "explained": None if rate.explained is None else [rate.explained, rate.explained_low, rate.explained_high],
    }  # fmt: skip


def _by(votes: Sequence[Vote], key: Any) -> dict[str, dict[str, Any]]:
    """b's win rate in each part of the votes."""
    parts: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        parts[key(vote)].append(vote)
    if len(parts) < 2:
        return {}
    rows = {}
    for name, part in sorted(parts.items(), key=lambda item: -len(item[1])):
        prompts = np.unique([vote.prompt for vote in part], return_inverse=True)[1].astype(np.int64)
        share = clustered_share(np.array([1 - vote.outcome for vote in part]), prompts)
        rows[name] = {"votes": len(part), "value": _estimate(share) if len(part) >= FEWEST else None}
    return rows


def _judged(rows: Sequence[Any], votes: Sequence[Vote]) -> dict[str, Any]:
    """A judge beside people: how often they agree, and the win rate that uses both."""
    verdicts = {row["prompt"]: 1 - row["verdict"] for row in rows if row["verdict"] is not None}
    weights = {row["prompt"]: row["weight"] for row in rows}
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.prompt in verdicts:
            by_prompt[vote.prompt].append(1 - vote.outcome)
    alike = {row["prompt"] for row in rows if row["alike"] and row["prompt"] in verdicts}
    by_prompt.update({prompt: [0.5] for prompt in alike})
    prompts = list(verdicts)
    people = np.array([float(np.mean(by_prompt[p])) if p in by_prompt else math.nan for p in prompts])
    judge = np.array([verdicts[p] for p in prompts])
    asked = np.array([p not in alike for p in prompts])  # the others are ties for sure
    voted = int((asked & ~np.isnan(people)).sum())
    inclusion = np.ones(len(prompts))
    if asked.any():
        inclusion[asked] = chances(np.array([weights[p] for p in prompts])[asked], voted)
    both = predicted_win_rate(judge, people, inclusion)
    sided = [(verdicts[v.prompt], 1 - v.outcome, v.prompt) for v in votes if verdicts.get(v.prompt, 0.5) != 0.5]
    sided = [row for row in sided if row[1] != 0.5]
    clusters = np.unique([row[2] for row in sided], return_inverse=True)[1].astype(np.int64)
    same = np.array([float((row[0] > 0.5) == (row[1] > 0.5)) for row in sided])
    return {
        "verdicts": len(prompts), "value": float(judge.mean()), "same": _estimate(clustered_share(same, clusters)),
        "decided": len(sided), "both": [both.value, both.low, both.high], "worth": both.worth, "trust": both.trust,
        "voted": voted,
    }  # fmt: skip


def _ranked(votes: Sequence[Vote], models: Sequence[str]) -> list[dict[str, Any]]:
    """Bradley-Terry: each model's log-odds over the first, best first."""
    if not votes:
        return []
    a, b = (np.array([getattr(vote, side) for vote in votes], dtype=np.int64) for side in "ab")
    clusters = np.unique([vote.prompt for vote in votes], return_inverse=True)[1].astype(np.int64)
    fit = ranking(a, b, np.array([vote.outcome for vote in votes]), clusters, len(models))
    rows = [
        {"model": name, "ability": [float(fit.abilities[i]), float(fit.low[i]), float(fit.high[i])],
         "beats_first": fit.beats(i, 0), "votes": int(((a == i) | (b == i)).sum())}
        for i, name in enumerate(models)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["ability"][0])


def _agreement(votes: Sequence[Vote]) -> dict[str, Any] | None:
    """Krippendorff's alpha over pairs that several people voted on."""
    by_pair: dict[int, dict[str, float]] = defaultdict(dict)
    for vote in votes:
        by_pair[vote.pair][vote.rater] = vote.outcome
    agreement = krippendorff(list(by_pair.values()))
    if not agreement.items:
        return None
    return {"alpha": [agreement.alpha, agreement.low, agreement.high], "pairs": agreement.items}


def _sides(votes: Sequence[Vote]) -> Estimate | None:
    """How often the left was preferred, of the votes that preferred a side; one half without a bias."""
    decided = [vote for vote in votes if vote.choice in ("left", "right")]
    if not decided:
        return None
    prompts = np.unique([vote.prompt for vote in decided], return_inverse=True)[1].astype(np.int64)
    return _estimate(clustered_share(np.array([float(vote.choice == "left") for vote in decided]), prompts))


def _steady(votes: Sequence[Vote]) -> dict[str, Any] | None:
    """How often raters said the same of a pair that came again with its sides swapped."""
    first = {vote.task: vote for vote in votes}
    again = [(first[vote.repeats], vote) for vote in votes if vote.repeats is not None and vote.repeats in first]
    if not again:
        return None
    same = np.array([float(one.outcome == two.outcome) for one, two in again])
    stuck = sum(one.choice == two.choice and one.choice in ("left", "right") for one, two in again)
    share = clustered_share(same, np.arange(len(same)))
    return {"pairs": len(again), "same": _estimate(share), "same_side": stuck}


def _raters(votes: Sequence[Vote], models: Sequence[str]) -> list[dict[str, Any]]:
    """Each rater: votes, how steady, which side, how long a vote takes."""
    rows = []
    for name in sorted({vote.rater for vote in votes}):
        cast = [vote for vote in votes if vote.rater == name]
        counted = [vote for vote in cast if vote.repeats is None]
        seconds = sorted(vote.seconds for vote in cast)
        rows.append(
            {"rater": name, "votes": len(counted), "seconds": seconds[len(seconds) // 2], "left": _sides(counted),
             "steady": _steady(cast)}
        )  # fmt: skip
    return rows


def _word(vote: Vote, models: Sequence[str]) -> str:
    if vote.outcome == 0.5:
        return vote.choice
    return models[vote.a if vote.outcome == 1 else vote.b]


def _counts(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _estimate(share: Share) -> Estimate:
    return [share.value, share.low, share.high]
