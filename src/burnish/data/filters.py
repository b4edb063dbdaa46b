"""Filters of the data, mixtures of sources, and the held-out split: pure functions of lists of groups. No torch.

Draws depend on the seed and on the content of a group, never on its place. The same rows in another order, or among
other rows, are therefore kept or dropped alike (but for a bound on their number, within which they compete).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from burnish.data.identity import (
    answers_of,
    by_lot,
    digest,
    directions,
    draw,
    identity,
    pair_of,
    prompt_key,
    question_key,
    score_gap,
)
from burnish.data.pairing import Length, at_least, characters
from burnish.errors import ConfigError, DataError, did_you_mean
from burnish.findings import places
from burnish.group import Group, Labels, Turns

WAY = "scored and labelled groups become pairs by a pair rule"
__all__ = [
    "Dropped", "SelectSettings", "apply", "dedupe", "drop_contradictions", "limit_length_gap", "limit_per_prompt",
    "limit_score_gap", "match_lengths", "mix", "pair_of", "prompt_key", "score_gap", "split_by_prompt",
]  # fmt: skip
LEAST_SIDE = 2  # groups to train on, and groups held out: of one nothing can be said
EXAMPLES = 3  # places named of what was left out
Kept = tuple[list[Group], "Dropped"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a filter left out: why, how many groups, and the places of the first of them (`file:row`)."""

    reason: str
    count: int
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """The sentence that is printed; empty where nothing was left out."""
        if not self.count:
            return ""
        where = f" ({places(self.examples, self.count)})" if self.examples else ""
        return f"{_counted(self.count)} left out: {self.reason}{where}"


