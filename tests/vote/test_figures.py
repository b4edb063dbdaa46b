"""The organiser's figures: each is the formula of the votes, whatever side they were cast on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from burnish.stats import krippendorff, predicted_win_rate, sequential
from burnish.vote import report
from burnish.vote.asking import next_task
from burnish.vote.figures import figures
from burnish.vote.records import BallotPair, Choice, Reply
from burnish.vote.store import Ballot, create
from burnish.vote.words import words
from tests.vote.pages import ballot_of
from tests.vote.test_asking import rater


def cast(ballot: Ballot, name: str, wishes: Mapping[str, str]) -> None:
    """Vote on every pair as `wishes` has it, by prompt: a, b, tie or both_bad."""
    who = rater(ballot, name)
    with ballot.reading() as db:
        texts = {row["answer_a"]: (row["prompt"], "a") for row in db.execute("SELECT * FROM pairs")}
        texts |= {row["answer_b"]: (row["prompt"], "b") for row in db.execute("SELECT * FROM pairs")}
    while (task := next_task(ballot, who)) is not None:
        prompt, side = texts[task.left]
        wish = wishes[prompt]
        choice: Choice = (
            "tie" if wish == "tie" else "both_bad" if wish == "both_bad" else "left" if wish == side else "right"
        )
        ballot.vote(who, Reply(task.id, choice, seconds=2.0))


def told(ballot: Ballot) -> str:
    out = io.StringIO()
    report.print_figures(figures(ballot), Console(file=out, width=400, highlight=False))
    return out.getvalue()


def wishes(count: int, kinds: Sequence[str]) -> dict[str, str]:
    return {f"p{i}": kinds[i % len(kinds)] for i in range(count)}


def test_a_win_rate_is_the_share_of_b_with_ties_as_halves(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, [(f"one {i}", f"other {i}") for i in range(20)])
    cast(ballot, "ann", wishes(20, ["b", "b", "b", "a", "tie"]))
    (row,) = figures(ballot)["comparisons"]
    assert row["model"] == "yak-13b" and row["against"] == "zebra-7b"
    assert row["chosen"] == {"yak-13b": 12, "zebra-7b": 4, "tie": 4}
    assert row["anytime"]["value"][0] == row["wins"]["raw"][0] == pytest.approx(14 / 20)
    order = [1 - vote.outcome for vote in ballot.votes()]
    expected = sequential(np.array(order))
    assert row["anytime"]["value"][1:] == [expected.low, expected.high] and row["anytime"]["prompts"] == 20
    text = told(ballot)
    assert "20 votes by 1 rater on 20 prompts" in text and "yak-13b wins 70%" in text


def test_a_prompt_counts_once_when_all_its_votes_are_there(tmp_path: Path) -> None:
    """With an overlap of two, one rater's votes alone are no outcome; two people's are one, their mean."""
    ballot = ballot_of(tmp_path, [(f"one {i}", f"other {i}") for i in range(8)], overlap=2)
    cast(ballot, "ann", wishes(8, ["b"]))
    (row,) = figures(ballot)["comparisons"]
    assert row["votes"] == 8 and row["anytime"]["prompts"] == 0
    cast(ballot, "bo", wishes(8, ["a", "b"]))
    found = figures(ballot)
    (row,) = found["comparisons"]
    assert row["votes"] == 16 and row["anytime"]["prompts"] == 8
    assert row["anytime"]["value"][0] == pytest.approx(0.75)
    assert row["raters"]["ann"]["value"][0] == 1.0 and row["raters"]["bo"]["value"][0] == 0.5
    items = [{"ann": 0.0, "bo": float(i % 2 == 0)} for i in range(8)]
    assert found["agreement"]["alpha"][0] == pytest.approx(krippendorff(items).alpha)


def test_alike_answers_are_ties_once_the_asking_has_passed_them(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, [("same", "same"), ("one", "other"), ("x", "x ")])
    cast(ballot, "ann", {"p1": "b"})
    found = figures(ballot)
    assert found["alike"] == 2 and found["votes"] == 1
    assert found["comparisons"][0]["anytime"]["value"][0] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert "2 pairs of 3 are alike" in told(ballot)


def test_steadiness_and_sides_are_of_the_sides_as_they_were_shown(tmp_path: Path) -> None:
    """A rater who always takes the left contradicts every vote that comes again, and is told to lean left."""
    ballot = ballot_of(tmp_path, [(f"one {i}", f"other {i}") for i in range(40)], repeats=0.25)
    who = rater(ballot, "ann")
    while (task := next_task(ballot, who)) is not None:
        ballot.vote(who, Reply(task.id, "left"))
    found = figures(ballot)
    assert found["repeats"] == 10 and found["votes"] == 40
    assert found["steady"]["same"][0] == 0.0 and found["steady"]["same_side"] == 10
    assert found["sides"][0] == 1.0 and found["comparisons"][0]["wins"]["raw"][0] == 0.5
    assert "the left was taken in 100%" in told(ballot)


def test_answers_that_name_their_maker_can_be_left_out(tmp_path: Path) -> None:
    answers = [("As Qwen, I say yes.", "no"), *((f"one {i}", f"other {i}") for i in range(9))]
    ballot = ballot_of(tmp_path, answers)
    cast(ballot, "ann", wishes(10, ["a", *["b"] * 9]))
    assert figures(ballot)["named"] == 1 and "--without-named" in told(ballot)
    without = figures(ballot, without_named=True)
    assert without["votes"] == 9 and without["comparisons"][0]["wins"]["raw"][0] == 1.0


def test_several_models_are_ranked(tmp_path: Path) -> None:
    names = ("low", "mid", "top")
    pairs = [
        BallotPair(f"p{i}", f"prompt {i}", a, b, f"{names[a]} {i} {b}", f"{names[b]} {i} {a}")
        for i in range(12) for a, b in ((0, 1), (0, 2), (1, 2))
    ]  # fmt: skip
    settings = {"overlap": 1, "repeats": 0.0, "width": 0.1, "reasons": [], "raters": []}
    ballot = create(tmp_path / "three.db", names, pairs, settings)
    cast(ballot, "ann", wishes(12, ["b", "b", "b", "a"]))
    found = figures(ballot)
    assert [row["model"] for row in found["ranking"]] == ["top", "mid", "low"]
    assert found["ranking"][2]["ability"] == [0.0, 0.0, 0.0] and len(found["comparisons"]) == 3
    assert "Bradley-Terry" in " ".join(words(found)) and "top" in report.page(found, "three")


def test_people_and_judge_together(tmp_path: Path) -> None:
    """The combined rate is `predicted_win_rate` of the judge's outcomes for b, with votes where there are any."""
    verdicts = [0.0 if i % 4 else 1.0 for i in range(30)]  # a's outcome: b wins three of four
    pairs = [BallotPair(f"p{i}", f"prompt {i}", 0, 1, f"one {i}", f"other {i}", v) for i, v in enumerate(verdicts)]
    settings = {"overlap": 1, "repeats": 0.0, "width": 0.1, "reasons": [], "raters": []}
    ballot = create(tmp_path / "judged.db", ("base", "tuned"), pairs, settings)
    who = rater(ballot, "ann")
    for _ in range(12):
        task = next_task(ballot, who)
        assert task is not None
        ballot.vote(who, Reply(task.id, "left" if task.left.startswith("other") else "right"))  # always b
    (row,) = figures(ballot)["comparisons"]
    people = np.full(30, np.nan)
    for vote in ballot.votes():
        people[int(vote.prompt[1:])] = 1 - vote.outcome
    expected = predicted_win_rate(1 - np.array(verdicts), people, np.full(30, 12 / 30))
    assert row["judge"]["both"] == pytest.approx([expected.value, expected.low, expected.high])
    agree = np.mean([verdicts[int(vote.prompt[1:])] == vote.outcome for vote in ballot.votes()])
    assert row["judge"]["same"][0] == pytest.approx(agree) and "the judge and people agree" in told(ballot)


