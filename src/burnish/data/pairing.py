"""Scored, labelled and ranked groups -> pairs, by a named rule. A tie never becomes a pair. No torch.

Each pair is a group of two answers, the better one first. Its meta holds where it comes from: `pair_rule`, `from` (the
id of the group), and, where scores are known, `scores` ([winner's, loser's]) and `score_gap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from burnish.errors import ConfigError, DataError, did_you_mean
from burnish.group import Group, Labels, Preferences, Scores, Turns, whole_text

Length = Callable[[Turns], int]  # length of an answer's text, in characters or in a tokenizer's tokens

RULES = {  # name -> (what it does, the settings that it reads besides max_pairs)
    "best_vs_worst": ("the best answer beats the worst", ()),
    "all": ("every better answer beats every worse one", ()),
    "threshold": ("a better answer beats a worse one if their scores are far enough apart", ("min_gap", "max_gap")),
    "adjacent": ("each answer beats the next one in the ranking", ()),
    "length_matched": (
        "a better answer beats the worse one nearest in length, each answer in one pair at most",
        ("max_length_ratio", "min_gap", "max_gap"),
    ),
    "verifier_first": (
        "a correct answer beats the incorrect one nearest in length, each answer in one pair at most",
        ("pass_mark", "max_length_ratio"),
    ),
    "strong_vs_weak": (
        "an answer of a strong model beats that of a weak one, whatever the scores",
        ("strong", "weak"),
    ),
}
NEEDED = {"threshold": ("min_gap",), "strong_vs_weak": ("strong", "weak")}
LENGTH_RATIO = 1.25  # of `length_matched`, where none is given
PASS_MARK = 1.0


class Pair(NamedTuple):
    """Completion indices, the better one first, and the weight of the preference (1.0 is a plain vote)."""

    winner: int
    loser: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PairRule:
    """A rule by its name, and its settings, of which None is the default.

    `min_gap` and `max_gap` are in units of the scores, both bounds included; `max_length_ratio` is the longer length
    over the shorter; a score of `pass_mark` or more counts as correct; `strong` and `weak` are names of models.
    `max_pairs` bounds the pairs of one group: those nearest in length stay under the rules that match lengths,
    elsewhere the heaviest and among equals those with the largest gap of scores. Raises ConfigError for settings that
    the rule ignores.
    """

    name: str = "best_vs_worst"
    min_gap: float | None = None
    max_gap: float | None = None
    max_length_ratio: float | None = None
    pass_mark: float | None = None
    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    max_pairs: int | None = None

    def __post_init__(self) -> None:
        if self.name not in RULES:
            rules = f"{', '.join(RULES)}{did_you_mean(self.name, RULES)}"
            raise ConfigError(f"there is no pair rule '{self.name}', only {rules}")
        used = RULES[self.name][1]
        for key in ("min_gap", "max_gap", "max_length_ratio", "pass_mark", "strong", "weak"):
            value = getattr(self, key)
            if value in (None, ()) and key in NEEDED.get(self.name, ()):
                raise ConfigError(f"the pair rule '{self.name}' needs {key}")
            if value not in (None, ()) and key not in used:
                raise ConfigError(f"the pair rule '{self.name}' does not look at {key}{_readers_of(key)}")
        self._refuse_values()

    def _refuse_values(self) -> None:
        for key in ("min_gap", "max_gap", "pass_mark"):
            value = getattr(self, key)
            if value is not None and (not math.isfinite(value) or (key != "pass_mark" and value < 0)):
                raise ConfigError(f"{key} = {value}: a finite number is wanted{'' if key == 'pass_mark' else ', >= 0'}")
        if self.min_gap is not None and self.max_gap is not None and self.min_gap > self.max_gap:
            raise ConfigError(f"min_gap = {self.min_gap:g} is above max_gap = {self.max_gap:g}: no pair could pass")
        if self.max_length_ratio is not None and not 1 <= self.max_length_ratio < math.inf:
            raise ConfigError(f"max_length_ratio = {self.max_length_ratio}: longer over shorter, so 1 or more")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ConfigError(f"max_pairs = {self.max_pairs}: at least 1")
        both = sorted(set(self.strong) & set(self.weak))
        if both:
            raise ConfigError(f"{both[0]} is named as strong and as weak")

    @property
    def needs_lengths(self) -> bool:
        """Whether the rule compares the lengths of answers."""
        return "max_length_ratio" in RULES[self.name][1]

    def describe(self) -> str:
        """The rule in one sentence, with every value in force."""
        values = []
        if self.min_gap is not None:
            values.append(f"a gap of at least {self.min_gap:g}")
        if self.max_gap is not None:
            values.append(f"a gap of at most {self.max_gap:g}")
        if self.name == "verifier_first":
            mark = PASS_MARK if self.pass_mark is None else self.pass_mark
            values.append(f"correct from a score of {mark:g}")
        if self.ratio < math.inf:
            values.append(f"lengths within a factor of {self.ratio:g}")
        if self.strong:
            values.append(f"strong: {', '.join(self.strong)}; weak: {', '.join(self.weak)}")
        if self.max_pairs is not None:
            values.append(f"at most {self.max_pairs} a group")
        in_force = f" ({', '.join(values)})" if values else ""
        return f"{self.name}: {RULES[self.name][0]}{in_force}; ties give no pair"

    @property
    def ratio(self) -> float:
        """The largest ratio of lengths in force; infinite where lengths are not bounded."""
        default = LENGTH_RATIO if self.name == "length_matched" else math.inf
        return default if self.max_length_ratio is None else self.max_length_ratio


def _readers_of(key: str) -> str:
    names = [name for name, (_, keys) in RULES.items() if key in keys]
    return f"; {' and '.join(names)} {'do' if len(names) > 1 else 'does'}"


def characters(answer: Turns) -> int:
    """Length of an answer in characters, its turns joined by newlines; what lies outside the text is not counted."""
    return len(whole_text(answer))


def at_least(value: float, limit: float) -> bool:
    """value >= limit, where 0.3 - 0.1 counts as 0.2: scores are decimal numbers, and so are the bounds on them."""
    return value >= limit or math.isclose(value, limit, rel_tol=1e-9, abs_tol=1e-12)


def pairs_of(group: Group, rule: PairRule, lengths: Sequence[int] | None = None) -> tuple[Pair, ...]:
    """The pairs that a rule makes of one group: a pure function of its arguments.

    Scores follow the rule. Of labels every yes beats every no. Of preferences each is a pair with its weight, whatever
    the rule (but rules of length match among them): equal preferences are a single pair with the sum of their weights,
    and opposite ones of equal weight a tie. Two equal answers are a tie, too. `strong_vs_weak` looks at the models
    alone. `lengths` (one a completion) default to characters.
    Raises DataError where the number of lengths differs from that of the completions.
    """
    if lengths is not None and len(lengths) != len(group.completions):
        raise DataError(f"{group.where or group.id}: {len(lengths)} lengths for {len(group.completions)} completions")
    candidates = [p for p in _candidates(group, rule) if _differ(group, p)]
    if rule.needs_lengths:
        sizes = lengths if lengths is not None else [characters(c.messages) for c in group.completions]
        return tuple(_matched(candidates, rule, sizes)[: rule.max_pairs])
    if rule.max_pairs is None or len(candidates) <= rule.max_pairs:
        return tuple(candidates)
    order = sorted(
        range(len(candidates)), key=lambda i: (-candidates[i].weight, -(gap_of(group, candidates[i]) or 0), i)
    )
    return tuple(candidates[i] for i in sorted(order[: rule.max_pairs]))


def _differ(group: Group, pair: Pair) -> bool:
    return group.completions[pair.winner].messages != group.completions[pair.loser].messages


def _candidates(group: Group, rule: PairRule) -> list[Pair]:
    """Pairs before lengths are looked at; of scores in the order of the ranking, winner before loser."""
    count = len(group.completions)
    feedback = group.feedback
    if rule.name == "strong_vs_weak":
        models = [c.model for c in group.completions]
        strong = [k for k in range(count) if models[k] in rule.strong]
        return [Pair(w, l) for w in strong for l in range(count) if models[l] in rule.weak]
    if isinstance(feedback, Preferences):
        totals: dict[tuple[int, int], float] = {}
        for winner, loser, weight in feedback.triples:
            totals[winner, loser] = totals.get((winner, loser), 0.0) + weight
        return [Pair(w, l, weight) for (w, l), weight in totals.items() if totals.get((l, w)) != weight]
    if isinstance(feedback, Labels):
        good = [k for k, desirable in enumerate(feedback.values) if desirable]
        return [Pair(w, l) for w in good for l in range(count) if not feedback.values[l]]
    return _by_score(feedback.values, rule) if isinstance(feedback, Scores) else []


def _by_score(scores: Sequence[float], rule: PairRule) -> list[Pair]:
    if rule.name == "verifier_first":
        mark = PASS_MARK if rule.pass_mark is None else rule.pass_mark
        right = [at_least(score, mark) for score in scores]
        return [Pair(w, l) for w in range(len(scores)) for l in range(len(scores)) if right[w] and not right[l]]
    ranked = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
    if rule.name == "best_vs_worst":
        worst = min(ranked, key=lambda k: (scores[k], k), default=0)
        candidates = [(k, worst) for k in ranked[:1]]
    elif rule.name == "adjacent":
        candidates = list(pairwise(ranked))
    else:
        candidates = [(w, l) for at, w in enumerate(ranked) for l in ranked[at + 1 :]]
    low, high = rule.min_gap or 0.0, math.inf if rule.max_gap is None else rule.max_gap
    gaps = [scores[w] - scores[l] for w, l in candidates]
    sound = [gap > 0 and at_least(gap, low) and at_least(high, gap) for gap in gaps]
    return [Pair(w, l) for (w, l), fits in zip(candidates, sound, strict=True) if fits]


def _matched(candidates: Sequence[Pair], rule: PairRule, lengths: Sequence[int]) -> list[Pair]:
    """Pairs of near lengths, each answer used once at most, the nearest pair first.

    `length_matched` serves the winners in the order of their rank; `verifier_first`, whose winners are all alike,
    takes the nearest pair of all, then the nearest of what is left.
    """
    ratio = rule.ratio
    near = [
        p for p in candidates
        if max(lengths[p.winner], lengths[p.loser]) <= ratio * min(lengths[p.winner], lengths[p.loser])
        or lengths[p.winner] == lengths[p.loser]
    ]  # fmt: skip

    def distance(pair: Pair) -> int:
        return abs(lengths[pair.winner] - lengths[pair.loser])

    ranks = {w: rank for rank, w in enumerate(dict.fromkeys(p.winner for p in near))}
    by_winner = rule.name == "length_matched"
    used: set[int] = set()
    made = []
    for pair in sorted(near, key=lambda p: (ranks[p.winner] if by_winner else 0, distance(p))):
        if not used & {pair.winner, pair.loser}:
            used |= {pair.winner, pair.loser}
            made.append(pair)
    return sorted(made, key=distance)


def gap_of(group: Group, pair: Pair) -> float | None:
    """Score of the winner minus score of the loser; None without scores."""
    if not isinstance(group.feedback, Scores):
        return None
    return group.feedback.values[pair.winner] - group.feedback.values[pair.loser]


def preferred(group: Group, rule: PairRule, lengths: Sequence[int] | None = None) -> Group:
    """The group with the rule's preferences in place of its scores or labels; its answers stay together."""
    if len(group.completions) < 2 or (isinstance(group.feedback, Preferences) and rule.name != "strong_vs_weak"):
        return group
    pairs = pairs_of(group, rule, lengths)
    gaps = tuple(gap for gap in (gap_of(group, pair) for pair in pairs) if gap is not None)
    return replace(group, feedback=Preferences(tuple((p.winner, p.loser, p.weight) for p in pairs), gaps))


