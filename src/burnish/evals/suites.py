"""The suites for which models write answers and somebody judges them: win rates and checks.

A suite gives outcomes, from which `reports.evals` makes every figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from burnish.config import VerifierConfig
from burnish.config.evaluation import EvaluationConfig, VerifierSuite, WinRateSuite
from burnish.evals.answering import AnswerBook, AnswerRequest, prompt_id
from burnish.evals.judging import Bench
from burnish.group import Completion, Group, Message
from burnish.reports.evals import passes, wins
from burnish.reports.evals.records import Judgement, ModelAnswer, SuiteOutcome
from burnish.runlog.progress import Progress

Texts = Mapping[str, Sequence[ModelAnswer]]  # by prompt


@runtime_checkable
class SuiteRun(Protocol):
    """A suite that is ready to run: everything that could be refused has been."""

    @property
    def requests(self) -> Mapping[str, Sequence[AnswerRequest]]:
        """What each model is asked; empty where nobody is asked anything."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What reports say of it beside its outcomes; complete once it has run."""

    def outcomes(self, answers: AnswerBook) -> Iterator[SuiteOutcome]: ...


@dataclass
class WinRateRun:
    """Each model's answers against the baseline's, pair by pair."""

    name: str
    suite: WinRateSuite
    baseline: str
    models: Sequence[str]
    request: AnswerRequest
    bench: Bench
    again: Bench | None  # the same judge, asked a second time
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> dict[str, list[AnswerRequest]]:
        return {name: [self.request] for name in self.models}

    def outcomes(self, answers: AnswerBook) -> Iterator[SuiteOutcome]:
        theirs = answers.of(self.baseline, self.request)
        reasons: dict[str, int] = {}
        for model in self.models:
            if model != self.baseline:
                yield from self._against(model, answers.of(model, self.request), theirs, reasons)
        self.facts |= {"judge": self.bench.table.kind, "unjudged_because": reasons}

    def _against(self, model: str, own: Texts, theirs: Texts, reasons: dict[str, int]) -> Iterator[SuiteOutcome]:
        pairs = [
            (prompt, mine, other)
            for prompt in self.request.prompts
            for mine, other in zip(own[prompt_id(prompt)], theirs[prompt_id(prompt)], strict=True)
        ]
        asked = [(p, a, b) for p, a, b in pairs if a.text != b.text]  # equal answers are a tie, whoever judges
        groups = [_group(prompt, [mine, other]) for prompt, mine, other in asked]
        said = self.bench.judgements(groups, f"{self.name}: {model} judged")
        seconds = self._second_replies(model, groups, said)
        by_pair = {(prompt_id(p), a.number): (j, s) for (p, a, _), j, s in zip(asked, said, seconds, strict=True)}
        tie = Judgement("", (0.5, 0.5)), None
        for prompt, mine, other in pairs:
            judgement, second = by_pair.get((prompt_id(prompt), mine.number), tie)
            if judgement.reason:
                reasons[judgement.reason] = reasons.get(judgement.reason, 0) + 1
            key, size = prompt_id(prompt), float(len(mine.text))
            about = SuiteOutcome(self.name, "win_rate", model, key, "", 0.0, mine.number, size, mine.key, other.key)
            for metric, value in self._values(judgement, second).items():
                yield replace(about, metric=metric, value=value)
            yield replace(about, metric=wins.LONGER, value=float(len(mine.text) - len(other.text)))

    def _values(self, judgement: Judgement, second: Judgement | None) -> dict[str, float]:
        if not judgement.values:
            return {wins.UNJUDGED: 1.0}
        mine, other = judgement.values
        if not self.bench.ordered:
            return {wins.WIN: 1.0 if mine > other else 0.0 if mine < other else 0.5}
        values = {wins.WIN: (mine + other) / 2, wins.FIRST: mine, wins.SECOND: other}
        return values | ({wins.AGAIN: second.values[0]} if second is not None and second.values else {})

    def _second_replies(self, model: str, groups: Sequence[Group], said: Sequence[Judgement]) -> list[Judgement | None]:
        """The judge's second verdicts on the first pairs that it judged; None for the others."""
        places = [place for place, judgement in enumerate(said) if judgement.values][: self.suite.repeats]
        second: list[Judgement | None] = [None] * len(groups)
        if self.again is not None and places:
            again = self.again.judgements([groups[place] for place in places], f"{self.name}: {model} judged again")
            for place, judgement in zip(places, again, strict=True):
                second[place] = judgement
        return second


@dataclass
class VerifierRun:
    """Every model's answers through a check."""

    name: str
    suite: VerifierSuite
    models: Sequence[str]
    request: AnswerRequest
    bench: Bench
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> dict[str, list[AnswerRequest]]:
        return {name: [self.request] for name in self.models}

    def outcomes(self, answers: AnswerBook) -> Iterator[SuiteOutcome]:
        reasons: dict[str, int] = {}
        for model in self.models:
            own = answers.of(model, self.request)
            groups = [_group(prompt, own[prompt_id(prompt)]) for prompt in self.request.prompts]
            said = self.bench.judgements(groups, f"{self.name}: {model} checked")
            for prompt, judgement in zip(self.request.prompts, said, strict=True):
                if judgement.reason:
                    reasons[judgement.reason] = reasons.get(judgement.reason, 0) + 1
                scores = judgement.values or (None,) * self.request.k
                for answer, score in zip(own[prompt_id(prompt)], scores, strict=True):
                    metric, value = (passes.UNJUDGED, 1.0) if score is None else (passes.SCORE, score)
                    key, size = prompt_id(prompt), float(len(answer.text))
                    yield SuiteOutcome(
                        self.name, "verifier", model, key, metric, value, answer.number, size, answer.key
                    )
        self.facts |= {"pass_mark": self.suite.pass_mark, "unjudged_because": reasons}


def _group(prompt: Group, answers: Sequence[ModelAnswer]) -> Group:
    """A prompt's answers as a judge reads them, with whether each came to its end, and its tokens."""
    plain = isinstance(prompt.prompt, str)
    completions = tuple(
        Completion(
            answer.text if plain else (Message("assistant", answer.text),),
            meta={"finished": answer.finish != "length", "tokens": answer.tokens},
        )
        for answer in answers
    )
    return replace(prompt, completions=completions)


def win_rate(
    name: str,
    suite: WinRateSuite,
    evaluation: EvaluationConfig,
    request: AnswerRequest,
    folder: Path,
    progress: Progress,
) -> WinRateRun:
    """A win-rate suite ready to run. Raises ConfigError, DataError or ModelError for a judge that cannot be meant."""
    assert suite.judge is not None
    bench = Bench.of(suite.judge, folder, name, progress)
    again = Bench.of(suite.judge, folder, name, progress, "-again") if bench.ordered and suite.repeats else None
    return WinRateRun(name, suite, evaluation.baseline(suite), list(evaluation.models), request, bench, again)


def verifier(
    name: str,
    suite: VerifierSuite,
    evaluation: EvaluationConfig,
    request: AnswerRequest,
    folder: Path,
    progress: Progress,
) -> VerifierRun:
    """A suite of checked answers ready to run. Raises ConfigError for a check that cannot be meant."""
    given = {key: getattr(suite, key) for key in ("field", "pattern", "schema_file", "seconds")}
    changed = {key: value for key, value in given.items() if value != VerifierConfig.model_fields[key].default}
    table = VerifierConfig(kind="verifier", name=suite.check or suite.name, **changed)
    return VerifierRun(name, suite, list(evaluation.models), request, Bench.of(table, folder, name, progress))
