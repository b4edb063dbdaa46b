"""Judges asked in an evaluation: every judgement is kept under a hash of all that decides it.

A judge that fails leaves the answers unjudged; nothing is kept of it, so that an evaluation that goes on asks again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.answers.judges import Judge, inputs, panel
from burnish.answers.judges.llm import LLMJudge
from burnish.answers.judges.verifier import UserFunction
from burnish.config import JudgeConfig
from burnish.data.identity import digest, question_key
from burnish.errors import ConfigError, JudgeError
from burnish.group import Feedback, Group, Unjudged, last_text
from burnish.reports.evals.records import Judgement, Kept
from burnish.runlog.progress import Progress

AT_ONCE = 32  # groups of a call
UNDECIDING = {"key_env", "concurrency", "retries", "budget", "price_in", "price_out", "cache", "weight", "gate"}


@dataclass
class Bench:
    """A suite's judge with what it said so far. `again` marks a second asking, whose replies are kept apart."""

    table: JudgeConfig
    judge: Judge
    kept: Kept[Judgement]
    read: str  # a hash of the files that the judge reads
    progress: Progress
    again: str = ""

    @classmethod
    def of(cls, table: JudgeConfig, folder: Path, suite: str, progress: Progress, again: str = "") -> Bench:
        """The judge of a table. Raises ConfigError, DataError or ModelError before any weight loads."""
        if table.gate is not None or table.weight != 1:
            raise ConfigError("weight and gate are about several judges of a run; a suite has one judge")
        judge = panel.make([table], folder / "judgements" / f"replies{again}")
        assert judge is not None
        kept = Kept(folder / "judgements" / f"{suite}{again}.jsonl", Judgement)
        return cls(table, judge, kept, inputs.fingerprint([table], []), progress, again)

    @property
    def ordered(self) -> bool:
        """Whether it compares two answers in both orders."""
        return isinstance(self.judge, LLMJudge) and self.judge.config.mode == "pairwise"

    def judgements(self, groups: Sequence[Group], stage: str) -> list[Judgement]:
        """What the judge says of each group: a number an answer; where it compares in an order, two verdicts on the
        first answer against the second: shown first, and shown second."""
        keys = [self._key(group) for group in groups]
        anew = isinstance(self.judge, UserFunction)  # whose code may have changed
        missing = {key: group for key, group in zip(keys, groups, strict=True) if anew or self.kept.get(key) is None}
        failed: dict[str, str] = {}
        said_now: dict[str, Judgement] = {}
        tick = self.progress.stage(stage, "judgements")
        todo = list(missing.items())
        for start in range(0, len(todo), AT_ONCE):
            chunk = todo[start : start + AT_ONCE]
            said = self._ask([group for _, group in chunk])
            pairs = list(zip((key for key, _ in chunk), said, strict=True))
            self.kept.add(Judgement(key, values) for key, values in pairs if isinstance(values, tuple))
            said_now |= {key: Judgement(key, values) for key, values in pairs if isinstance(values, tuple)}
            failed |= {key: reason for key, reason in pairs if isinstance(reason, str)}
            tick(min(start + AT_ONCE, len(todo)), len(todo))
        known = {key: said_now.get(key) or self.kept.get(key) for key in keys}
        return [Judgement(key, (), failed[key]) if key in failed else _of(known[key]) for key in keys]

    def _ask(self, groups: Sequence[Group]) -> list[tuple[float, ...] | str]:
        if isinstance(self.judge, LLMJudge) and self.ordered:
            return [_verdicts(numbers) for numbers in self.judge.verdicts(groups)]
        return [
            _scores(feedback, len(group.completions))
            for feedback, group in zip(self.judge(groups), groups, strict=True)
        ]

    def _key(self, group: Group) -> str:
        table = json.dumps(self.table.model_dump(exclude=UNDECIDING), sort_keys=True, default=repr)
        answers = [json.dumps([last_text(c.messages), dict(c.meta)], default=repr) for c in group.completions]
        return digest(table, self.read, question_key(group), json.dumps(group.meta, default=repr), *answers).hex()


def _of(judgement: Judgement | None) -> Judgement:
    assert judgement is not None
    return judgement


def _verdicts(numbers: list[float] | JudgeError) -> tuple[float, ...] | str:
    """(the first answer's outcome shown first, and shown second)."""
    return str(numbers) if isinstance(numbers, JudgeError) else (numbers[0], 1 - numbers[1])


def _scores(feedback: Feedback, count: int) -> tuple[float, ...] | str:
    scores = panel.as_scores(feedback, count)
    return scores.reason if isinstance(scores, Unjudged) else scores.values
