"""Reward models as judges: ours or any sequence classifier with one label, one or an ensemble, bounded if asked for."""

from __future__ import annotations

import json
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
from burnish.group import Completion, EncodedGroup, Feedback, Group, Message, Scores, Unjudged


@dataclass
class Member:
    """One reward model with its own tokenizer; mean and standard deviation of its rewards where it was trained."""

    name: str
    engine: Engine
    renderer: render.Renderer
    longest: int
    mean: float = 0.0
    sd: float = 1.0

    def score(self, groups: Sequence[Group]) -> list[tuple[float, ...] | None]:
        """A number for every answer; None for a group with a text that the model is too short for."""
        encoded = self.renderer.encode_many(groups)
        fitting = [group for group in encoded if self._fits(group)]
        found = iter(scoring.rewards(self.engine, fitting)) if fitting else iter(())
        return [next(found) if self._fits(group) else None for group in encoded]

    def _fits(self, group: EncodedGroup) -> bool:
        longest = max(map(len, group.completion_ids), default=0)
        return bool(group.prompt_ids) and len(group.prompt_ids) + longest <= self.longest


@dataclass
class RewardModel:
    """Judges with one reward model or the ensemble's combined score; weights are loaded when first asked."""

    config: RewardModelConfig
    name: str
    candidates: list[Candidate]
    members: list[Member] = field(default_factory=list)

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores for every group; Unjudged where its texts are too long, or the reference answer is missing."""
        if not self.members:
            self.members = [_open(one) for one in self.candidates]
        if self.config.bound != "reference":
            return self._told(groups, groups)
        whole = [_beside(group) for group in groups]
        told = self._told(groups, [extended or group for group, extended in zip(groups, whole, strict=True)])
        return [
            Unjudged("judge.bound = 'reference' needs the row's field 'reference'") if extended is None else one
            for extended, one in zip(whole, told, strict=True)
        ]  # fmt: skip

    def _told(self, groups: Sequence[Group], scored: Sequence[Group]) -> list[Feedback]:
        by_member = [member.score(scored) for member in self.members]
        found: list[Feedback] = []
        for number, group in enumerate(groups):
            rows = [rewards[number] for rewards in by_member]
            known = [row for row in rows if row is not None]
            if len(known) < len(rows):
                found.append(Unjudged(f"prompt and answer are longer than {self.name} is exact for"))
                continue
            found.append(Scores(self._bounded(self._combined(known), len(group.completions))))
        return found

    def _combined(self, rows: list[tuple[float, ...]]) -> list[float]:
        if len(rows) == 1:
            return list(rows[0])
        extra = {"coef": self.config.coef} if self.config.combine == "uncertainty" else {}
        means, sds = [one.mean for one in self.members], [one.sd for one in self.members]
        return combine([list(row) for row in rows], self.config.combine, means=means, sds=sds, **extra)

    def _bounded(self, values: list[float], count: int) -> tuple[float, ...]:
        """With `reference`, the last value is the reference answer's."""
        if self.config.bound == "none":
            return tuple(values)
        level = values[count] if self.config.bound == "reference" and len(values) > count else 0.0
        return tuple(_sigmoid(value - level) for value in values[:count])


def make(config: RewardModelConfig) -> RewardModel:
    """The judge that a table names. Raises ConfigError or ModelError before any weight loads."""
    paths = [config.path] if isinstance(config.path, str) else list(config.path)
    if not any(paths):
        raise ConfigError("judge.path is missing: name the folder of a reward model, or of several")
    candidates = [one for _, members in find(paths) for one in members]
    implicit = next((one for one in candidates if one.implicit), None)
    if implicit is not None:
        raise ModelError(
            f"{implicit.folder} is a language model, not a reward model: it has no head that gives a number"
        )
    if config.combine != "mean" and len(candidates) == 1:
        raise ConfigError(
            f"judge.combine = '{config.combine}' is about several reward models, and judge.path names one"
        )
    return RewardModel(config, "reward_model", candidates)


def _open(one: Candidate) -> Member:
    run = configuration.load_partly(None, ["model.dtype=float32"])
    source = run.model.model_copy(update={"path": str(one.folder)})
    policy = reward_model.open_reward_model(source)
    engine = make_engine(policy, run)[0]
    model.cast_for_compute(policy)
    policy.module.requires_grad_(False)
    renderer = render.Renderer(tokenizers.load_tokenizer(str(one.folder)))
    most = getattr(policy.base.config.get_text_config(), "max_position_embeddings", None)
    mean, sd = _moments(one)
    return Member(one.name, engine, renderer, most if isinstance(most, int) and most > 0 else 1 << 30, mean, sd)


def _moments(one: Candidate) -> tuple[float, float]:
    """Where the model's rewards lay in training; (0, 1) for a model that does not say."""
    about = one.folder / reward_model.ABOUT
    if not about.exists():
        return 0.0, 1.0
    told = json.loads(about.read_text(encoding="utf-8"))
    return float(told.get("mean", 0.0)), float(told.get("sd", 1.0)) or 1.0


def _beside(group: Group) -> Group | None:
    """The group with the row's reference answer as one more answer; None where there is none."""
    text = group.meta.get("reference")
    if not isinstance(text, str):
        return None
    turns: str | tuple[Message, ...] = text if isinstance(group.prompt, str) else (Message("assistant", text),)
    return replace(group, completions=(*group.completions, Completion(turns)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
