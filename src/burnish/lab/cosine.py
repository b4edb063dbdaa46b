"""Do the two ends of the dial begin alike? The gradient of DPO on pairs, and that of on-policy policy gradient on fresh
answers, at the same weights: their cosine, corrected for the noise that each has by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish import config
from burnish.engine import model
from burnish.engine.engine import Engine, token_scores
from burnish.engine.loading import make_engine
from burnish.engine.reference import Live
from burnish.group import EncodedGroup
from burnish.loop import online
from burnish.loop.prepare import Prepared, prepare
from burnish.objectives.mixture import Mixture


@dataclass(frozen=True)
class Cosines:
    """Cosines at the start, raw and corrected: DPO on static pairs against RLOO with gold, and with the reward model;
    and those two with each other."""

    raw: dict[str, float]
    corrected: dict[str, float]

    def figures(self) -> dict[str, float]:
        return self.corrected | {f"{name}_raw": value for name, value in self.raw.items()}

    def words(self) -> str:
        names = {"dpo_gold": "DPO and RLOO with gold", "dpo_rm": "DPO and RLOO with the reward model"}
        parts = [f"{text} {self.corrected[name]:.2f} (raw {self.raw[name]:.2f})" for name, text in names.items()]
        return f"cosine of {', '.join(parts)}"


def at_start(folder: Path, pairs: int, seed: int) -> Cosines:
    """Of the policy, pairs and reward model in `folder`; about `pairs` pairs, and as many answers of each judge."""
    common = [f"model.path={folder / 'sft'}", "model.dtype=float32", "objective.beta=0.1", f"seed={seed}"]
    offline = prepare(config.load(None, [*common, f"data.train={folder / 'pairs.jsonl'}", f"data.limit={pairs}"]))
    engine = make_engine(model.load_policy(offline.run.model), offline.run)[0]
    halves = {"dpo": _halves(engine, offline.mixture, offline.train)}
    judges = {"gold": ["judge.kind=verifier", "judge.name=burnish.lab.gold:utility"],
              "rm": ["judge.kind=reward_model", f"judge.path={folder / 'rm'}"]}  # fmt: skip
    for name, judge in judges.items():
        prepared = prepare(
            config.load(None, [
                f"model.path={folder / 'sft'}", "model.dtype=float32", f"seed={seed}", "objective.name=rloo",
                f"source.prompts={folder / 'prompts.jsonl'}", "source.refresh_every=1", "source.k=4",
                "source.max_new_tokens=16", *judge,
            ])
        )  # fmt: skip
        halves[name] = _halves(engine, prepared.mixture, _sampled(prepared, engine, pairs // 2))
    raw, corrected = {}, {}
    for a, b in (("dpo", "gold"), ("dpo", "rm"), ("rm", "gold")):
        (a1, a2), (b1, b2) = halves[a], halves[b]
        raw[f"{a}_{b}"] = cosine(a1 + a2, b1 + b2)
        reliable = [2 * r / (1 + r) for r in (cosine(a1, a2), cosine(b1, b2))]
        corrected[f"{a}_{b}"] = raw[f"{a}_{b}"] / math.sqrt(max(1e-9, reliable[0]) * max(1e-9, reliable[1]))
    return Cosines(raw, corrected)


def _sampled(prepared: Prepared, engine: Engine, count: int) -> list[EncodedGroup]:
    """Groups of the policy's own answers to about so many prompts, with advantages."""
    reference = Live(engine, prepared.run.reference, {})
    answerer = online.answerer(prepared, engine, reference, online.judges_of(prepared.run).judge, None)
    prompts = [prepared.prompts[i % len(prepared.prompts)] for i in range(count)]
    return [group for group in answerer(prompts, prepared.run.seed, 0).groups if group is not None]


def _halves(engine: Engine, mixture: Mixture, groups: list[EncodedGroup]) -> tuple[Tensor, Tensor]:
    """The gradients of two halves of the groups, every other one."""
    first, second = (gradient(engine, mixture, groups[start::2]) for start in (0, 1))
    return first, second


def gradient(engine: Engine, mixture: Mixture, groups: list[EncodedGroup]) -> Tensor:
    """The mean loss's gradient with respect to all weights, where the policy is its own reference; one flat vector."""
    loss: Any = mixture.at(groups)
    engine.policy.module.zero_grad()
    for batch in engine.plan(groups):
        found = engine.score(batch)
        scores = token_scores(found, found.logps.detach(), batch)
        loss.total(loss(scores, batch)).backward()
    return torch.cat([p.grad.flatten() for _, p in engine.policy.trainable() if p.grad is not None])


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
