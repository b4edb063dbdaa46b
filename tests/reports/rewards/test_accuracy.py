"""Accuracy and its slices by hand; spread and correlation with length; answers better than those of training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.audit.contrast import NEAR
from burnish.reports.rewards.accuracy import SIMILAR, accuracy
from burnish.reports.rewards.beyond import beyond_training
from burnish.reports.rewards.columns import Answers, PairMargins, credit
from burnish.reports.rewards.records import ScoredGroup
from burnish.reports.rewards.spread import length_correlation, spread, within_sd
from burnish.stats import clustered_mean, clustered_share
from tests.reports.rewards.world import group, world

GROUPS = [
    group({"a": (2.0, 1.0)}, [(0, 1, 1.0)], prompt="one", subset="x", lengths=(30, 10),
          answers=("yes it is", "yes it iz")),
    group({"a": (2.0, 1.0)}, [(1, 0, 2.0)], prompt="two", subset="x", lengths=(5, 5),
          answers=("green tea", "red wine")),
    group({"a": (1.0, 1.0)}, [(0, 1, 1.0)], prompt="three", subset="y", lengths=(10, 90),
          answers=("abcdefgh", "abcdexyz")),
    group({"a": (3.0, 2.0, 1.0)}, [(0, 1, 1.0), (0, 2, 1.0), (2, 1, 1.0)], prompt="One ", subset="x", source="t",
          lengths=(3, 3, 40), answers=("p", "q", "r")),
]  # fmt: skip


def columns(groups: list[ScoredGroup], *names: str) -> tuple[Answers, PairMargins]:
    answers = Answers.of(groups, names or ("a",))
    return answers, PairMargins.of(groups, answers)


def test_accuracy_by_hand() -> None:
    """sum w credit / sum w over six pairs, one of weight 2 (wrong) and one a tie; prompts that read alike are one."""
    _, pairs = columns(GROUPS)
    found = accuracy(GROUPS, pairs, probe=False)
    assert found is not None
    row = found["all"]
    assert row["pairs"] == 6 and row["prompts"] == 3
    assert row["by"]["a"]["value"] == pytest.approx((1 + 0 + 0.5 + 1 + 1 + 0) / 7)
    # longer: right in 1 of weight 1, equal (weight 2), wrong, equal, wrong, right
    assert row["longer"]["value"] == pytest.approx((1 + 2 / 2 + 0 + 0.5 + 0 + 1) / 7)
    share = clustered_share(
        np.array([1, 0, 0.5, 1, 1, 0]), np.array([0, 1, 2, 0, 0, 0]), np.array([1, 2, 1, 1, 1, 1.0])
    )
    assert (row["by"]["a"]["low"], row["by"]["a"]["high"]) == (share.low, share.high)


def test_slices_by_hand() -> None:
    _, pairs = columns(GROUPS)
    found = accuracy(GROUPS, pairs, probe=False)
    assert found is not None
    assert {row["name"]: (row["pairs"], row["by"]["a"]["value"]) for row in found["subsets"]} == {
        "x": (5, pytest.approx(3 / 6)), "y": (1, 0.5),
    }  # fmt: skip
    assert [row["name"] for row in found["sources"]] == ["s", "t"]
    mean = found["mean_over_subsets"]
    assert mean["name"] == "mean over subsets" and mean["subsets"] == 2 and mean["by"]["a"]["value"] == 0.5
    widths = [(row["by"]["a"]["high"] - row["by"]["a"]["low"]) / 2 for row in found["subsets"]]
    half = math.sqrt(sum(w * w for w in widths)) / 2
    assert mean["by"]["a"]["high"] == pytest.approx(min(1, 0.5 + half))


def test_a_source_that_is_a_subset_is_said_once() -> None:
    groups = [
        group({"a": (1.0, 0.0)}, [(0, 1, 1.0)], source=source, subset=subset)
        for source, subset in (("x", "x"), ("y", "y"), ("house", ""), ("bench", "z"))
    ]
    found = accuracy(groups, columns(groups)[1], probe=False)
    assert found is not None
    assert [row["name"] for row in found["subsets"]] == ["x", "y", "z"]
    assert [row["name"] for row in found["sources"]] == ["bench", "house"]


def test_bins_of_length_are_bounded_by_quantiles_and_named_truly() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.integers(-90, 91, 500)
    groups = [
        group({"a": (1.0, 0.0)}, [(0, 1, 1.0)], prompt=str(i), lengths=(100 + int(g), 100)) for i, g in enumerate(gaps)
    ]
    _, pairs = columns(groups)
    found = accuracy(groups, pairs, probe=False)
    assert found is not None
    a, b = (int(np.quantile(np.abs(gaps), q, method="nearest")) for q in (0.2, 0.6))
    assert {row["name"]: row["pairs"] for row in found["length"]} == {
        "much shorter": (gaps < -b).sum(), "shorter": ((gaps >= -b) & (gaps < -a)).sum(),
        "about equal": (np.abs(gaps) <= a).sum(), "longer": ((gaps > a) & (gaps <= b)).sum(),
        "much longer": (gaps > b).sum(),
    }  # fmt: skip
    assert found["length"][0]["bounds"] == f"by more than {b} tokens"
    assert all(75 < row["pairs"] < 125 for row in found["length"])  # balanced data fill the bins evenly


def test_bins_of_contrast() -> None:
    _, pairs = columns(GROUPS)
    found = accuracy(GROUPS, pairs, probe=False)
    assert found is not None and (NEAR, SIMILAR) == (0.1, 0.5)
    # insertions and deletions over both lengths: 2 / 18, 11 / 17, 6 / 16, and 1 for single letters
    assert {row["name"]: row["pairs"] for row in found["contrast"]} == {"similar": 2, "different": 4}
    same = [group({"a": (1.0, 0.0)}, [(0, 1, 1.0)], answers=("x" * 50, "x" * 49 + "y"))]
    _, pairs = columns(same)
    near = accuracy(same, pairs, probe=False)
    assert near is not None and near["contrast"][0]["name"] == "near-identical"


def test_against_length_is_the_difference_on_the_same_pairs() -> None:
    scored = world(60)
    groups = list(scored.groups)
    _, pairs = columns(groups, "rm-1")
    found = accuracy(groups, pairs, probe=False)
    assert found is not None
    alone = credit(pairs.gaps)
    sign = 1 if alone.mean() >= 0.5 else -1
    difference = clustered_mean(credit(pairs.margins["rm-1"]) - credit(sign * pairs.gaps), pairs.prompts, pairs.weights)
    row = found["against_length"]
    assert row["by"]["rm-1"] == {"value": difference.value, "low": difference.low, "high": difference.high}
    assert row["value"] >= 0.5 and row["prefers"] == ("longer" if sign > 0 else "shorter")


def test_against_length_by_hand_where_the_shorter_wins() -> None:
    """Weights 3, 1, 1: the shorter answer is right in 4/5; the scorer in 3/5; the difference is (0 - 1 + 0) / 5."""
    groups = [
        group({"a": rewards}, [(0, 1, weight)], prompt=str(weight) + str(rewards), lengths=lengths)
        for rewards, weight, lengths in (
            ((1.0, 0.0), 3.0, (2, 9)),
            ((0.0, 1.0), 1.0, (2, 9)),
            ((0.0, 1.0), 1.0, (9, 2)),
        )
    ]
    found = accuracy(groups, columns(groups)[1], probe=False)
    assert found is not None
    row = found["against_length"]
    assert (row["prefers"], row["value"]) == ("shorter", pytest.approx(0.8))
    assert row["by"]["a"]["value"] == pytest.approx(-0.2)


def test_the_bag_of_words_reads_the_same_pairs() -> None:
    rng = np.random.default_rng(1)
    groups = [
        group({"a": (float(i % 4 > 0), 0.0)}, [(0, 1, 1.0)], prompt=str(i),
              answers=(f"surely w{rng.integers(9)}", f"w{rng.integers(9)} no"))
        for i in range(100)
    ]  # fmt: skip
    _, pairs = columns(groups)
    found = accuracy(groups, pairs)
    assert found is not None and found["bag_of_words"]["value"] > 0.99
    assert found["bag_of_words"]["by"]["a"] == pytest.approx(0.75 + 0.25 / 2) and found["bag_of_words"]["pairs"] == 100
    few = accuracy(groups[:20], columns(groups[:20])[1])
    assert few is not None and few["bag_of_words"] is None


def test_the_bag_of_words_reads_a_sample_of_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.reports.rewards.accuracy.SAMPLE", 80)
    scored = world(90, paired=1.0)
    groups = list(scored.groups)
    found = accuracy(groups, columns(groups, "rm-1")[1])
    assert found is not None and found["all"]["pairs"] == 90 and found["bag_of_words"]["pairs"] == 80


def test_spread_by_hand() -> None:
    groups = [
        group({"a": (1.0, 3.0), "b": (5.0, 5.0)}, prompt="one", lengths=(1, 2)),
        group({"a": (6.0, 6.0), "b": (0.0, 1.0)}, prompt="two", lengths=(4, 2)),
        group({"a": (9.0,), "b": (7.0,)}, prompt="three"),
    ]
    answers, _ = columns(groups, "a", "b")
    found = spread(answers, levels={"a": True, "b": False})
    whole = np.var([1, 3, 6, 6, 9]) * 5
    assert found["a"] == {"sd": math.sqrt(2 / 2), "share": pytest.approx(2 / whole), "flat": 0.5}
    assert found["b"]["share"] is None  # an implicit reward's level is unknown
    assert within_sd(answers.rewards["b"], answers) == pytest.approx(math.sqrt(0.5 / 2))


def test_a_reward_for_length_is_found_within_prompts() -> None:
    scored = world(80)
    names = [scorer.name for scorer in scored.scorers]
    answers, _ = columns(list(scored.groups), *names)
    found = length_correlation(answers)
    assert found["by"]["rm-2"]["low"] > 0.6 and found["by"]["policy"]["high"] < 0
    assert 0.15 < found["gold"]["value"] < 0.45
    shifted = {k: v + 100 * answers.prompts for k, v in answers.rewards.items()}  # levels of prompts do not matter
    moved = Answers(answers.prompts, answers.groups, answers.lengths, answers.gold, shifted)
    assert length_correlation(moved)["by"]["rm-2"]["value"] == pytest.approx(found["by"]["rm-2"]["value"])


def test_answers_better_than_those_of_training() -> None:
    groups = [
        group({"a": (2.0, 1.0)}, [(0, 1, 1.0)], gold=(9.0, 8.0), prompt="good"),
        group({"a": (1.0, 2.0)}, [(0, 1, 1.0)], gold=(9.0, 2.0), prompt="mixed"),
        group({"a": (2.0, 1.0)}, [(0, 1, 1.0)], gold=(7.0, 6.0), prompt="edge"),
        group({"a": (1.0, 2.0)}, [(0, 1, 1.0)], prompt="unknown"),
    ]
    answers, pairs = columns(groups)
    found = beyond_training(answers, pairs, [5.0, 6.0, 8.0])
    assert found["trained_on"] == {"answers": 3, "mean": pytest.approx(19 / 3), "quartiles": [5.5, 6.0, 7.0]}
    assert [(r["name"], r["pairs"], r["by"]["a"]["value"]) for r in found["rows"]] == [
        ("both at or above the median", 2, 1.0),
        ("the rest", 1, 0.0),
    ]
    assert "training data (--trained-on) there are no gold" in beyond_training(answers, pairs, None)["message"]
    assert "of one kind: the rest" in beyond_training(answers, pairs, [50.0])["message"]
    bare = columns([group({"a": (2.0, 1.0)}, [(0, 1, 1.0)])])
    assert "held out have no gold" in beyond_training(*bare, [5.0])["message"]
