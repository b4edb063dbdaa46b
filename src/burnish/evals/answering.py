"""The answers that an evaluation needs: taken from its folder where they were had before, asked for where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.answers.sampler import Decoding
from burnish.config import load_partly
from burnish.config.evaluation import AnswerSuite, EvaluationConfig
from burnish.data.identity import digest, question_key
from burnish.data.prompts import to_answer
from burnish.evals.models import Model, Text
from burnish.findings import counted
from burnish.group import Group, transcript
from burnish.reports.evals.records import Kept, ModelAnswer
from burnish.runlog.progress import Progress

AT_ONCE = 32  # answers of a call; what was had before an interruption is kept


@dataclass(frozen=True)
class AnswerRequest:
    """What every model of a suite is asked: the same prompts, the same way, with the same draws."""

    prompts: tuple[Group, ...]
    k: int
    decoding: Decoding
    seed: int

    def with_seed(self, seed: int) -> AnswerRequest:
        return AnswerRequest(self.prompts, self.k, self.decoding, seed)


def prompt_id(prompt: Group) -> str:
    """A prompt's name in records: a hash of its messages and tools."""
    return digest(question_key(prompt)).hex()[:16]


def request_of(evaluation: EvaluationConfig, suite: AnswerSuite, source: str) -> AnswerRequest:
    """What a suite asks: each different prompt of its source once, up to `limit`. Raises DataError without any."""
    settings = load_partly(None, [])
    run = settings.model_copy(
        update={
            "data": evaluation.data.model_copy(update={"limit": None}),
            "source": settings.source.model_copy(update={"prompts": source, "format": suite.format}),
        }
    )
    prompts: dict[str, Group] = {}
    for group in to_answer(run, source):
        prompts.setdefault(prompt_id(group), group)
    decoding = Decoding(suite.max_new_tokens, suite.heat, suite.top_p, suite.top_k)
    return AnswerRequest(tuple(prompts.values())[: suite.limit], suite.k, decoding, evaluation.seed)


def fitting(request: AnswerRequest, models: Sequence[Model]) -> tuple[AnswerRequest, str]:
    """(the request without the prompts that some model cannot answer, a line about them or an empty one).

    They are left out for every model, so that all answer the same. Raises DataError where a file of answers lacks one.
    """
    unfit = {place for model in models for place in model.unfit(request.prompts, request.decoding.max_new_tokens)}
    if not unfit:
        return request, ""
    kept = tuple(prompt for place, prompt in enumerate(request.prompts) if place not in unfit)
    line = f"{counted(len(unfit), 'prompt')} left out for every model: with the answer they pass a model's positions"
    return AnswerRequest(kept, request.k, request.decoding, request.seed), line


class AnswerBook:
    """The answers of an evaluation's models, kept in its folder."""

    def __init__(self, folder: Path, models: Mapping[str, Model], progress: Progress) -> None:
        self.models, self.progress = models, progress
        self.kept = {name: Kept(folder / "answers" / f"{name}.jsonl", ModelAnswer) for name in models}

    def of(self, name: str, request: AnswerRequest) -> dict[str, list[ModelAnswer]]:
        """A model's answers by the prompt's id, in the order of the request."""
        model, kept = self.models[name], self.kept[name]
        keys = {prompt_id(p): [_key(model, request, p, n) for n in range(request.k)] for p in request.prompts}
        missing = [p for p in request.prompts if any(kept.get(key) is None for key in keys[prompt_id(p)])]
        if missing:
            tick = self.progress.stage(f"{name} answers", "answers")
            size = max(1, AT_ONCE // request.k)
            for start in range(0, len(missing), size):
                chunk = missing[start : start + size]
                texts = model(chunk, request.k, request.decoding, request.seed)
                kept.add(_records(chunk, texts, keys))
                tick(min(start + size, len(missing)) * request.k, len(missing) * request.k)
        return {
            prompt: [answer for key in own if (answer := kept.get(key)) is not None] for prompt, own in keys.items()
        }


def _records(
    prompts: Sequence[Group], texts: Sequence[Sequence[Text]], keys: Mapping[str, Sequence[str]]
) -> list[ModelAnswer]:
    records = []
    for prompt, answers in zip(prompts, texts, strict=True):
        name, asked = prompt_id(prompt), transcript(prompt.prompt)
        for number, text in enumerate(answers):
            key = keys[name][number]
            records.append(ModelAnswer(key, name, number, text.text, text.tokens, text.finish, asked, prompt.id))
    return records


def _key(model: Model, request: AnswerRequest, prompt: Group, number: int) -> str:
    """A hash of all that decides an answer. A greedy one depends on no seed, and a draw on no number of draws."""
    decoding = repr(request.decoding)
    seed = "" if request.decoding.temperature == 0 else str(request.seed)
    return digest(model.identity, decoding, seed, question_key(prompt), str(number)).hex()
