"""Edits of form and what a scorer makes of them; ensembles and their disagreement."""

from __future__ import annotations

import time

import numpy as np
import pytest

from burnish.answers.judges.ensemble import combine, moments
from burnish.errors import ConfigError
from burnish.reports.rewards.columns import Answers, PairMargins
from burnish.reports.rewards.ensemble import disagreement
from burnish.reports.rewards.probes import LIST, PROBES, SORRY, probed
from burnish.reports.rewards.records import Scorer
from burnish.reports.rewards.spread import within_sd
from burnish.stats import clustered_mean
from tests.reports.rewards.world import group, world

EDITED = {
    "list padding": {"Yes. \n": f"Yes.{LIST}", " ": None},
    "trailing apology": {"Yes.\n": f"Yes.\n\n{SORRY}", "": None},
    "sentence repeated": {
        "One. Two is 3.5 kg.": "One. Two is 3.5 kg. Two is 3.5 kg.",
        'He said "go."\n': 'He said "go." He said "go."',
        "\u4eca\u5929\u597d\u3002\u6211\u53bb\u3002": "\u4eca\u5929\u597d\u3002\u6211\u53bb\u3002\u6211\u53bb\u3002",
        "a\nb!": "a\nb! b!", "no stop": None, "...": None, "```\ncode.": None,
    },
    "markdown stripped": {
        "# T\n\n- a **b**\n* *c* `d` [e](http://x)\n> q": "T\n\na b\nc d e\nq",
        "```py\n# x = 2**3**4\n```\n**Done.**": "# x = 2**3**4\nDone.",
        "2*3*4, snake_case and `unclosed": None, "plain": None, "```\n```": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("probe", PROBES)
def test_edits(probe: str) -> None:
    assert {text: PROBES[probe](text) for text in EDITED[probe]} == EDITED[probe]


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "*a" * 50_000, "**" * 50_000, "`" * 50_001, "word " * 20_000, ". " * 50_000]
)
def test_edits_of_long_texts_take_no_time(text: str) -> None:
    began = time.perf_counter()
    for edit in PROBES.values():
        edit(text)
    assert time.perf_counter() - began < 2


def test_shift_and_flips_by_hand() -> None:
    """Of three pairs ranked right, the edited loser overtakes in one and ties in one; the fourth was wrong before."""
    rewards = [(2.0, 1.0), (2.0, 1.0), (2.0, 0.0), (0.0, 1.0)]
    edited: list[tuple[float | None, ...]] = [(None, 3.0), (2.5, 2.0), (None, 0.5), (0.0, 0.0)]
    groups = [group({"a": r}, [(0, 1, 1.0)], prompt=str(i)) for i, r in enumerate(rewards)]
    answers = Answers.of(groups, ["a"])
    row = probed(answers, PairMargins.of(groups, answers), {"p": {"a": edited}})["p"]["a"]
    assert row["pairs"] == 3 and row["flips"]["value"] == pytest.approx(1.5 / 3) and row["answers"] == 6
    sd = within_sd(answers.rewards["a"], answers)
    shifts = np.array([2.0, 0.5, 1.0, 0.5, 0.0, -1.0]) / sd
    mean = clustered_mean(shifts, np.array([0, 1, 1, 2, 3, 3]))
    assert row["shift"] == pytest.approx({"value": mean.value, "low": mean.low, "high": mean.high})


def test_a_probe_that_applies_nowhere_says_nothing() -> None:
    groups = [group({"a": (2.0, 1.0)}, [(0, 1, 1.0)])]
    answers = Answers.of(groups, ["a"])
    row = probed(answers, PairMargins.of(groups, answers), {"p": {"a": [(None, None)]}})["p"]["a"]
    assert row == {"answers": 0, "shift": None, "pairs": 0, "flips": None}


def test_ensembles_by_hand() -> None:
    """z = (r - mean) / sd: members (1, 3) and (40, 20) become (-1, 1) and (2, 0)."""
    rewards = [[1.0, 3.0], [40.0, 20.0]]
    known = {"means": [2.0, 20.0], "sds": [1.0, 10.0]}
    assert combine(rewards, "mean", **known) == [0.5, 0.5]
    assert combine(rewards, "worst", **known) == [-1.0, 0.0]
    # variance over members: (-1, 2) has 2.25, (1, 0) has .25
    assert combine(rewards, "uncertainty", coef=0.4, **known) == pytest.approx([0.5 - 0.4 * 2.25, 0.5 - 0.4 * 0.25])
    assert combine([[1.0, 3.0]], "worst", means=[0.0], sds=[1.0]) == [1.0, 3.0]
    assert moments([[1.0, 3.0], [10.0, 40.0]]) == ([2.0, 25.0], [1.0, 15.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "uncertainty"}, "needs the coefficient"), ({"coef": 1.0}, "takes no"),
        ({"means": [0.0]}, "1 means"), ({"sds": [1.0, 0.0]}, "no spread"), ({"rewards": []}, "0 members"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_refused(change: dict[str, object], message: str) -> None:
    whole = {"rewards": [[1.0], [2.0]], "how": "mean", "means": [0.0, 0.0], "sds": [1.0, 1.0], **change}
    with pytest.raises(ConfigError, match=message):
        combine(whole.pop("rewards"), whole.pop("how"), **whole)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="member 2"):
        moments([[1.0, 2.0], [3.0, 3.0]])


def test_disagreement_by_hand() -> None:
    rewards = {"a": (1.0, -1.0, 1.0, -1.0), "b": (1.0, -1.0, -1.0, 1.0), "both": (2.0, -2.0, 0.0, 0.0)}
    groups = [group(rewards, [(0, 1, 1.0), (2, 3, 3.0)])]
    answers = Answers.of(groups, list(rewards))
    both = Scorer("both", "ensemble", members=("a", "b"))
    found = disagreement(answers, PairMargins.of(groups, answers), [both])["both"]
    assert found["sd"] == 0.5  # members agree on two answers, and stand at +-1 on two
    assert found["split"] == 3 / 4  # by weight: they disagree about the pair of weight 3
    assert [(r["pairs"], r["disagreement"], r["value"]) for r in found["bins"]] == [(1, 0.0, 1.0), (1, 2.0, 0.5)]


def test_members_that_disagree_are_right_less_often() -> None:
    scored = world(300, paired=0.0)
    answers = Answers.of(scored.groups, [scorer.name for scorer in scored.scorers])
    found = disagreement(answers, PairMargins.of(scored.groups, answers), scored.scorers)
    assert list(found) == ["worst of 3"]
    bins = found["worst of 3"]["bins"]
    assert bins[0]["value"] > bins[-1]["value"] + 0.05 and sum(row["pairs"] for row in bins) == 1200


def test_a_member_without_spread_is_named() -> None:
    groups = [group({"a": (1.0, 2.0), "b": (3.0, 3.0), "e": (1.0, 2.0)}, [(0, 1, 1.0)])]
    answers = Answers.of(groups, ["a", "b", "e"])
    found = disagreement(answers, PairMargins.of(groups, answers), [Scorer("e", "ensemble", members=("a", "b"))])
    assert found["e"]["message"].startswith("b gives every answer the same reward")