def make_pairs(groups: Iterable[Group], rule: PairRule, length: Length = characters) -> Iterator[Group]:
    """The pairs of each group, one after the other, as groups of two completions with the better one first.

    A group that is already a single preference between two answers, and that the rule keeps, is passed on unchanged.
    """
    for group in groups:
        lengths = [length(c.messages) for c in group.completions] if rule.needs_lengths else None
        pairs = pairs_of(group, rule, lengths)
        given = group.feedback.triples if isinstance(group.feedback, Preferences) else None
        if given == pairs and len(group.completions) == 2 and len(pairs) == 1 and rule.name != "strong_vs_weak":
            yield group
        else:
            yield from (_made(group, pair, rule) for pair in pairs)


def _made(group: Group, pair: Pair, rule: PairRule) -> Group:
    origin: dict[str, Any] = {"pair_rule": rule.name, "from": group.id}
    gap = gap_of(group, pair)
    if gap is not None and isinstance(group.feedback, Scores):
        origin["score_gap"] = gap
        origin["scores"] = [group.feedback.values[pair.winner], group.feedback.values[pair.loser]]
    # what the data has under these names is kept, under another name
    before = {f"original_{name}": group.meta[name] for name in origin if name in group.meta}
    return replace(
        group,
        completions=(group.completions[pair.winner], group.completions[pair.loser]),
        feedback=Preferences(((0, 1, pair.weight),), () if gap is None else (gap,)),
        id=f"{group.id}#{pair.winner}-{pair.loser}",
        meta={**group.meta, **before, **origin},
    )
