"""The panel: how far each model has moved from the baseline on texts that nobody trained on, and how it answers.

Of texts: exact KL(model || baseline) and surprise (negative log-likelihood), nats a token. Of answers: length, whether
they end, habits. The baseline answers twice, by different seeds, for the noise floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.answers.measure import measure_groups
from burnish.answers.sampler import Decoding
from burnish.config import ReferenceConfig
from burnish.config.evaluation import EvaluationConfig, PanelSuite
from burnish.data.identity import digest
from burnish.engine.reference import Live
from burnish.evals.answering import AnswerBook, AnswerRequest, prompt_id
from burnish.evals.models import Model, ProcessModel
from burnish.evals.texts import encoded_texts, texts_of
from burnish.group import EncodedGroup, Group, last_text
from burnish.reports.evals import moved
from burnish.reports.evals.habits import HABITS
from burnish.reports.evals.records import Judgement, Kept, ModelAnswer, SuiteOutcome
from burnish.runlog.progress import Progress

AT_ONCE = 16  # texts measured between two words of progress


@dataclass
class PanelRun:
    """The panel of an evaluation. `texts`: a prompt with an answer each; `request`: None where there are no prompts."""

    name: str
    suite: PanelSuite
    baseline: str
    models: dict[str, Model]
    texts: Sequence[Group]
    request: AnswerRequest | None
    kept: Kept[Judgement]  # by text and model: surprise and KL, nats summed over the text's tokens
    progress: Progress
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> dict[str, list[AnswerRequest]]:
        if self.request is None:
            return {}
        asked = {name: [self.request] for name in self.models}
        return {
            **asked,
            self.baseline: [self.request, *([self._other_seed()] if self.request.decoding.temperature else [])],
        }

    def outcomes(self, answers: AnswerBook) -> Iterator[SuiteOutcome]:
        if self.request is not None:
            for name in self.models:
                yield from self._of_answers(name, answers.of(name, self.request))
            if self.request.decoding.temperature:
                yield from self._of_answers(self.baseline + moved.AGAIN, answers.of(self.baseline, self._other_seed()))
        if self.texts:
            yield from self._of_texts()

    def _other_seed(self) -> AnswerRequest:
        assert self.request is not None
        return self.request.with_seed(self.request.seed + 1)

    def _of_answers(self, name: str, answers: dict[str, list[ModelAnswer]]) -> Iterator[SuiteOutcome]:
        assert self.request is not None
        for prompt in self.request.prompts:
            key, asked = prompt_id(prompt), last_text(prompt.prompt)
            own = answers[key]
            for answer in own:
                about = SuiteOutcome(self.name, "panel", name, key, "", 0.0, answer.number, float(len(answer.text)))
                if answer.tokens is not None:
                    yield replace(about, metric=moved.TOKENS, value=float(answer.tokens))
                if answer.finish:
                    yield replace(about, metric=moved.FINISHED, value=float(answer.finish == "stop"))
                for habit, measure in HABITS.items():
                    yield replace(about, metric=habit, value=measure(asked, answer.text))
            if len(own) > 1:
                different = (len({answer.text for answer in own}) - 1) / (len(own) - 1)
                yield SuiteOutcome(self.name, "panel", name, key, moved.DISTINCT, different)

    def _of_texts(self) -> Iterator[SuiteOutcome]:
        """KL and surprise of every model in this process. The baseline stays in memory meanwhile."""
        base = self.models[self.baseline]
        if not isinstance(base, ProcessModel):
            self.facts["texts_left_out"] = f"the baseline '{self.baseline}' is no model in this process"
            return
        others = [model for model in self.models.values() if isinstance(model, ProcessModel)]
        encoded = {m.name: encoded_texts(m.place.renderer(), self.texts, self.suite.max_length) for m in others}
        settled = encoded[base.name]
        foreign = [name for name, texts in encoded.items() if texts != settled]
        if foreign:
            self.facts["foreign_tokenizers"] = foreign  # a KL between other tokens means nothing
        self.facts["texts"] = len(settled)
        for model in others:
            if model.name not in foreign:
                yield from self._measured(model, base, settled)
            if model is not base:
                model.release()
        base.release()

    def _measured(
        self, model: ProcessModel, base: ProcessModel, texts: Sequence[EncodedGroup]
    ) -> Iterator[SuiteOutcome]:
        """Surprise and KL of each text, a token; kept by the contents of both models and of the text."""
        keys = [digest(model.identity, base.identity, repr((t.prompt_ids, t.completion_ids))).hex() for t in texts]
        missing = [(key, text) for key, text in zip(keys, texts, strict=True) if self.kept.get(key) is None]
        tick = self.progress.stage(f"{self.name}: {model.name} reads", "texts")
        for start in range(0, len(missing), AT_ONCE):
            chunk = missing[start : start + AT_ONCE]
            reference = None if model is base else Live.of(base.respondent.engine, ReferenceConfig())
            measured = measure_groups(model.respondent.engine, reference, [text for _, text in chunk], Decoding())
            self.kept.add(
                Judgement(key, (-sum(found.policy[0]), *found.kl[:1]))
                for (key, _), found in zip(chunk, measured, strict=True)
            )
            tick(min(start + AT_ONCE, len(missing)), len(missing))
        for key, text in zip(keys, texts, strict=True):
            known, count = self.kept.get(key), len(text.completion_ids[0])
            assert known is not None
            for metric, value in zip(moved.OF_TEXTS[::-1], known.values, strict=False):
                yield SuiteOutcome(self.name, "panel", model.name, text.id, metric, value / count, 0, float(count))


def panel(
    name: str, suite: PanelSuite, evaluation: EvaluationConfig, models: dict[str, Model], request: AnswerRequest | None,
    folder: Path, progress: Progress,
) -> PanelRun:  # fmt: skip
    """The panel ready to run. Raises DataError where its texts cannot be read."""
    texts = texts_of(suite, evaluation) if suite.texts else []
    kept = Kept(folder / "judgements" / f"{name}.jsonl", Judgement)
    return PanelRun(name, suite, evaluation.baseline(suite), models, texts, request, kept, progress)