@dataclass(frozen=True, slots=True)
class SelectSettings:
    """The filters in force; the names are those of the keys `data.<name>`. Raises ConfigError for what cannot be meant.

    `max_length_gap` is in the unit of the length function (tokens or characters) and two-sided; the score gaps are in
    units of the scores, both bounds included.
    """

    dedupe: bool = False
    contradictions: str = "keep"
    max_length_gap: int | None = None
    min_score_gap: float | None = None
    max_score_gap: float | None = None
    max_pairs_per_prompt: int | None = None
    length_match: bool = False

    def __post_init__(self) -> None:
        if self.contradictions not in ("keep", "drop"):
            raise ConfigError(f"data.contradictions = '{self.contradictions}': it is 'keep' or 'drop'")
        for name, least in (("max_length_gap", 0), ("min_score_gap", 0), ("max_score_gap", 0),
                            ("max_pairs_per_prompt", 1)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ConfigError(f"data.{name} = {value}: it must be finite, and at least {least}")
        low, high = self.min_score_gap, self.max_score_gap
        if low is not None and high is not None and low > high:
            raise ConfigError(f"data.min_score_gap = {low:g} is above data.max_score_gap = {high:g}: no pair can pass")

    @classmethod
    def of(cls, table: Any) -> SelectSettings:
        """The settings among the attributes of a configuration table."""
        return cls(**{f.name: getattr(table, f.name) for f in fields(cls)})

    @property
    def about_pairs(self) -> list[str]:
        """Keys in force that look at pairs and at nothing else."""
        names = ("max_length_gap", "min_score_gap", "max_score_gap", "length_match")
        return [f"data.{name}" for name in names if getattr(self, name) not in (None, False)]


# ---------------------------------------------------------------------------------------------------------- filters


def _sifted(groups: Sequence[Group], keep: Sequence[bool], reason: str) -> Kept:
    kept = [g for g, stays in zip(groups, keep, strict=True) if stays]
    gone = [g for g, stays in zip(groups, keep, strict=True) if not stays]
    return kept, Dropped(reason, len(gone), tuple(g.where or g.id for g in gone[:EXAMPLES] if g.where or g.id))


def dedupe(groups: Sequence[Group]) -> Kept:
    """The first of each set of groups with the same prompt, tools, answers and feedback, after normalisation.

    Answers that differ within a group in nothing but case, white space or Unicode form are compared as they are.
    """
    seen: set[bytes] = set()
    keep = []
    for group in groups:
        key = identity(group)
        keep.append(key not in seen)
        seen.add(key)
    return _sifted(groups, keep, "prompt, answers and feedback of an earlier group (data.dedupe)")


def drop_contradictions(groups: Sequence[Group]) -> Kept:
    """Without the groups that contradict each other: two answers preferred both ways, one answer labelled yes and no.

    All sides go, whatever their number. Groups that compare more than two answers are left as they are.
    """
    verdicts_on: dict[bytes, set[bool]] = defaultdict(set)
    subjects = []
    for group in groups:
        subject, verdicts = _verdicts(group)
        subjects.append(subject)
        verdicts_on[subject] |= verdicts
    keep = [len(verdicts_on[subject]) < 2 for subject in subjects]
    return _sifted(groups, keep, "the opposite is said of the same answers (data.contradictions)")


def _verdicts(group: Group) -> tuple[bytes, set[bool]]:
    """(digest of what is judged, the verdicts on it): the answer that sorts first is better, or the answer is good."""
    answers = answers_of(group)
    ways = directions(group)
    if ways:
        two = sorted({answers[k] for pair in ways for k in pair})
        return digest("pair", question_key(group), *two), {answers[w] < answers[l] for w, l in ways}
    if isinstance(group.feedback, Labels) and len(answers) == 1:
        return digest("label", question_key(group), *answers), set(group.feedback.values)
    return digest("other"), set()


def limit_length_gap(groups: Sequence[Group], limit: int, length: Length = characters) -> Kept:
    """Without pairs whose answers differ in length by more than `limit`, whichever of the two is the longer.

    The bound is two-sided. A bound on the winner's length minus the loser's alone would leave in the pairs whose winner
    is much the shorter, and so turn a bias towards long answers into a bias towards short answers.
    """
    gaps = [_length_gap(group, length) for group in groups]
    keep = [gap is None or abs(gap) <= limit for gap in gaps]
    return _sifted(groups, keep, f"lengths more than {limit:,} apart, either way (data.max_length_gap)")


def _length_gap(group: Group, length: Length) -> int | None:
    """Length of a pair's winner minus that of its loser."""
    pair = pair_of(group)
    if pair is None:
        return None
    winner, loser = (group.completions[k].messages for k in pair)
    return length(winner) - length(loser)


def limit_score_gap(groups: Sequence[Group], low: float | None = None, high: float | None = None) -> Kept:
    """Without pairs whose scores are less than `low` or more than `high` apart; pairs without scores stay."""
    gaps = [score_gap(group) for group in groups]
    keep = [
        gap is None or ((low is None or at_least(gap, low)) and (high is None or at_least(high, gap))) for gap in gaps
    ]
    bounds = [] if low is None else [f"below {low:g} (data.min_score_gap)"]
    bounds += [] if high is None else [f"above {high:g} (data.max_score_gap)"]
    return _sifted(groups, keep, f"a gap of scores {' or '.join(bounds)}")


def limit_per_prompt(groups: Sequence[Group], limit: int, seed: int) -> Kept:
    """At most `limit` groups of each prompt, drawn by seed, prompt and content; a group counts once, whatever its K."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[prompt_key(group)].append(place)
    drawn: set[int] = set()
    for same in places.values():
        drawn |= set(same if len(same) <= limit else by_lot(groups, same, seed, "prompt")[:limit])
    keep = [place in drawn for place in range(len(groups))]
    return _sifted(groups, keep, f"more than {limit} of the same prompt (data.max_pairs_per_prompt)")


def match_lengths(groups: Sequence[Group], length: Length = characters, seed: int = 0) -> Kept:
    """Drop pairs until the longer answer is the better one in exactly half of them, at every size of the gap.

    Gaps of length fall into bins of 1, 2-3, 4-7, 8-15, ...; in each, as many pairs stay whose winner is the longer as
    whose winner is the shorter, drawn by seed and content. Pairs of equal length, and groups that are no pairs, stay.
    """
    sides: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    keep = [True] * len(groups)
    for place, group in enumerate(groups):
        gap = _length_gap(group, length)
        if gap:
            sides[abs(gap).bit_length()][gap > 0].append(place)
    for shorter, longer in sides.values():
        count = min(len(shorter), len(longer))
        for side in (shorter, longer):
            for place in by_lot(groups, side, seed, "length")[count:] if len(side) > count else ():
                keep[place] = False
    return _sifted(groups, keep, "no pair with the same gap of lengths the other way round (data.length_match)")


def apply(
    groups: Sequence[Group], settings: SelectSettings, length: Length = characters, seed: int = 0
) -> tuple[list[Group], list[str]]:
    """(the groups that stay, the lines to print). `length_match` comes last, so that its balance holds in what is left.

    Raises ConfigError where a setting applies to none of the data, DataError where nothing is left.
    """
    left, lines = list(groups), _untouched(groups, settings)
    sizes: dict[int, int] = {}  # by identity of the texts, all of which live as long as `groups`

    def measured(turns: Turns) -> int:
        if id(turns) not in sizes:
            sizes[id(turns)] = length(turns)
        return sizes[id(turns)]

    low, high = settings.min_score_gap, settings.max_score_gap
    steps: list[Callable[[list[Group]], Kept]] = []
    if settings.dedupe:
        steps.append(dedupe)
    if settings.contradictions == "drop":
        steps.append(drop_contradictions)
    if (gap := settings.max_length_gap) is not None:
        steps.append(lambda groups: limit_length_gap(groups, gap, measured))
    if low is not None or high is not None:
        steps.append(lambda groups: limit_score_gap(groups, low, high))
    if (most := settings.max_pairs_per_prompt) is not None:
        steps.append(lambda groups: limit_per_prompt(groups, most, seed))
    if settings.length_match:
        steps.append(lambda groups: match_lengths(groups, measured, seed))
    for step in steps:
        left, dropped = step(left)
        lines += [dropped.line()] * bool(dropped.count)
    if groups and not left:
        raise DataError("the filters leave nothing of the data: " + "; ".join(lines))
    return left, lines


def _untouched(groups: Sequence[Group], settings: SelectSettings) -> list[str]:
    """Lines about groups that a filter in force does not apply to. Raises ConfigError where it applies to none."""
    names = settings.about_pairs
    if not names or not groups:
        return []
    lines = []
    pairs = [group for group in groups if pair_of(group) is not None]
    if not pairs:
        verb = "looks" if len(names) == 1 else "look"
        raise ConfigError(f"{' and '.join(names)} {verb} at pairs, and the data holds none; {WAY}")
    if len(pairs) < len(groups):
        lines.append(f"{_counted(len(groups) - len(pairs))} kept by {', '.join(names)}: not one pair each")
    unknown = sum(score_gap(group) is None for group in pairs)
    keys = ", ".join(name for name in names if "score" in name)
    if keys and unknown == len(pairs):
        raise ConfigError(f"{keys} is set, and no pair of the data has scores; leave it out")
    if keys and unknown:
        lines.append(f"{_counted(unknown)} kept by {keys}: no scores")
    return lines


def _counted(count: int) -> str:
    return f"{count:,} group{'' if count == 1 else 's'}"


# ------------------------------------------------------------------------------------------------ mixing, holding out


def mix(sources: Mapping[str, Sequence[Group]], weights: Mapping[str, float], seed: int) -> list[Group]:
    """One epoch of several sources, one after the other. A weight is the number of copies of the source in an epoch.

    2 is every group twice, 0.5 a half that is drawn by seed and content and is the same in every epoch, 1.5 every
    group once and that half again; 0 leaves the source out, and a source without a weight counts once. Of n groups
    round(weight x n) are in the result, at least one for a weight above 0.
    Raises ConfigError for a weight that is negative, not finite, or of an unknown source, or where none is above 0.
    """
    for name, weight in weights.items():
        if name not in sources:
            hint = did_you_mean(name, sources) or f", only {', '.join(sources)}"
            raise ConfigError(f"a weight is given for '{name}', and there is no such source{hint}")
        if not 0 <= weight < math.inf:
            raise ConfigError(f"the weight of '{name}' is {weight}: it must be finite, and 0 or more")
    mixed: list[Group] = []
    for name, groups in sources.items():
        weight = weights.get(name, 1.0)
        if not groups or not weight:
            continue
        whole, rest = divmod(max(1, math.floor(weight * len(groups) + 0.5)), len(groups))
        part = sorted(by_lot(groups, range(len(groups)), seed, f"mix {name}")[:rest]) if rest else []
        mixed += list(groups) * whole + [groups[place] for place in part]
    if any(sources.values()) and not mixed:
        raise ConfigError("the weights leave no source: at least one must be above 0")
    return mixed


def split_by_prompt(groups: Sequence[Group], fraction: float, seed: int) -> tuple[list[Group], list[Group]]:
    """(train, held out): about `fraction` of the prompts are held out, each with all its groups.

    A prompt's side depends on the seed and on the prompt alone, so that new rows move no others; but a side that would
    have fewer than `LEAST_SIDE` groups takes the prompts whose lots lie nearest to it.
    Raises ConfigError for a fraction outside (0, 1), DataError where the prompts cannot give both sides so many groups.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"{fraction:g} of the prompts cannot be held out: the share lies between 0 and 1")
    keys = [prompt_key(group) for group in groups]
    sizes = Counter(keys)
    lots = sorted((draw(seed, "split", key), key) for key in sizes)
    held_groups = list(accumulate(sizes[key] for _, key in lots))  # where the prompts up to this one are held out
    sound = [k for k, held in enumerate(held_groups, 1) if LEAST_SIDE <= held <= len(groups) - LEAST_SIDE]
    if not sound:
        raise DataError(
            f"{_counted(len(groups))} with {len(sizes):,} different prompt{'' if len(sizes) == 1 else 's'} cannot be "
            f"divided by prompt so that each side has {LEAST_SIDE} groups (data.eval_fraction); bring more data, or "
            "name held-out data (data.eval)"
        )
    drawn = sum(lot < fraction for lot, _ in lots)
    held = {key for _, key in lots[: min(sound, key=lambda k: abs(k - drawn))]}
    train = [group for group, key in zip(groups, keys, strict=True) if key not in held]
    return train, [group for group, key in zip(groups, keys, strict=True) if key in held]
