"""Rounds: people judge a run's fresh answers. The run opens a ballot, is saved, and leaves or waits for the votes.

A round's answers stay in `run.dir/ballots` beside its ballot, so that a run that goes on asks the policy nothing again.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from burnish.answers.judges.human import Human
from burnish.answers.sampler import Decoding, Sampled, Sampler
from burnish.config import HumanConfig, Run
from burnish.data.identity import prompt_key
from burnish.data.prompts import Prompt
from burnish.errors import StoreError, VotesWanted
from burnish.group import Feedback, Group, last_text
from burnish.vote.records import BallotPair, outcome_of
from burnish.vote.store import Ballot, create, open_ballot

T = TypeVar("T")
LOOK = 1.0  # seconds between two looks at a ballot that is waited for


@dataclass
class People:
    """A judge that opens a ballot for each round, and judges by its votes once there are enough.

    Every answer meets the next one: two answers make one pair, and K answers K pairs in a ring. A pair is done when
    `overlap` people voted on it or passed it over; the round is, when the share `judge.share` of its pairs is done, or
    when its ballot was closed.
    """

    config: HumanConfig
    run_dir: Path
    step: int = 0  # of the round that is judged
    name: str = "human"

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """What people voted. Raises VotesWanted while there is too little, StoreError where the ballot is another's."""
        ballot = self._ballot(groups)
        done, wanted = progress(ballot)
        needed = -(-round(wanted * self.config.share * 1e9) // 10**9)  # the ceiling, but for rounding
        if done < needed and ballot.settings()["closed"] is None:
            raise VotesWanted(ballot.path, done, needed, self._advice(ballot.path))
        return Human(self.name, _preferences(ballot, groups))(groups)

    def keeping(self, sampler: Sampler) -> KeptAnswers:
        """The sampler, with each round's answers kept until they are judged."""
        return KeptAnswers(sampler, self)

    def file(self, end: str) -> Path:
        """A file of the round."""
        return self.run_dir / "ballots" / f"step-{self.step:05d}{end}"

    def _ballot(self, groups: Sequence[Group]) -> Ballot:
        """The round's ballot, made where it is not there yet."""
        path, pairs = self.file(".db"), _pairs(groups)
        if not path.exists():
            config = self.config
            return create(
                path, [f"answer {number + 1}" for number in range(max(len(g.completions) for g in groups))], pairs,
                {"overlap": config.overlap, "repeats": 0.0, "width": 0.1, "reasons": config.reasons,
                 "raters": config.raters, "free": False, "round": {"run": str(self.run_dir), "step": self.step}},
            )  # fmt: skip
        ballot = open_ballot(path)
        with ballot.reading() as db:
            there = {(row["prompt"], row["answer_a"], row["answer_b"]) for row in db.execute("SELECT * FROM pairs")}
        if there != {(pair.prompt, pair.answer_a, pair.answer_b) for pair in pairs}:
            raise StoreError(f"{path} is the ballot of other answers; name another run.dir")
        return ballot

    def _advice(self, path: Path) -> str:
        return f"vote: burnish vote {path}; then go on: burnish train {self.run_dir}/config.toml run.resume=true"


@dataclass
class KeptAnswers:
    """A sampler whose answers are kept in a file of their round, and taken from there when the run goes on."""

    sampler: Sampler
    people: People
    version: int = field(default=0)

    def publish(self, version: int) -> None:
        """The weights are handed over only where answers are asked for."""
        self.version = version

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        """The round's answers. Raises StoreError where the file's are those of other prompts, or it cannot be read."""
        self.people.step = step
        file, asked = self.people.file(".answers.json"), [prompt.key for prompt in prompts]
        if file.exists():
            return _read(file, asked, k)
        self.sampler.publish(self.version)
        answers = self.sampler(prompts, k, decoding, seed, step)
        _write(file, {"prompts": asked, "answers": [[asdict(answer) for answer in row] for row in answers]})
        return answers


def people_of(run: Run) -> People | None:
    """The judge of a run whose answers people judge in rounds; None of any other."""
    table = run.judge[0] if run.judge else None
    return People(table, Path(run.run.dir)) if isinstance(table, HumanConfig) and not table.votes else None


def waits(run: Run) -> bool:
    """Whether the run waits for votes."""
    return any(isinstance(table, HumanConfig) and table.wait for table in run.judge)


def when_voted(
    ask: Callable[[], T], *, wait: bool, note: Callable[[str], None], saved: Callable[[], object],
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> T:  # fmt: skip
    """What `ask` gives once enough is voted. `saved` is called before that is waited for.

    Raises VotesWanted where `wait` is false, or the user asked to stop.
    """
    done = -1
    while True:
        try:
            return ask()
        except VotesWanted as wanted:
            if done < 0:
                saved()
            if not wait or asked_to_stop():
                raise
            if wanted.voted != done:
                done = wanted.voted
                note(f"waiting for votes: {done} of {wanted.needed}; vote: burnish vote {wanted.path}")
            _look_again(wanted.path, done, asked_to_stop)


def progress(ballot: Ballot) -> tuple[int, int]:
    """(pairs that are done, pairs that people are asked about)."""
    with ballot.reading() as db:
        rows = db.execute(
            "SELECT COUNT(tasks.id) AS had FROM pairs LEFT JOIN tasks ON tasks.pair = pairs.id AND tasks.state != "
            "'open' AND tasks.repeats IS NULL WHERE NOT alike GROUP BY pairs.id"
        ).fetchall()
        overlap = json.loads(db.execute("SELECT value FROM settings WHERE name = 'overlap'").fetchone()["value"])
    return sum(row["had"] >= overlap for row in rows), len(rows)


def _preferences(ballot: Ballot, groups: Sequence[Group]) -> dict[tuple[str, str, str], float]:
    """(prompt, winner's text, loser's text) -> votes. An empty answer is voted on like any other."""
    keys = {group.id: prompt_key(group) for group in groups}
    votes: dict[tuple[str, str, str], float] = defaultdict(float)
    with ballot.reading() as db:
        rows = db.execute(
            "SELECT prompt, answer_a, answer_b, choice, swapped FROM votes JOIN tasks ON tasks.id = votes.task "
            "JOIN pairs ON pairs.id = tasks.pair WHERE tasks.repeats IS NULL"
        ).fetchall()
    for row in rows:
        outcome = outcome_of(row["choice"], bool(row["swapped"]))
        if outcome != 0.5:
            texts = (row["answer_a"], row["answer_b"])
            votes[keys[row["prompt"]], *(texts if outcome == 1 else texts[::-1])] += 1
    return dict(votes)


def _look_again(path: Path, done: int, asked_to_stop: Callable[[], bool]) -> None:
    """Returns when the ballot changed, or the user asked to stop."""
    ballot = open_ballot(path)
    while progress(ballot)[0] == done and ballot.settings()["closed"] is None and not asked_to_stop():
        time.sleep(LOOK)


def _pairs(groups: Sequence[Group]) -> list[BallotPair]:
    """Each answer with the next, the last with the first where there are more than two."""
    pairs = []
    for group in groups:
        texts = [last_text(completion.messages) for completion in group.completions]
        count = len(texts)
        for first in range(count if count > 2 else 1):
            a, b = sorted((first, (first + 1) % count))
            pairs.append(BallotPair(group.id, group.prompt, a, b, texts[a], texts[b], meta=dict(group.meta)))
    return pairs


def _read(file: Path, asked: Sequence[str], k: int) -> list[list[Sampled]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        answers = [[Sampled(tuple(a["ids"]), tuple(a["logps"]), a["finish"]) for a in row] for row in kept["answers"]]
        same = kept["prompts"] == list(asked) and all(len(row) == k for row in answers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} cannot be read: {error}; name another run.dir") from error
    if not same:
        raise StoreError(f"{file} holds the answers to other prompts; name another run.dir")
    return answers


def _write(file: Path, values: Any) -> None:
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(values), encoding="utf-8")
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written: {error.strerror}") from error
