"""Reward models as judges: any sequence classifier with one label, alone or in an ensemble, bounded if asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from burnish import config as configuration
from burnish.answers.judges.ensemble import combine
from burnish.config import RewardModelConfig
from burnish.data import render, tokenizers
from burnish.engine import model, reward_model, scoring
from burnish.engine.candidates import Candidate, find
from burnish.engine.engine import Engine
from burnish.engine.loading import make_engine
from burnish.errors import ConfigError, ModelError
from burnish.group import Completion, EncodedGroup, Feedback, Group, Message, Scores, Turns, Unjudged


@dataclass
class Member:
    """A reward model with its tokenizer."""

    name: str
    engine: Engine
    renderer: render.Renderer
    longest: int  # tokens of prompt and answer that it is exact for
    mean: float = 0.0  # of its rewards on held-out answers of its training
    sd: float = 1.0

    def score(self, groups: Sequence[Group]) -> list[tuple[float, ...] | None]:
        """The rewards of every group's answers; None for a group with a text that is too long for the model."""
        encoded = self.renderer.encode_many(groups)
        policy = self.engine.policy
        rows = policy.base.get_input_embeddings().weight.shape[0]
        tokenizers.refuse_foreign_ids(self.renderer.tokenizer, rows, policy.path, encoded)
        fitting = [group for group in encoded if self._fits(group)]
        rewards = iter(scoring.rewards(self.engine, fitting))
        return [next(rewards) if self._fits(group) else None for group in encoded]

    def _fits(self, group: EncodedGroup) -> bool:
        longest = max(map(len, group.completion_ids), default=0)
        return bool(group.prompt_ids) and len(group.prompt_ids) + longest <= self.longest


@dataclass
class RewardModel:
    """Judges by a reward model's reward or by an ensemble's combined score; weights are loaded on the first call."""

    config: RewardModelConfig
    name: str
    candidates: list[Candidate]
    members: list[Member] = field(default_factory=list)

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores for every group; Unjudged where its texts are too long, or the reference answer is missing."""
        if not self.members:
            self.members = [_open(candidate, self.config) for candidate in self.candidates]
        if self.config.bound != "reference":
            return self._judged(groups, groups)
        extended = [_with_reference_answer(group) for group in groups]
        judged = self._judged(groups, [longer or group for group, longer in zip(groups, extended, strict=True)])
        missing = Unjudged("judge.bound = 'reference' needs the row's field 'reference'")
        return [missing if longer is None else feedback for longer, feedback in zip(extended, judged, strict=True)]

    def _judged(self, groups: Sequence[Group], scored: Sequence[Group]) -> list[Feedback]:
        """The feedback on `groups` from the rewards of `scored`, which may have the reference answer at their end."""
        by_member = [member.score(scored) for member in self.members]
        feedback: list[Feedback] = []
        for number, group in enumerate(groups):
            rows = [rewards[number] for rewards in by_member]
            known = [row for row in rows if row is not None]
            if len(known) < len(rows):
                feedback.append(Unjudged(f"prompt and answer are longer than {self.name} is exact for"))
                continue
            feedback.append(Scores(self._bounded(self._combined(known), len(group.completions))))
        return feedback

    def _combined(self, rows: list[tuple[float, ...]]) -> list[float]:
        if len(rows) == 1:
            return list(rows[0])
        extra = {"coef": self.config.coef} if self.config.combine == "uncertainty" else {}
        means, sds = [member.mean for member in self.members], [member.sd for member in self.members]
        return combine([list(row) for row in rows], self.config.combine, means=means, sds=sds, **extra)

    def _bounded(self, values: list[float], count: int) -> tuple[float, ...]:
        """The scores of the first `count` values, bounded as configured; a reference answer's value is the last."""
        if self.config.bound == "none":
            return tuple(values)
        level = values[count] if self.config.bound == "reference" and len(values) > count else 0.0
        return tuple(_sigmoid(value - level) for value in values[:count])


def make(config: RewardModelConfig) -> RewardModel:
    """The judge of a table. Raises ConfigError or ModelError before any weight loads."""
    paths = [config.path] if isinstance(config.path, str) else list(config.path)
    if not any(paths):
        raise ConfigError("judge.path is missing: name the folder of a reward model, or of several")
    candidates = [candidate for _, members in find(paths) for candidate in members]
    implicit = next((candidate for candidate in candidates if candidate.implicit), None)
    if implicit is not None:
        raise ModelError(
            f"{implicit.folder} is a language model, not a reward model: it has no head that gives a number"
        )
    if config.combine != "mean" and len(candidates) == 1:
        raise ConfigError(
            f"judge.combine = '{config.combine}' is about several reward models, and judge.path names one"
        )
    return RewardModel(config, "reward_model", candidates)


def _open(candidate: Candidate, config: RewardModelConfig) -> Member:
    run = configuration.load_partly(None, ["model.dtype=float32"])
    source = run.model.model_copy(
        update={"path": str(candidate.folder), "trust_remote_code": config.trust_remote_code,
                "allow_pickle": config.allow_pickle}
    )  # fmt: skip
    policy = reward_model.open_reward_model(source)
    engine = make_engine(policy, run)[0]
    model.cast_for_compute(policy)
    policy.module.requires_grad_(False)
    full = reward_model.reads_full(str(candidate.folder))
    tokenizer = tokenizers.load_tokenizer(str(candidate.folder), trust_remote_code=config.trust_remote_code)
    renderer = render.Renderer(tokenizer, full=full)
    most = getattr(policy.base.config.get_text_config(), "max_position_embeddings", None)
    mean, sd = _moments(candidate)
    return Member(candidate.name, engine, renderer, most if isinstance(most, int) and most > 0 else 1 << 30, mean, sd)


def _moments(candidate: Candidate) -> tuple[float, float]:
    """Mean and standard deviation of the model's rewards in its training; (0, 1) where they were not saved."""
    about = reward_model.about_of(candidate.folder)
    return float(about.get("mean", 0.0)), float(about.get("sd", 1.0)) or 1.0


def _with_reference_answer(group: Group) -> Group | None:
    """The group with the row's reference answer as its last answer; None where the row has none."""
    text = group.meta.get("reference")
    if not isinstance(text, str):
        return None
    turns: Turns = text if isinstance(group.prompt, str) else (Message("assistant", text),)
    return replace(group, completions=(*group.completions, Completion(turns)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
