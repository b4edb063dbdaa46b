"""The end of a run in words and pictures, made from its records alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.reports import charts, refreshes, run
from burnish.runlog.log import RunLog
from burnish.runlog.records import AlarmRecord, EvalRecord, RefreshRecord, StepRecord


def steps(count: int, chosen: float, rejected: float, *, start: float = 0.0, **more: float) -> list[StepRecord]:
    """Log-ratios that go evenly from `start` to these beyond it."""
    records = []
    for i in range(count):
        share = i / max(1, count - 1)
        metrics = {"logratio/chosen": start + chosen * share, "logratio/rejected": start + rejected * share}
        metrics |= {"rewards/margins": 0.1 * (chosen - rejected) * share, "rewards/accuracies": 0.5 + 0.2 * share}
        metrics |= {"length/longer_wins": 0.5, **more}
        loss = 0.69 - 0.1 * share
        records.append(StepRecord(step=i + 1, loss=loss, tokens=10, seconds=0.5, groups=4, metrics=metrics))
    return records


@pytest.mark.parametrize(
    ("chosen", "rejected", "text"),
    [
        (-3.0, -11.2, "chosen answers lost 3.00 nats, rejected lost 11.20 nats: this is normal"),
        (4.0, 1.0, "both rose"),
        (2.0, -1.0, "the two sides parted"),
        (-2.0, -1.0, "the ranking got worse"),
        (1.0, 2.0, "the ranking got worse"),
        (0.01, -0.01, "hardly left its reference"),
        (5.0, 4.99, "the margin hardly moved: optim.lr is likely too low"),
    ],
)  # fmt: skip
def test_the_summary_says_in_words_what_moved(chosen: float, rejected: float, text: str) -> None:
    assert text in run.words(steps(10, chosen, rejected), [])


def test_a_reference_that_is_another_model_is_measured_from_where_the_run_began() -> None:
    records = steps(10, -1.0, -2.0, start=-50.0)
    assert "chosen answers lost 1.00 nats, rejected lost 2.00 nats" in run.words(records, [])


def test_signs_of_data_that_teaches_something_else() -> None:
    text = run.words(steps(40, -1.0, -9.0, **{"rewards/accuracies": 1.0, "length/longer_wins": 0.9}), [])
    assert "something trivial separates the sides" in text
    assert "the longer answer is the chosen one in 90% of the pairs" in text
    assert "trivial" not in run.words(steps(40, -1.0, -9.0), [])


def test_summary_and_picture_come_from_the_log_alone(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for record in steps(5, -1.0, -2.0):
            log.write(record)
        log.write(EvalRecord(step=5, loss=math.nan, groups=7))
    text = run.write_summary(tmp_path)
    assert "5 steps, 50 tokens, 2.5 s" in text and "held out (7 groups): loss nan" in text
    assert (tmp_path / "summary.txt").read_text() == text
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_reference_log_probs_are_written_and_drawn_never_invented_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[list[float]] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **kw: (drawn.append(y), plot(self, x, y, **kw))[1])
    records = []
    for record, chosen in zip(steps(3, 0.0, 0.0), (-1.0, -1.25, -1.5), strict=True):
        kept = {name: value for name, value in record.metrics.items() if not name.startswith("logratio/")}
        levels = {"logps/chosen_per_token": chosen, "logps/rejected_per_token": chosen - 1}
        records.append(replace(record, metrics=kept | levels))
    text = run.words(records, [])
    assert "chosen answers -1.000 -> -1.500 nats a token, rejected answers -2.000 -> -2.500 nats a token" in text
    charts.draw_steps(records, tmp_path / "picture.png")
    assert drawn[:2] == [[-1.0, -1.25, -1.5], [-2.0, -2.25, -2.5]]


def test_imitation_has_one_side() -> None:
    first, second = (
        StepRecord(step=i + 1, loss=-level, tokens=5, seconds=0.1, metrics={"logps/chosen_per_token": level})
        for i, level in enumerate((-2.0, -1.5))
    )
    text = run.words([first, second], [])
    assert "chosen answers -2.000 -> -1.500 nats a token (no reference" in text and "rejected" not in text


def test_steps_without_a_group_cost_time_and_say_nothing() -> None:
    """A run with fresh answers has such steps anywhere, the last one among them; they hold no metrics."""
    records = steps(10, -1.0, -3.0)
    empty = StepRecord(step=11, loss=0.0, tokens=0, seconds=2.0, groups=0)
    plain, mixed = run.words(records, []).splitlines(), run.words([empty, *records, empty], []).splitlines()
    assert plain[1] == "10 steps, 100 tokens, 5.0 s" and mixed[1] == "12 steps, 100 tokens, 9.0 s"
    assert mixed[2:] == plain[2:] and plain[2] == "loss 0.6900 -> 0.5900"
    assert run.words([empty], []) == "\n1 step, 0 tokens, 2.0 s\nno step had a group to learn from"
    assert run.words([], []) == "no step was made"


def refreshed(count: int, **last: float) -> list[RefreshRecord]:
    """Refreshes whose every metric goes evenly from 0 to its last value."""
    return [
        RefreshRecord(step=i + 1, metrics={name: value * i / (count - 1) for name, value in last.items()})
        for i in range(count)
    ]


def test_refreshes_are_told_by_their_first_and_last_tenth() -> None:
    records = refreshed(20, reward=19.0, length=38.0, **{"seconds/sampling": 2.0})
    records[0] = RefreshRecord(step=1, metrics={"reward": math.nan, "length": 0.0})
    assert refreshes.words(records) == [
        "own answers, first and last tenth of 20 refreshes: reward 1 -> 18.5, length 1 -> 37 tokens",
        f"a refresh took {sum(2.0 * i / 19 for i in range(1, 20)) / 19:.3g} s sampling",
    ]
    assert refreshes.words([]) == []
    assert refreshes.words(records[5:6])[0] == "own answers, the one refresh: reward 5 -> 5, length 10 -> 10 tokens"


def test_prompts_without_signal_are_said_above_four_fifths() -> None:
    assert "in 81% of the prompts" in "".join(refreshes.words([RefreshRecord(step=1, metrics={"no_signal": 0.81})]))
    assert "nothing to learn" not in "".join(refreshes.words([RefreshRecord(step=1, metrics={"no_signal": 0.8})]))


def test_the_summary_of_a_run_with_fresh_answers_has_a_picture_of_them(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for record in refreshed(3, reward=1.0, gold=0.5):
            log.write(record)
            log.write(
                StepRecord(step=record.step, loss=0.1, tokens=10, seconds=0.5, groups=2, metrics={"kl/mean": 0.1})
            )
        log.write(AlarmRecord(step=3, name="kl", text="far"))
    text = run.write_summary(tmp_path)
    assert "own answers, first and last tenth of 3 refreshes: reward 0 -> 1, gold 0 -> 0.5\n" in text
    assert (tmp_path / "answers.png").read_bytes().startswith(b"\x89PNG") and not (tmp_path / "summary.png").exists()


def test_movement_below_noise_is_not_praised() -> None:
    text = run.words(steps(2, 0.1, -0.1), [])
    assert "hardly left its reference after 2 steps" in text and "published runs move them by" in text
    assert "what the objective asks for" not in text
