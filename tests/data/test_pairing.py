"""Pairs by named rules: what each rule makes, that ties give nothing, and that a pair remembers where it comes from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.pairing import RULES, PairRule, at_least, characters, make_pairs, pairs_of
from burnish.data.views import pair_view
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, EncodedGroup, Feedback, Group, Labels, Message, Preferences, Scores, Unjudged

NEEDED: dict[str, dict[str, Any]] = {
    "threshold": {"min_gap": 0.5},
    "strong_vs_weak": {"strong": ("big",), "weak": ("small",)},
}


def rule(name: str, **settings: Any) -> PairRule:
    return PairRule(name, **{**NEEDED.get(name, {}), **settings})


def group(feedback: Feedback, texts: str | list[str] = "abcdefgh", models: list[str | None] | None = None) -> Group:
    values = getattr(feedback, "values", None)
    texts = list(texts)[: len(values)] if values is not None else list(texts)
    names = models or [None] * len(texts)
    answers = tuple(Completion(t, m) for t, m in zip(texts, names, strict=True))
    return Group("p", answers, feedback, id="g7", source="src", where="f:7", tools=({"name": "t"},), meta={"a": 1})


def indices(made: tuple[Any, ...]) -> list[tuple[int, int]]:
    return [(p.winner, p.loser) for p in made]


scored = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=7).map(lambda v: Scores(tuple(v)))


@given(scored, st.sampled_from(["best_vs_worst", "all", "adjacent"]))
def test_the_rules_that_the_loop_has_too_agree_with_it(feedback: Scores, name: str) -> None:
    encoded = EncodedGroup("g", (1,), ((2,),) * len(feedback.values), (), feedback)
    assert pairs_of(group(feedback), rule(name)) == pair_view(encoded, name)


@given(scored, st.sampled_from(sorted(RULES)))
def test_no_tie_becomes_a_pair_and_the_better_wins(feedback: Scores, name: str) -> None:
    made = pairs_of(group(feedback), rule(name))
    assert len(set(made)) == len(made)
    if name != "strong_vs_weak":
        assert all(feedback.values[p.winner] > feedback.values[p.loser] for p in made)


@given(scored, st.sampled_from(["length_matched", "verifier_first"]), st.data())
def test_rules_of_length_use_an_answer_once(feedback: Scores, name: str, data: st.DataObject) -> None:
    count = len(feedback.values)
    lengths = data.draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
    made = pairs_of(group(feedback), rule(name, max_length_ratio=1.5), lengths)
    used = [k for p in made for k in (p.winner, p.loser)]
    assert len(set(used)) == len(used)
    for p in made:
        assert max(lengths[p.winner], lengths[p.loser]) <= 1.5 * min(lengths[p.winner], lengths[p.loser])


def test_threshold_takes_gaps_within_its_bounds_as_decimals() -> None:
    found = pairs_of(group(Scores((0.3, 0.1, 0.0))), rule("threshold", min_gap=0.2))
    assert indices(found) == [(0, 1), (0, 2)]  # 0.3 - 0.1 is 0.19999999999999998 in binary
    assert indices(pairs_of(group(Scores((0.3, 0.1, 0.0))), rule("threshold", min_gap=0.2, max_gap=0.2))) == [(0, 1)]
    assert not pairs_of(group(Scores((1.0, 1.0))), rule("threshold", min_gap=0.0))
    assert at_least(0.3 - 0.1, 0.2) and not at_least(0.19, 0.2)


def test_length_matched_gives_each_winner_the_nearest_worse_answer() -> None:
    scores, lengths = Scores((3.0, 2.0, 1.0, 0.0)), [100, 10, 11, 95]
    assert indices(pairs_of(group(scores), rule("length_matched"), lengths)) == [(1, 2), (0, 3)]
    assert indices(pairs_of(group(scores), rule("length_matched", max_pairs=1), lengths)) == [(1, 2)]
    assert pairs_of(group(scores), rule("length_matched", min_gap=2.0), lengths) == ((0, 3, 1.0),)
    assert not pairs_of(group(Scores((1.0, 0.0))), rule("length_matched"), [0, 5])
    assert pairs_of(group(Scores((1.0, 0.0))), rule("length_matched"), [0, 0])


def test_length_is_in_characters_where_none_is_given() -> None:
    made = pairs_of(group(Scores((2.0, 1.0, 0.0)), ["xxxx", "y", "zzzz"]), rule("length_matched"))
    assert indices(made) == [(0, 2)]
    assert characters("añ𝔘") == 3 and characters((Message("assistant", "ab"), Message("tool", "c"))) == 4
    with pytest.raises(DataError, match="f:7: 1 lengths for 2 completions"):
        pairs_of(group(Scores((1.0, 0.0))), rule("length_matched"), [1])


def test_verifier_first_matches_right_with_wrong() -> None:
    scores, lengths = Scores((1.0, 0.5, 1.0, 0.0)), [10, 90, 100, 12]
    assert indices(pairs_of(group(scores), rule("verifier_first"), lengths)) == [(0, 3), (2, 1)]
    assert indices(pairs_of(group(scores), rule("verifier_first", pass_mark=0.5, max_pairs=1), lengths)) == [(0, 3)]
    labels = Labels((True, False, True, False))
    assert indices(pairs_of(group(labels), rule("verifier_first"), lengths)) == [(0, 3), (2, 1)]


def test_strong_beats_weak_whatever_the_scores() -> None:
    models = ["small", "big", None, "small"]
    for feedback in (Scores((9.0, 0.0, 5.0, 0.0)), Unjudged()):
        given_group = group(feedback, "abcd", models)
        assert indices(pairs_of(given_group, rule("strong_vs_weak"))) == [(1, 0), (1, 3)]
    made = next(make_pairs([group(Scores((9.0, 0.0)), "ab", ["small", "big"])], rule("strong_vs_weak")))
    assert made.meta["score_gap"] == -9.0 and [c.model for c in made.completions] == ["big", "small"]


def test_labels_and_preferences_become_pairs_under_every_rule() -> None:
    for name in ("best_vs_worst", "all", "threshold", "adjacent"):
        assert indices(pairs_of(group(Labels((False, True, True))), rule(name))) == [(1, 0), (2, 0)]
        votes = Preferences(((2, 0, 1.0), (1, 0, 2.0), (2, 0, 0.5)))
        assert pairs_of(group(votes, "abc"), rule(name)) == ((2, 0, 1.5), (1, 0, 2.0))
    assert pairs_of(group(Preferences(((0, 1, 2.0), (1, 0, 1.0), (1, 0, 1.0))), "ab"), rule("all")) == ()
    assert pairs_of(group(Unjudged(), "ab"), rule("all")) == ()


def test_two_answers_that_say_the_same_are_no_pair() -> None:
    assert indices(pairs_of(group(Scores((2.0, 1.0, 0.0)), ["a", "b", "a"]), rule("all"))) == [(0, 1), (1, 2)]


def test_few_pairs_are_those_with_the_largest_gap() -> None:
    scores = Scores((5.0, 4.9, 0.0, 1.0))
    assert indices(pairs_of(group(scores), rule("all", max_pairs=2))) == [(0, 2), (1, 2)]
    votes = Preferences(((0, 1, 1.0), (0, 2, 3.0), (1, 2, 2.0)))
    assert indices(pairs_of(group(votes, "abc"), rule("all", max_pairs=2))) == [(0, 2), (1, 2)]


def test_a_pair_remembers_its_group() -> None:
    scored_group = group(Scores((0.0, 3.0, 1.0)), "abc", ["m0", "m1", None])
    made = list(make_pairs([scored_group, scored_group], rule("best_vs_worst")))
    assert made[0] == made[1]
    pair = made[0]
    assert pair.id == "g7#1-0" and pair.source == "src" and pair.where == "f:7" and pair.tools == scored_group.tools
    assert [c.messages for c in pair.completions] == ["b", "a"] and [c.model for c in pair.completions] == ["m1", "m0"]
    assert pair.feedback == Preferences(((0, 1, 1.0),), (3.0,))
    assert pair.meta == {"a": 1, "pair_rule": "best_vs_worst", "from": "g7", "score_gap": 3.0, "scores": [3.0, 0.0]}


def test_nothing_the_data_said_is_written_over() -> None:
    odd = Group("p", (Completion("a"), Completion("b")), Scores((1.0, 0.0)), meta={"from": "web", "scores": "n/a"})
    meta = next(make_pairs([odd], rule("all"))).meta
    assert meta["original_from"] == "web" and meta["original_scores"] == "n/a" and meta["from"] == ""


def test_pairs_stay_as_they_are() -> None:
    given_pair = group(Preferences(((1, 0, 1.0),)), "ab")
    assert list(make_pairs([given_pair], rule("all"))) == [given_pair]
    once = list(make_pairs([group(Scores((0.0, 3.0, 1.0)))], rule("all")))
    assert list(make_pairs(once, rule("adjacent"))) == once
    (bare,) = make_pairs([group(Preferences(((1, 0, 1.0),)), "abc")], rule("all"))
    assert bare.id == "g7#1-0" and "scores" not in bare.meta


def test_length_may_be_any_measure() -> None:
    texts = ["one two three", "a b c", "onetwothreexx"]
    made = make_pairs([group(Scores((2.0, 1.0, 0.0)), texts)], rule("length_matched"), lambda t: str(t).count(" "))
    assert [p.id for p in made] == ["g7#0-1"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "best_vs_wurst"}, "did you mean 'best_vs_worst'"),
        ({"name": "threshold"}, "'threshold' needs min_gap"),
        ({"name": "strong_vs_weak", "strong": ("a",)}, "needs weak"),
        ({"name": "strong_vs_weak", "strong": ("a",), "weak": ("b", "a")}, "a is named as strong and as weak"),
        ({"name": "all", "min_gap": 1.0}, "'all' does not look at min_gap; threshold and length_matched do"),
        ({"name": "threshold", "min_gap": 2.0, "max_gap": 1.0}, "no pair could pass"),
        ({"name": "threshold", "min_gap": -1.0}, "min_gap = -1.0: a finite number is wanted, >= 0"),
        ({"name": "verifier_first", "pass_mark": float("nan")}, "pass_mark = nan"),
        ({"name": "length_matched", "max_length_ratio": 0.5}, "1 or more"),
        ({"name": "all", "max_pairs": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PairRule(**settings)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_describes_itself_with_its_values(name: str) -> None:
    assert rule(name).describe().startswith(f"{name}: ")
    told = rule("length_matched", min_gap=1.0, max_pairs=3).describe()
    assert "at least 1" in told and "factor of 1.25" in told and "at most 3 a group" in told
    assert "correct from a score of 1" in rule("verifier_first").describe()
