"""Rounds of people's votes: a run that leaves for them and goes on is the run that waits, to the bit."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from burnish import config
from burnish.answers.sampler.process import ProcessSampler
from burnish.config import HumanConfig
from burnish.errors import ConfigError, JudgeError, StoreError, VotesWanted
from burnish.group import Completion, Group, Preferences, Unjudged
from burnish.loop import train
from burnish.loop.rounds import People
from burnish.vote.asking import next_task
from burnish.vote.records import Choice, Reply
from burnish.vote.store import open_ballot
from tests.loop.online import world
from tests.loop.online.judging import digits
from tests.runs.cli import burnish

ROUNDS = ["judge.kind=human", "objective.name=dpo", "source.refresh_every=3", "source.k=2", "optim.groups_per_step=4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("rounds"))


def settings(place: Path, name: str, *more: str) -> list[str]:
    """A run of two rounds of twelve prompts."""
    given = [one for one in world.overrides(place, name, *ROUNDS, *more, steps=6) if not one.startswith("judge.name")]
    return [*given, "run.overwrite=false"] if any(one.startswith("run.resume") for one in more) else given


def start(place: Path, name: str, *more: str) -> Path:
    words = {text.partition("=")[0]: text for text in settings(place, name, *more)}
    return train.run(config.load(None, list(words.values())), progress=False)


def preferred(left: str, right: str) -> Choice:
    one, other = digits("", left, {}), digits("", right, {})
    return "left" if one > other else "right" if other > one else "tie"


def vote(ballot_file: Path, most: int = 1000, rater: str = "ann", skip: bool = False) -> int:
    """Vote as `digits` has it, or skip; how many votes that were."""
    ballot = open_ballot(ballot_file)
    secret = ballot.begin_session(ballot.rater(rater))
    assert secret is not None
    number = ballot.rater_of(secret)
    assert number is not None
    cast = 0
    while cast < most and (task := next_task(ballot, number)) is not None:
        if skip:
            ballot.skip(number, task.id)
        else:
            ballot.vote(number, Reply(task.id, preferred(task.left, task.right)))
        cast += 1
    return cast


def rounds(place: Path, name: str, *more: str) -> tuple[Path, list[int]]:
    """A run through all its rounds by leaving and going on; and the votes of each."""
    votes: list[int] = []
    while True:
        try:
            return start(place, name, *more, *(["run.resume=true"] if votes else [])), votes
        except VotesWanted as wanted:
            votes.append(vote(wanted.path))


def test_leaving_and_going_on_is_waiting_to_the_bit(place: Path) -> None:
    left, votes = rounds(place, "left")
    assert len(votes) == 2 and all(8 <= count <= 12 for count in votes)
    ended = threading.Event()

    def people() -> None:
        while not ended.wait(0.05):
            for ballot in sorted((place / "waits" / "ballots").glob("*.db")):
                vote(ballot)

    thread = threading.Thread(target=people)
    thread.start()
    try:
        waited = start(place, "waits", "judge.wait=true")
    finally:
        ended.set()
        thread.join()
    assert world.equal(left, waited)
    assert [r["step"] for r in world.records(left, "refresh")] == [1, 4]


def test_the_judge_says_what_people_voted(tmp_path: Path) -> None:
    """Three answers in a ring, two people: a preference for each vote that took a side, with their number as weight."""
    group = Group("2+3=", (Completion("0123"), Completion("99"), Completion("")), Unjudged(), id="one")
    judge = People(HumanConfig(overlap=2), tmp_path)
    with pytest.raises(VotesWanted):
        judge([group])
    assert vote(judge.file(".db"), rater="ann") == 3
    with pytest.raises(VotesWanted) as wanted:
        judge([group])
    assert (wanted.value.voted, wanted.value.needed) == (0, 3)
    assert vote(judge.file(".db"), rater="bo") == 3
    (feedback,) = judge([group])
    assert isinstance(feedback, Preferences)
    assert set(feedback.triples) == {(0, 1, 2.0), (0, 2, 2.0), (1, 2, 2.0)}


def test_a_round_that_goes_on_asks_nothing_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VotesWanted) as wanted:
        start(place, "kept")
    assert wanted.value.voted == 0 and "burnish vote" in str(wanted.value) and "run.resume=true" in str(wanted.value)
    vote(wanted.value.path, most=3)
    monkeypatch.setattr(ProcessSampler, "__call__", lambda *_: pytest.fail("the policy was asked again"))
    with pytest.raises(VotesWanted) as again:
        start(place, "kept", "run.resume=true")
    assert again.value.path == wanted.value.path and again.value.voted == 3


def test_enough_is_a_share_or_a_closed_ballot(place: Path) -> None:
    half = ["judge.share=0.5", "source.max_unjudged=1"]
    with pytest.raises(VotesWanted) as wanted:
        start(place, "share", *half)
    needed = wanted.value.needed
    vote(wanted.value.path, most=needed)
    with pytest.raises(VotesWanted) as second:
        start(place, "share", *half, "run.resume=true")
    assert second.value.path.name == "step-00003.db" and needed <= 6
    assert burnish("vote", "close", str(second.value.path)) == 0
    with pytest.raises(JudgeError, match="nobody"):  # closed without a vote: nothing to learn from, and said so
        start(place, "share", *half, "run.resume=true")


def test_pairs_that_were_skipped_are_done(place: Path) -> None:
    with pytest.raises(VotesWanted) as first:
        start(place, "skipped")
    vote(first.value.path, most=4, skip=True)
    vote(first.value.path)
    with pytest.raises(VotesWanted) as second:
        start(place, "skipped", "run.resume=true")
    assert second.value.path != first.value.path


@pytest.mark.parametrize(("k", "pairs"), [(2, 1), (3, 3), (4, 4)])
def test_each_answer_meets_the_next(place: Path, k: int, pairs: int) -> None:
    with pytest.raises(VotesWanted) as wanted:
        start(place, f"ring-{k}", f"source.k={k}")
    rows = open_ballot(wanted.value.path).pairs()
    assert len(rows) == 12 * pairs
    own = [(row["a"], row["b"]) for row in rows if row["prompt"] == rows[0]["prompt"]]
    assert len(set(own)) == pairs and {side for pair in own for side in pair} == set(range(k))


def test_once_before_the_first_step(place: Path) -> None:
    """`refresh_every = "never"`: one round, and then a data set like any other."""
    folder, votes = rounds(place, "once", "source.refresh_every=never")
    assert len(votes) == 1 and len(world.records(folder, "step")) == 6


def test_another_runs_ballot_is_refused_and_overwrite_throws_it_away(place: Path) -> None:
    with pytest.raises(VotesWanted) as wanted:
        start(place, "other")
    with pytest.raises(VotesWanted):
        start(place, "other-seed", "seed=1")
    (place / "other-seed" / "ballots" / "step-00000.db").replace(wanted.value.path)
    with pytest.raises(StoreError, match="ballot of other answers"):
        start(place, "other", "run.resume=true")
    vote(wanted.value.path)
    with pytest.raises(VotesWanted) as anew:
        start(place, "other", "run.overwrite=true")
    assert anew.value.voted == 0


def test_waiting_may_be_chosen_when_a_run_goes_on(place: Path) -> None:
    with pytest.raises(VotesWanted) as wanted:
        start(place, "later")
    vote(wanted.value.path)
    threading.Thread(target=lambda: (time.sleep(1.0), _vote_when_there(place / "later"))).start()
    assert (start(place, "later", "judge.wait=true", "run.resume=true") / "model").is_dir()


def _vote_when_there(folder: Path) -> None:
    file = folder / "ballots" / "step-00003.db"
    while not file.exists():
        time.sleep(0.05)
    vote(file)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["source.k=1"], "two at least"),
        (["judge.votes=x.jsonl", "judge.wait=true"], "judge.wait is about rounds"),
        (["judge.overlap=3", 'judge.raters=["ann", "bo"]'], "needs as many people"),
        (['judge.raters=["ann", "ann"]'], "named in judge.raters once"),
        (["gold.kind=human"], "gold.votes is missing"),
    ],
)
def test_what_cannot_be_meant(place: Path, more: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        start(place, "refused", *more)


def test_the_command_line_leaves_with_76(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert burnish("train", *settings(place, "left-with")) == 76
    message = capfd.readouterr().err
    assert "waits for votes, 0 of" in message and "burnish vote" in message and "Traceback" not in message
