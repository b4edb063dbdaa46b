"""A refresh: prompts -> answers of the policy as it stands -> judged -> measured -> with advantages.

One record per prompt (`answered.Answered`) grows from step to step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.answers.advantages import State, with_advantages
from burnish.answers.answered import NOT_JUDGED, Answered, Refresh
from burnish.answers.figures import Figures, figures, mismatch
from burnish.answers.judges import Judge, Reports
from burnish.answers.judges.panel import as_scores
from burnish.answers.measure import measure
from burnish.answers.objective_view import ObjectiveView
from burnish.answers.sampler import Decoding, Sampled, Sampler
from burnish.config import SourceConfig
from burnish.data.prompts import Prompt
from burnish.engine.engine import Engine
from burnish.engine.reference import Live
from burnish.group import (
    LARGEST,
    Completion,
    EncodedGroup,
    Feedback,
    Group,
    Message,
    Rollout,
    Scores,
    Unjudged,
    trainable,
)
from burnish.objectives.mixture import Mixture


@dataclass
class Answerer:
    """Has prompts answered by `sampler`, judged by `judge`, and measured by the trainer's engine and reference.

    `state` is what the objectives' advantages carry from refresh to refresh; a checkpoint holds it.
    """

    sampler: Sampler
    judge: Judge
    engine: Engine
    reference: Live | None
    mixture: Mixture
    view: ObjectiveView
    tokenizer: Any
    source: SourceConfig
    gold: Judge | None = None
    state: State = field(default_factory=dict)

    def __call__(self, prompts: Sequence[Prompt], seed: int, step: int) -> Refresh:
        """The refresh after `step` optimiser steps. Raises JudgeError where nobody answers."""
        clock = [time.perf_counter()]
        answered = self._sample(prompts, seed, step)
        clock.append(time.perf_counter())
        answered = self._judge(answered)
        clock.append(time.perf_counter())
        answered = measure(self.engine, self.reference, answered, decoding_of(self.source))
        described = self._figures(answered)
        answered, self.state, more = with_advantages(self.mixture, answered, self.source.is_cap, self.state)
        answered = [replace(a, group=self.view(a)) for a in answered]
        used = sum(a.group is not None for a in answered) / max(1, len(answered))
        clock.append(time.perf_counter())
        seconds = {
            f"seconds/{name}": end - start
            for name, start, end in zip(("sampling", "judging", "measuring"), clock, clock[1:], strict=False)
        }
        return Refresh(answered, {**described, **more, "groups_used": used, **seconds})

    def _sample(self, prompts: Sequence[Prompt], seed: int, step: int) -> list[Answered]:
        """K answers to each prompt, by one process for all; a prompt that is asked twice gets other answers."""

        def draw() -> list[list[Sampled]]:
            self.sampler.publish(step)
            return self.sampler(_numbered(prompts), self.source.k, decoding_of(self.source), seed, step)

        answers = self.engine.world.lead(draw)
        names = _names(prompts, step)
        return [self._answered(*row, step) for row in zip(names, prompts, answers, strict=True)]

    def _answered(self, name: str, prompt: Prompt, answers: Sequence[Sampled], step: int) -> Answered:
        """The answers as text, without the token that ends them, and as tokens with the sampler's log-probs."""
        completions = []
        for number, answer in enumerate(answers):
            ids = answer.ids[:-1] if answer.finish == "stop" else answer.ids
            text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            turns = text if isinstance(prompt.group.prompt, str) else (Message("assistant", text),)
            meta = {"finished": answer.finish == "stop", "tokens": len(answer.ids), "id": f"{name}/{number}"}
            completions.append(Completion(turns, "policy", meta))
        texts = replace(prompt.group, id=name, completions=tuple(completions), feedback=NOT_JUDGED)
        rollout = Rollout(step, tuple(a.logps for a in answers), limit=self.source.max_new_tokens)
        encoded = EncodedGroup(
            name, prompt.ids, tuple(a.ids for a in answers), tuple(a.finish == "stop" for a in answers), NOT_JUDGED,
            texts.source, texts.where, rollout,
        )  # fmt: skip
        return Answered(prompt, texts, encoded)

    def _judge(self, answered: Sequence[Answered]) -> list[Answered]:
        """The judge's feedback, less the penalty on answers that were cut, and gold's as it is."""
        texts = [a.texts for a in answered]

        def ask() -> tuple[list[Feedback], Sequence[Feedback | None]]:
            return self.judge(texts), self.gold(texts) if self.gold else [None] * len(texts)

        judged, gold = self.engine.world.lead(ask)
        judged = [_refused_extremes(feedback) for feedback in judged]
        penalty = self.source.unfinished_penalty
        charged = [_less_unfinished(feedback, group, penalty) for feedback, group in zip(judged, texts, strict=True)]
        if "rollouts" in self.view.views:  # advantages are taken from numbers: of votes, the share of them won
            charged = [as_scores(feedback, self.source.k) for feedback in charged]
        return [
            replace(a, feedback=feedback, gold=better, encoded=replace(a.encoded, feedback=feedback))
            for a, feedback, better in zip(answered, charged, gold, strict=True)
        ]

    def _figures(self, answered: Sequence[Answered]) -> Figures:
        """What the log says of the refresh: of the answers, of sampler against trainer, and of the judge itself."""
        behavior = [row for a in answered if a.encoded.rollout for row in a.encoded.rollout.behavior]
        policy = [row for a in answered if a.encoded.rollout for row in a.measured.sampled or a.measured.policy]
        about_judge = dict(self.judge.report()) if isinstance(self.judge, Reports) else {}
        return {**figures(answered), **mismatch(behavior, policy), **about_judge}


def _refused_extremes(feedback: Feedback) -> Feedback:
    """The feedback; Unjudged where a score is so large that the loss would overflow."""
    extremes = [value for value in feedback.values if not trainable(value)] if isinstance(feedback, Scores) else []
    if not extremes:
        return feedback
    return Unjudged(
        f"the judge's score of {extremes[0]:g} cannot be trained on: scores are at most {LARGEST:g} in size"
    )


def decoding_of(source: SourceConfig) -> Decoding:
    """How the configuration wants answers drawn."""
    return Decoding(source.max_new_tokens, source.temperature, source.top_p, source.top_k)


def _numbered(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts under keys that tell a repeated one's occurrences apart: `key/1`, `key/2`."""
    seen: Counter[str] = Counter()
    numbered = []
    for prompt in prompts:
        seen[prompt.key] += 1
        numbered.append(replace(prompt, key=f"{prompt.key}/{seen[prompt.key]}"))
    return numbered


def _names(prompts: Sequence[Prompt], step: int) -> list[str]:
    """A name for each group of a refresh, no two alike: its prompt's, the step, and which time where one repeats."""
    seen: Counter[str] = Counter()
    names = []
    for prompt in prompts:
        name = f"{prompt.group.id or prompt.key[:12]}@{step}"
        seen[name] += 1
        names.append(f"{name}#{seen[name]}" if seen[name] > 1 else name)
    return names


def _less_unfinished(feedback: Feedback, group: Group, penalty: float) -> Feedback:
    if not penalty or not isinstance(feedback, Scores):
        return feedback
    values = [
        value - penalty * (not completion.meta.get("finished", True))
        for value, completion in zip(feedback.values, group.completions, strict=True)
    ]
    return replace(feedback, values=tuple(values))
