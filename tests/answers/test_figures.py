"""What fresh answers say, and when it should stop a reader: formulas on small examples, alarms on made-up runs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from burnish.answers.answered import Answered, Measured
from burnish.answers.figures import agreement, figures, mismatch, rewards
from burnish.config import StopConfig
from burnish.data.prompts import Prompt
from burnish.group import EncodedGroup, Feedback, Group, Scores, Unjudged
from burnish.loop.alarms import Alarms


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


def hear(limits: StopConfig, runs: dict[str, Sequence[float]]) -> list[tuple[int, str]]:
    alarms = Alarms(limits)
    count = len(next(iter(runs.values())))
    heard = [(at, alarms.hear({name: values[at] for name, values in runs.items()})) for at in range(count)]
    return [(at, alarm.name) for at, found in heard for alarm in found]


def noisy(level: Sequence[float], spread: float = 0.02) -> list[float]:
    draw = random.Random(0)
    return [value + draw.gauss(0, spread) for value in level]


def test_nothing_rings_while_all_is_well() -> None:
    rising = [0.5 + 0.005 * t for t in range(80)]
    found = hear(StopConfig(), {
        "reward": noisy(rising), "gold": noisy(rising), "kl/answer": [0.05 * t for t in range(80)],
        "length": noisy([20.0] * 80, 1.0), "distinct": noisy([0.9] * 80),
    })  # fmt: skip
    assert found == []


def test_each_alarm_rings_once_and_when_it_should() -> None:
    kl = [0.0] * 20 + [20.0] * 30
    assert hear(StopConfig(kl=10.0), {"kl/answer": kl}) == [(25, "kl")]  # six of ten at 20: a mean of 12
    assert hear(StopConfig(), {"length": [10.0] * 10 + [16.0] * 20}) == [(18, "length")]
    assert [name for _, name in hear(StopConfig(), {"length": [10.0] * 10 + [5.0] * 20})] == ["length"]
    assert [name for _, name in hear(StopConfig(), {"distinct": [1.0] * 10 + [0.2] * 20})] == ["distinct"]
    again = [0.0] * 10 + [20.0] * 20 + [0.0] * 20 + [20.0] * 20
    assert [name for _, name in hear(StopConfig(kl=10.0), {"kl/answer": again})] == ["kl", "kl"]


def test_gold_that_falls_while_the_reward_rises_rings() -> None:
    rising = [0.01 * t for t in range(60)]
    falling = [1 - 0.01 * t for t in range(60)]
    found = hear(StopConfig(), {"reward": noisy(rising), "gold": noisy(falling)})
    assert found and found[0][1] == "gold" and found[0][0] >= 29
    assert hear(StopConfig(), {"reward": noisy([0.5] * 60), "gold": noisy(falling)}) == []  # no rise, no alarm


def test_a_state_goes_on_as_before() -> None:
    whole, broken = Alarms(StopConfig(kl=1.0)), Alarms(StopConfig(kl=1.0))
    for at in range(12):
        whole.hear({"kl/answer": at / 4}), broken.hear({"kl/answer": at / 4})
    resumed = Alarms(StopConfig(kl=1.0))
    resumed.restore(broken.state())
    assert [whole.hear({"kl/answer": 5.0}) for _ in range(3)] == [resumed.hear({"kl/answer": 5.0}) for _ in range(3)]
    assert whole.level() == resumed.level()


def test_three_refreshes_without_signal_are_said_once_with_the_likely_cause() -> None:
    alarms = Alarms(StopConfig())
    flat = {"no_signal": 1.0, "finished": 0.0, "reward": 0.0}
    rung = [alarm for _ in range(6) for alarm in alarms.hear(flat)]
    assert [alarm.name for alarm in rung] == ["no_signal", "finished"]
    assert "raise source.max_new_tokens" in rung[0].line
    whole = Alarms(StopConfig())
    (alarm,) = [alarm for _ in range(3) for alarm in whole.hear(flat | {"finished": 1.0})]
    assert "too hard or too easy" in alarm.line
    assert not [
        alarm for _ in range(9) for alarm in Alarms(StopConfig()).hear(flat | {"no_signal": 0.5, "finished": 0.1})
    ]
