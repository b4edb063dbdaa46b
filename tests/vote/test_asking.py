"""Who is asked what: overlap, sides, hidden repeats, several models; and votes that count once."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from burnish.errors import StoreError
from burnish.stats import next_pair, ranking
from burnish.vote.asking import APART, BLOCK, next_task
from burnish.vote.records import BallotPair, Reply, Task
from burnish.vote.store import Ballot, create, open_ballot
from tests.vote.pages import ballot_of

ANSWERS = [(f"one {i}", f"other {i}") for i in range(40)]


def rater(ballot: Ballot, name: str) -> int:
    secret = ballot.begin_session(ballot.rater(name))
    assert secret is not None
    number = ballot.rater_of(secret)
    assert number is not None
    return number


def vote(ballot: Ballot, who: int, task: Task) -> bool:
    return ballot.vote(who, Reply(task.id, "left"))


def all_of(ballot: Ballot, who: int) -> list[Task]:
    """Vote until nothing is left."""
    tasks = []
    while (task := next_task(ballot, who)) is not None:
        tasks.append(task)
        assert vote(ballot, who, task)
    return tasks


@pytest.mark.parametrize(("overlap", "people"), [(1, 3), (2, 3), (3, 3), (2, 5)])
def test_each_pair_gets_its_votes_and_nobody_sees_one_twice(tmp_path: Path, overlap: int, people: int) -> None:
    ballot = ballot_of(tmp_path, ANSWERS[:12], overlap=overlap)
    numbers = [rater(ballot, f"r{i}") for i in range(people)]
    left = set(numbers)
    while left:  # in turn
        for who in sorted(left):
            task = next_task(ballot, who)
            if task is None:
                left.discard(who)
            else:
                vote(ballot, who, task)
    votes = ballot.votes()
    assert Counter(v.pair for v in votes) == {row["id"]: overlap for row in ballot.pairs()}
    assert max(Counter((v.pair, v.rater) for v in votes).values()) == 1


def test_sides_are_balanced_in_each_block_of_each_rater_and_drawn(tmp_path: Path) -> None:
    """Two of each block of four have b on the left, and different raters get different draws."""
    ballot = ballot_of(tmp_path, ANSWERS, overlap=6)
    orders = []
    for name in "abcdef":
        all_of(ballot, rater(ballot, name))
        swapped = [vote.swapped for vote in ballot.votes() if vote.rater == name]
        blocks = [swapped[i : i + BLOCK] for i in range(0, len(swapped), BLOCK)]
        assert all(sum(block) == BLOCK // 2 for block in blocks)
        assert len({tuple(block) for block in blocks}) > 1
        orders.append(tuple(swapped))
    assert len(set(orders)) == 6


def test_hidden_repeats_come_later_with_sides_swapped(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS, repeats=0.25)
    tasks = all_of(ballot, rater(ballot, "ann"))
    votes = {vote.task: vote for vote in ballot.votes()}
    again = [vote for vote in votes.values() if vote.repeats is not None]
    assert len(again) == 10 and len(tasks) == 50  # a quarter of forty
    places = {task.id: place for place, task in enumerate(tasks)}
    for second in again:
        first = votes[str(second.repeats)]
        assert first.pair == second.pair and first.swapped != second.swapped and first.repeats is None
        assert places[second.task] - places[first.task] > APART
    assert len({vote.repeats for vote in again}) == 10
    assert all(one.total == 50 or one.total >= 40 for one in tasks)


def test_alike_answers_are_asked_of_nobody(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, [("same", " same\n"), ("a", "b"), ("x  y", "x y")])
    assert [task.left in "ab" for task in all_of(ballot, rater(ballot, "ann"))] == [True]


def test_the_open_task_stays_and_an_abandoned_one_goes_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballot = ballot_of(tmp_path, ANSWERS[:1])
    ann, bo = rater(ballot, "ann"), rater(ballot, "bo")
    first = next_task(ballot, ann)
    assert first is not None and next_task(ballot, ann) == first
    assert next_task(ballot, bo) is None
    monkeypatch.setattr("burnish.vote.asking.ABANDONED", -1.0)
    other = next_task(ballot, bo)
    assert other is not None and other.pair == first.pair and other.id != first.id


def test_of_several_models_the_pair_is_asked_that_narrows_the_ranking_most(tmp_path: Path) -> None:
    """Two votes on each pair of models first; then `next_pair` of the ranking that the votes so far give."""
    names, kinds = ("best", "close", "bad"), [(0, 1), (0, 2), (1, 2)]
    pairs = [
        BallotPair(f"p{i}", f"prompt {i}", a, b, f"{names[a]} {i}", f"{names[b]} {i}")
        for i in range(30)
        for a, b in kinds
    ]
    settings = {"overlap": 1, "repeats": 0.0, "width": 0.1, "reasons": [], "raters": []}
    ballot = create(tmp_path / "three.db", names, pairs, settings)
    ann, asked = rater(ballot, "ann"), []
    for turn in range(20):
        votes = ballot.votes()
        task = next_task(ballot, ann)
        assert task is not None
        a, b = sorted(names.index(text.split()[0]) for text in (task.left, task.right))
        asked.append((a, b))
        if turn >= 6:
            sides = [np.array([getattr(vote, side) for vote in votes]) for side in "ab"]
            clusters = np.unique([vote.prompt for vote in votes], return_inverse=True)[1]
            known = ranking(*sides, np.array([vote.outcome for vote in votes]), clusters, 3)
            assert (a, b) == next_pair(known, kinds)
        worse = "bad" if b == 2 else names[turn % 2]
        ballot.vote(ann, Reply(task.id, "right" if task.left.startswith(worse) else "left"))
    assert Counter(asked[:6]) == dict.fromkeys(kinds, 2)


def test_a_vote_counts_once_whoever_sends_it_how_often(tmp_path: Path) -> None:
    """A double click, two tabs, a reply sent again: eight threads with one task make one vote."""
    ballot = ballot_of(tmp_path, ANSWERS[:1])
    ann = rater(ballot, "ann")
    task = next_task(ballot, ann)
    assert task is not None
    counted: list[bool] = []
    threads = [threading.Thread(target=lambda: counted.append(vote(ballot, ann, task))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == [False] * 7 + [True] and len(ballot.votes()) == 1
    assert not ballot.skip(ann, task.id) and not vote(ballot, rater(ballot, "bo"), task)


def test_undo_opens_the_last_task_again_and_skip_is_for_good(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS[:3])
    ann = rater(ballot, "ann")
    first = next_task(ballot, ann)
    assert first is not None and not ballot.undo(ann)
    vote(ballot, ann, first)
    second = next_task(ballot, ann)
    assert second is not None and second.id != first.id and ballot.undo(ann)
    again = next_task(ballot, ann)
    assert again is not None and (again.id, again.left) == (first.id, first.left) and ballot.votes() == []
    assert ballot.skip(ann, again.id)
    seen = [task.pair for task in all_of(ballot, ann)]
    assert len(seen) == 2 and first.pair not in seen


def test_a_closed_ballot_takes_no_vote(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS[:3])
    ann = rater(ballot, "ann")
    done, task = next_task(ballot, ann), None
    assert done is not None and vote(ballot, ann, done)
    task = next_task(ballot, ann)
    assert task is not None
    ballot.set("closed", 1.0)
    assert next_task(ballot, ann) is None
    assert not vote(ballot, ann, task) and not ballot.undo(ann) and not ballot.skip(ann, task.id)
    assert len(ballot.votes()) == 1


def test_what_is_no_ballot_is_said(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS[:1])
    with pytest.raises(StoreError, match="exists; open it with"):
        ballot_of(tmp_path, ANSWERS[:1])
    with ballot.writing() as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="ballot of version 7, and this burnish reads version 1"):
        open_ballot(ballot.path)
    with ballot.writing() as db:
        db.execute("PRAGMA application_id = 5")
    with pytest.raises(StoreError, match="no ballot of burnish"):
        open_ballot(ballot.path)
    (tmp_path / "text.db").write_text("hello", encoding="utf-8")
    with pytest.raises(StoreError, match="not an SQLite file"):
        open_ballot(tmp_path / "text.db")
    with pytest.raises(StoreError, match="does not exist"):
        open_ballot(tmp_path / "none.db")


def test_a_full_disk_is_a_sentence_and_loses_no_vote_that_counted(tmp_path: Path) -> None:
    """Pages run out while people vote: what was acknowledged is in the file, and what was not can be sent again."""
    ballot = ballot_of(tmp_path, ANSWERS)
    ann, counted = rater(ballot, "ann"), 0
    with ballot.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    small = Small(ballot.path, pages + 1)
    with pytest.raises(StoreError, match=r"full.*no vote that was acknowledged is lost"):
        while True:
            task = next_task(small, ann)
            assert task is not None
            counted += small.vote(ann, Reply(task.id, "left", note="x" * 500))
    assert 0 < counted == len(ballot.votes()) < 40
    task = next_task(ballot, ann)
    assert task is not None and vote(ballot, ann, task)


class Small(Ballot):
    """A ballot on a disk that has room for so many pages."""

    def __init__(self, path: Path, pages: int) -> None:
        super().__init__(path)
        object.__setattr__(self, "pages", pages)

    def reading(self):  # type: ignore[no-untyped-def, override]
        from contextlib import contextmanager

        @contextmanager
        def limited():  # type: ignore[no-untyped-def]
            with Ballot.reading(self) as db:
                db.execute(f"PRAGMA max_page_count = {self.pages}")  # type: ignore[attr-defined]
                yield db

        return limited()


def test_tasks_of_one_rater_do_not_follow_the_order_of_models(tmp_path: Path) -> None:
    """Nothing of a task's id, place or side follows from whose answer is where: sides alternate no more than chance."""
    ballot = ballot_of(tmp_path, ANSWERS, overlap=1)
    tasks = all_of(ballot, rater(ballot, "ann"))
    assert {len(task.id) for task in tasks} == {22} and len({task.id for task in tasks}) == 40
    swapped = [task.left.startswith("other") for task in tasks]
    assert 5 < sum(a != b for a, b in pairwise(swapped)) < 37
