"""The panel: how far each model has moved from the baseline on texts that nobody trained on, and how it answers.

Of texts: exact KL(model || baseline) and surprise (negative log-likelihood), nats a token. Of answers: length, whether
they end, habits. The baseline answers twice, by different seeds, for the noise floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.answers.measure import measure_groups
from burnish.answers.sampler import Decoding
from burnish.config import ReferenceConfig
from burnish.config.evaluation import Evaluation, PanelSuite
from burnish.data.readers import read
from burnish.data.readers.files import rows
from burnish.data.readers.values import Fault
from burnish.data.views import winner_view
from burnish.engine.reference import Live
from burnish.errors import DataError
from burnish.evals.answering import Answers, Request, prompt_id
from burnish.evals.models import Model, ProcessModel
from burnish.findings import counted
from burnish.group import Completion, EncodedGroup, Group, last_text
from burnish.reports.evals import moved
from burnish.reports.evals.habits import HABITS
from burnish.reports.evals.records import Answer, Outcome
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
    request: Request | None
    progress: Progress
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> dict[str, list[Request]]:
        if self.request is None:
            return {}
        asked = {name: [self.request] for name in self.models}
        return {
            **asked,
            self.baseline: [self.request, *([self._other_seed()] if self.request.decoding.temperature else [])],
        }

    def outcomes(self, answers: Answers) -> Iterator[Outcome]:
        if self.request is not None:
            for name in self.models:
                yield from self._of_answers(name, answers.of(name, self.request))
            if self.request.decoding.temperature:
                yield from self._of_answers(self.baseline + moved.AGAIN, answers.of(self.baseline, self._other_seed()))
        if self.texts:
            yield from self._of_texts()

    def _other_seed(self) -> Request:
        assert self.request is not None
        return self.request.with_seed(self.request.seed + 1)

    def _of_answers(self, name: str, answers: dict[str, list[Answer]]) -> Iterator[Outcome]:
        assert self.request is not None
        for prompt in self.request.prompts:
            key, asked = prompt_id(prompt), last_text(prompt.prompt)
            own = answers[key]
            for answer in own:
                about = Outcome(self.name, "panel", name, key, "", 0.0, answer.number, len(answer.text))
                if answer.tokens is not None:
                    yield replace(about, metric=moved.TOKENS, value=float(answer.tokens))
                if answer.finish:
                    yield replace(about, metric=moved.FINISHED, value=float(answer.finish == "stop"))
                for habit, measure in HABITS.items():
                    yield replace(about, metric=habit, value=measure(asked, answer.text))
            if len(own) > 1:
                different = (len({answer.text for answer in own}) - 1) / (len(own) - 1)
                yield Outcome(self.name, "panel", name, key, moved.DISTINCT, different)

    def _of_texts(self) -> Iterator[Outcome]:
        """KL and surprise of every model in this process. The baseline stays in memory meanwhile."""
        base = self.models[self.baseline]
        if not isinstance(base, ProcessModel):
            self.facts["texts_left_out"] = f"the baseline '{self.baseline}' is no model in this process"
            return
        settled = _encoded(base, self.texts, self.suite.max_length)
        others = [model for model in self.models.values() if isinstance(model, ProcessModel)]
        foreign = [m.name for m in others if _encoded(m, self.texts, self.suite.max_length) != settled]
        if foreign:
            self.facts["foreign_tokenizers"] = foreign  # a KL between other tokens means nothing
        self.facts["texts"] = len(settled)
        reference = Live.of(base.respondent.engine, ReferenceConfig())
        for model in others:
            if model.name not in foreign:
                yield from self._measured(model, reference, settled)
            if model is not base:
                model.release()
        base.release()

    def _measured(self, model: ProcessModel, reference: Live, texts: Sequence[EncodedGroup]) -> Iterator[Outcome]:
        tick = self.progress.stage(f"{self.name}: {model.name} reads", "texts")
        for start in range(0, len(texts), AT_ONCE):
            chunk = texts[start : start + AT_ONCE]
            against = None if model.name == self.baseline else reference
            measured = measure_groups(model.respondent.engine, against, chunk, Decoding())
            for text, found in zip(chunk, measured, strict=True):
                count = len(text.completion_ids[0])
                surprise = -sum(found.policy[0]) / count
                yield Outcome(self.name, "panel", model.name, text.id, moved.NLL, surprise, 0, count)
                if found.kl:
                    distance = found.kl[0] / count
                    yield Outcome(self.name, "panel", model.name, text.id, moved.KL, distance, 0, count)
            tick(min(start + AT_ONCE, len(texts)), len(texts))


def _encoded(model: ProcessModel, texts: Sequence[Group], longest: int) -> list[EncodedGroup]:
    """The texts in a model's tokens, cut at the end to `longest`; the prompt of those without is their first token."""
    encoded = []
    for text in model.place.renderer().encode_many(texts):
        prompt, (ids,) = text.prompt_ids, text.completion_ids
        if not prompt:
            prompt, ids = ids[:1], ids[1:]
        ids = ids[: max(0, longest - len(prompt))]
        if ids:
            encoded.append(replace(text, prompt_ids=prompt, completion_ids=(ids,), ended=text.ended[:1]))
    return encoded


def panel(
    name: str, suite: PanelSuite, evaluation: Evaluation, models: dict[str, Model], request: Request | None,
    progress: Progress,
) -> PanelRun:  # fmt: skip
    """The panel ready to run. Raises DataError where its texts cannot be read."""
    texts = texts_of(suite, evaluation) if suite.texts else []
    return PanelRun(name, suite, evaluation.baseline(suite), models, texts, request, progress)


def texts_of(suite: PanelSuite, evaluation: Evaluation) -> list[Group]:
    """The texts of a panel: of rows with `text` alone the text, of others the prompt with the answer that the data
    prefers. Raises DataError."""
    plain = _plain_texts(suite.texts)
    if plain is not None:
        return plain[: suite.limit]
    options: dict[str, Any] = {"format": suite.format, "split": evaluation.data.split, "limit": suite.limit}
    groups = read(suite.texts, keep_faults=evaluation.data.bad_rows == "skip", **options).groups
    texts = []
    for place, group in enumerate(groups):
        best = winner_view(EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback))
        if best:
            texts.append(replace(group, id=str(place), completions=(group.completions[best[0]],)))
    if not texts:
        raise DataError(f"{suite.texts}: none of its {counted(len(groups), 'row')} has an answer to read")
    return texts


def _plain_texts(file: str) -> list[Group] | None:
    """The texts of a file whose rows have a `text` and no prompt; None of another file."""
    texts: list[Group] = []
    for where, row in rows(file, "train"):
        if isinstance(row, Fault):
            raise DataError(row.message)
        if not isinstance(row.get("text"), str) or {"prompt", "messages", "chosen"} & set(row):
            return None
        if row["text"].strip():
            texts.append(Group("", (Completion(row["text"]),), id=str(len(texts)), where=where))
    return texts or None
