"""The feedback of a group in the shape an objective needs: pairs, lists or single completions, by index. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, combinations, pairwise

from burnish.group import EncodedGroup, Feedback, Group, Labels, Preferences, Scores, Unjudged

Triple = tuple[int, int, float]


def pair_view(group: EncodedGroup, rule: str = "best_vs_worst") -> tuple[Triple, ...]:
    """(winner, loser, weight) triples. Preferences as they are; scores by `rule`, ties left out; labels give none."""
    if isinstance(group.feedback, Preferences):
        return group.feedback.triples
    if not isinstance(group.feedback, Scores):
        return ()
    scores = group.feedback.values
    ranked = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
    if rule == "best_vs_worst":
        worst = min(range(len(scores)), key=lambda k: (scores[k], k))
        candidates = [(ranked[0], worst)]
    else:
        candidates = list(combinations(ranked, 2) if rule == "all" else pairwise(ranked))
    return tuple((w, l, 1.0) for w, l in candidates if scores[w] > scores[l])


def margins(group: EncodedGroup) -> tuple[float, ...]:
    """By how much the winner of each pair is better, in units of the data's scores; () where that is unknown."""
    if isinstance(group.feedback, Preferences):
        return group.feedback.margins
    if not isinstance(group.feedback, Scores):
        return ()
    scores = group.feedback.values
    return tuple(scores[w] - scores[l] for w, l, _ in pair_view(group))


def single_view(group: EncodedGroup) -> tuple[tuple[int, bool], ...]:
    """(completion, desirable) for objectives that see one answer at a time; of preferences, the winners."""
    feedback = group.feedback
    if isinstance(feedback, Labels):
        return tuple(enumerate(feedback.values))
    if isinstance(feedback, Preferences):
        return tuple((winner, True) for winner in dict.fromkeys(w for w, _, _ in feedback.triples))
    if isinstance(feedback, Scores):
        return ((max(range(len(feedback.values)), key=feedback.values.__getitem__), True),)
    return tuple((k, True) for k in range(len(group.completion_ids)))


def list_view(group: EncodedGroup) -> tuple[tuple[int, float], ...]:
    """(completion, score) from best to worst; () where fewer than two answers were scored, or all alike.

    Of preferences, the score is the weight of the wins: a ranking, where the preferences come from a ranking.
    """
    feedback = group.feedback
    if isinstance(feedback, Scores):
        values = list(feedback.values)
    elif isinstance(feedback, Preferences) and feedback.triples:
        values = [0.0] * len(group.completion_ids)
        for winner, _, weight in feedback.triples:
            values[winner] += weight
    else:
        return ()
    if len(values) < 2 or min(values) == max(values):
        return ()
    return tuple((k, values[k]) for k in sorted(range(len(values)), key=lambda k: (-values[k], k)))


def label_view(group: EncodedGroup) -> tuple[tuple[int, bool], ...]:
    """(completion, desirable) for objectives of single answers: labels as they are; of preferences, winners are a yes
    and those that only lose a no; scores and unjudged answers give none."""
    feedback = group.feedback
    if isinstance(feedback, Labels):
        return tuple(enumerate(feedback.values))
    if isinstance(feedback, Preferences):
        winners = {winner for winner, _, _ in feedback.triples}
        losers = {loser for _, loser, _ in feedback.triples} - winners
        return tuple((k, k in winners) for k in sorted(winners | losers))
    return ()


def winner_view(group: EncodedGroup) -> tuple[int, ...]:
    """The completions worth imitating: desirable, best-scored, winning; all where nothing was judged."""
    return tuple(k for k, desirable in single_view(group) if desirable)


def keep_used(group: Group, wanted: Sequence[str]) -> Group:
    """The group without the completions that none of these views uses; the others keep their order and feedback."""
    if "lists" in wanted or "labels" in wanted:
        return group
    bare = EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback)
    pairs = pair_view(bare) if "pairs" in wanted else ()
    used = {k for w, l, _ in pairs for k in (w, l)}
    if "winners" in wanted:
        used |= set(winner_view(bare))
    if not used or len(used) == len(group.completions):
        return group
    place = {k: new for new, k in enumerate(sorted(used))}
    feedback: Feedback = Unjudged("the winners of a judged group")
    if "pairs" in wanted:
        feedback = Preferences(tuple((place[w], place[l], weight) for w, l, weight in pairs), margins(bare))
    return replace(group, completions=tuple(group.completions[k] for k in place), feedback=feedback)


def usable(group: EncodedGroup, wanted: Sequence[str]) -> bool:
    """Whether the group gives objectives of each of these views something to learn from."""
    views: dict[str, Callable[[EncodedGroup], Sequence[object]]] = {
        "pairs": pair_view, "lists": list_view, "labels": label_view, "winners": winner_view,
        "rollouts": lambda g: () if g.rollout is None or isinstance(g.feedback, Unjudged) else (g.rollout,),
    }  # fmt: skip
    return all(views[view](group) for view in wanted)


def missing_feedback(groups: Sequence[EncodedGroup], view: str, objective: str) -> str | None:
    """The sentence that refuses data whose groups lack the feedback an objective needs; None if all have it."""
    if view in ("winners", "rollouts"):
        return None
    if view == "labels":
        unlabelled = next((g for g in groups if not isinstance(g.feedback, (Labels, Preferences))), None)
        if unlabelled is None:
            return None
        return (
            f"{unlabelled.where or unlabelled.id}: `{objective}` needs a yes or no for each answer; this row has none"
        )
    for group in groups:
        if isinstance(group.feedback, (Preferences, Scores)) and len(group.completion_ids) > 1:
            continue
        count = len(group.completion_ids)
        has = f"{count} completion{'s' if count > 1 else ''}"
        if isinstance(group.feedback, Labels):
            has += " with a yes/no label"
        elif isinstance(group.feedback, Unjudged):
            has += f" and no judgement ({group.feedback.reason})"
        use = "kto" if isinstance(group.feedback, Labels) else "sft"
        return f"{group.where or group.id}: `{objective}` needs preferences, and this row has {has}; use `{use}`"
    return None


def offsets(groups: Sequence[EncodedGroup]) -> list[int]:
    """Number of the first completion of each group, when a microbatch's completions are numbered 0..C-1."""
    return [0, *accumulate(len(group.completion_ids) for group in groups)][:-1]
