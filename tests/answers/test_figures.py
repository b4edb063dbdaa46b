"""What fresh answers say: formulas on small examples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from burnish.answers.answered import Answered, Measured
from burnish.answers.figures import agreement, figures, mismatch, rewards
from burnish.data.prompts import Prompt
from burnish.group import EncodedGroup, Feedback, Group, Scores, Unjudged


def answers(*ids: Sequence[int], ended: Sequence[bool] | None = None) -> EncodedGroup:
    flags = tuple(ended) if ended is not None else (True,) * len(ids)
    return EncodedGroup("g", (0,), tuple(map(tuple, ids)), flags, Scores((0.0,) * len(ids)))


def answered(
    group: EncodedGroup, feedback: Feedback, gold: Feedback | None = None, kl: Sequence[float] = (),
    entropy: Sequence[float] = (),
) -> Answered:  # fmt: skip
    measured = Measured((), kl=tuple(kl), entropy=tuple(entropy))
    return Answered(Prompt("q", (0,)), Group("q", ()), group, feedback, gold, measured)


def test_figures_are_means_over_answers_and_prompts() -> None:
    seen = [
        answered(answers((1, 2), (1, 2), (3,), ended=(True, True, False)), Scores((1.0, 0.0, 2.0)),
             Scores((0.0, 0.0, 1.0)), (0.5, 0.5, 0.2), (1.0, 1.0, 0.5)),
        answered(answers((4, 4, 4), (5,)), Scores((3.0, 3.0)), Scores((1.0, 0.0)), (0.3, 0.1), (2.0, 1.0)),
    ]  # fmt: skip
    found = figures(seen)
    assert found["answers"] == 5 and found["length"] == 9 / 5 and found["finished"] == 4 / 5
    assert found["distinct"] == (2 / 3 + 1) / 2
    assert found["reward"] == 9 / 5 and found["no_signal"] == 1 / 2
    assert found["reward/spread"] == pytest.approx(math.sqrt(2 / 3) / 2)
    assert found["kl/answer"] == pytest.approx(1.6 / 5) and found["kl/token"] == pytest.approx(1.6 / 9)
    assert found["entropy/token"] == pytest.approx(5.5 / 9)
    assert found["gold"] == pytest.approx(2 / 5)
    # gold prefers (2 over 0), (2 over 1), and (0 over 1) of the second; the judge agrees, agrees, and ties
    assert found["judge_pairs"] == 3 and found["judge_accuracy"] == pytest.approx(2.5 / 3)


def test_what_has_no_basis_is_left_out() -> None:
    found = figures([answered(answers((1,)), Unjudged("down"))])
    assert found["unjudged"] == 1 and not {"reward", "gold", "judge_accuracy", "kl/answer"} & set(found)
    assert agreement([Scores((1.0, 2.0))], [Scores((1.0, 1.0))]) == {}
    assert mismatch([], []) == {}


def test_parts_of_a_reward_have_means_of_their_own() -> None:
    told = [
        Scores((1.0, 2.0), {"a": (0.0, 1.0), "b": (1.0, 1.0)}),
        Scores((0.0, 0.0), {"a": (0.0, 0.0), "b": (0.5, 0.5)}),
    ]
    found = rewards(told)
    assert found["reward/a"] == 1 / 4 and found["reward/b"] == 3 / 4


def test_mismatch_is_a_difference_and_a_ratio() -> None:
    found = mismatch([(-1.0, -2.0)], [(-1.5, -2.0)])
    assert found == {"mismatch/mean": 0.25, "mismatch/max_ratio": pytest.approx(math.exp(0.5))}