def test_alike_answers_are_known_for_sure_and_no_sample(tmp_path: Path) -> None:
    """Of thirty prompts ten are alike: their ties count with a chance of 1, the four votes with 4 of 20."""
    pairs = [
        BallotPair(
            f"p{i}", f"prompt {i}", 0, 1, f"one {i}", f"one {i}" if i < 10 else f"other {i}", 0.5 if i < 10 else 0.0
        )
        for i in range(30)
    ]
    settings = {"overlap": 1, "repeats": 0.0, "width": 0.1, "reasons": [], "raters": []}
    ballot = create(tmp_path / "alike.db", ("base", "tuned"), pairs, settings)
    who = rater(ballot, "ann")
    for _ in range(4):
        task = next_task(ballot, who)
        assert task is not None
        ballot.vote(who, Reply(task.id, "left" if task.left.startswith("other") else "right"))
    judge = figures(ballot)["comparisons"][0]["judge"]
    assert judge["voted"] == 4 and judge["both"][0] == pytest.approx((10 * 0.5 + 20) / 30)
    assert judge["both"][1] < judge["both"][0] and judge["worth"] > 0


def test_before_any_vote(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, [("one", "other")])
    assert "no vote yet" in told(ballot) and "no vote yet" in report.page(figures(ballot), "empty").lower()
