"""Feedback as objectives see it: pairs by named rules, winners to imitate, and the sentence where neither is there."""

from __future__ import annotations

import pytest

from burnish.data.views import keep_used, missing_feedback, pair_view, single_view, usable, winner_view
from burnish.group import Completion, EncodedGroup, Feedback, Group, Labels, Preferences, Scores, Unjudged


def group(feedback: Feedback, count: int = 3) -> EncodedGroup:
    return EncodedGroup("g", (1,), ((2,),) * count, (True,) * count, feedback, where="file:7")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("best_vs_worst", {(2, 0)}), ("all", {(2, 1), (2, 0), (1, 0)}), ("adjacent", {(2, 1), (1, 0)})],
)
def test_scores_become_pairs_by_rule(rule: str, expected: set[tuple[int, int]]) -> None:
    found = pair_view(group(Scores((0.0, 1.0, 2.0))), rule)
    assert {(w, l) for w, l, _ in found} == expected and all(weight == 1.0 for *_, weight in found)


@pytest.mark.parametrize("rule", ["best_vs_worst", "all", "adjacent"])
def test_ties_give_no_pair(rule: str) -> None:
    assert pair_view(group(Scores((1.0, 1.0, 1.0))), rule) == ()
    assert all((w, l) not in {(0, 1), (1, 0)} for w, l, _ in pair_view(group(Scores((1.0, 1.0, 0.0))), rule))


def test_preferences_pass_as_they_are() -> None:
    given = ((1, 0, 2.0), (1, 2, 1.0))
    assert pair_view(group(Preferences(given)), "all") == given
    assert winner_view(group(Preferences(given))) == (1,)


def test_only_good_answers_are_imitated() -> None:
    assert winner_view(group(Labels((False, True, True)))) == (1, 2)
    assert single_view(group(Labels((False, True, True)))) == ((0, False), (1, True), (2, True))
    assert winner_view(group(Scores((0.0, 3.0, 1.0)))) == (1,)
    assert winner_view(group(Unjudged())) == (0, 1, 2)
    assert not usable(group(Labels((False,) * 3)), ["winners"])


def test_the_refusal_names_the_row_and_what_it_has() -> None:
    assert missing_feedback([group(Scores((0.0, 1.0, 2.0)))], "pairs", "dpo") is None
    assert missing_feedback([group(Labels((True,)), 1)], "winners", "sft") is None
    told = missing_feedback([group(Labels((True,)), 1)], "pairs", "dpo")
    assert told and "file:7" in told and "1 completion with a yes/no label" in told and "`kto`" in told
    assert "no judgement" in str(missing_feedback([group(Unjudged())], "pairs", "dpo"))


def test_answers_nobody_looks_at_are_set_aside() -> None:
    answers = tuple(Completion(text) for text in "abcd")
    scored = Group("p", answers, Scores((2.0, 0.0, 3.0, 1.0)))
    kept = keep_used(scored, ["pairs"])
    assert [c.messages for c in kept.completions] == ["b", "c"] and kept.feedback == Preferences(((1, 0, 1.0),), (3.0,))
    assert [c.messages for c in keep_used(scored, ["winners"]).completions] == ["c"]
