"""Rewards of fresh answers -> advantages at every token, by each objective that asks for some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.answers.answered import Answered
from burnish.answers.figures import Figures
from burnish.group import EncodedGroup, Rollout, Scores, Unjudged
from burnish.objectives.advantages import Advantages, RolloutBatch
from burnish.objectives.mixture import Mixture, WeightedObjective

State = Mapping[str, Mapping[str, float]]  # what an objective's advantages carry from refresh to refresh


def with_advantages(
    mixture: Mixture, answered: Sequence[Answered], cap: float, state: State
) -> tuple[list[Answered], State, Figures]:
    """(the prompts with advantages in their rollouts, the state carried on, figures).

    Each token's advantage is weighted by min(trainer's / sampler's probability, `cap`): truncated importance sampling
    of what the two compute differently. Answers of prompts that nobody scored take no part.
    """
    parts = [part for part in mixture.parts if part.objective.advantages is not None]
    scored = [a for a in answered if isinstance(a.encoded.feedback, Scores)]
    if not parts or not scored:
        return list(answered), state, {}
    rollouts, batch = _rollout_batch([a.encoded for a in scored])
    log_ratios = _log_ratios(rollouts)
    weights = [ratio.exp().clamp(max=cap) for ratio in log_ratios]
    figures: Figures = {"mismatch/capped": float((torch.cat(weights) >= cap).double().mean())}
    groups, states = [a.encoded for a in scored], dict(state)
    for part in parts:
        assert part.objective.advantages is not None
        name = part.objective.name
        settings = {k: v for k, v in part.params.items() if k in part.objective.advantage_settings}
        advantages = part.objective.advantages(replace(batch, state=state.get(name, {})), **settings)
        states[name] = dict(advantages.state)
        figures |= dict(advantages.metrics)
        groups = _written(groups, name, advantages, _weights_of(part, weights, log_ratios, cap))
    by_place = iter(groups)
    return (
        [replace(a, encoded=next(by_place)) if isinstance(a.encoded.feedback, Scores) else a for a in answered],
        states,
        figures,
    )


def _rollout_batch(groups: Sequence[EncodedGroup]) -> tuple[list[Rollout], RolloutBatch]:
    """What the functions of advantages look at: rewards, and by token what policy, reference and value head said."""
    rollouts = [group.rollout for group in groups if group.rollout is not None]

    def rows(name: str) -> list[Tensor]:
        return [torch.tensor(row, dtype=torch.float64) for rollout in rollouts for row in getattr(rollout, name)]

    rewards = [value for g in groups if isinstance(g.feedback, Scores) for value in g.feedback.values]
    prompt = [number for number, group in enumerate(groups) for _ in group.completion_ids]
    batch = RolloutBatch(
        torch.tensor(rewards, dtype=torch.float64), torch.tensor(prompt), rows("policy"), rows("reference") or None,
        rows("values") or None, rollouts[0].limit,
    )  # fmt: skip
    return rollouts, batch


def _log_ratios(rollouts: Sequence[Rollout]) -> list[Tensor]:
    """By answer and token, trainer's log-prob less sampler's."""
    return [
        torch.tensor(policy, dtype=torch.float64) - torch.tensor(behavior, dtype=torch.float64)
        for rollout in rollouts
        for policy, behavior in zip(rollout.policy, rollout.behavior, strict=True)
    ]


def _weights_of(
    part: WeightedObjective, by_token: list[Tensor], log_ratios: Sequence[Tensor], cap: float
) -> list[Tensor]:
    """Importance weights by answer and token; of a whole-answer ratio the one of the answer, at each of its tokens."""
    if part.params.get("level") != "sequence_sum":
        return by_token
    return [ratio.sum().exp().clamp(max=cap).expand(len(ratio)) for ratio in log_ratios]


def _written(
    groups: Sequence[EncodedGroup], name: str, advantages: Advantages, weights: Sequence[Tensor]
) -> list[EncodedGroup]:
    """The groups with one objective's advantages (and returns); those it leaves out whole are Unjudged."""
    weighted = [tuple((a * w).tolist()) for a, w in zip(advantages.by_token, weights, strict=True)]
    returns = None if advantages.returns is None else [tuple(row.tolist()) for row in advantages.returns]
    kept = [True] * len(weighted) if advantages.kept is None else advantages.kept.tolist()
    written, first = [], 0
    for group in groups:
        assert group.rollout is not None
        last = first + len(group.completion_ids)
        rollout = replace(
            group.rollout,
            advantages={**group.rollout.advantages, name: tuple(weighted[first:last])},
            returns={**group.rollout.returns, **({} if returns is None else {name: tuple(returns[first:last])})},
        )
        feedback = group.feedback if any(kept[first:last]) else Unjudged("rewards all alike")
        written.append(replace(group, rollout=rollout, feedback=feedback))
        first = last
    return written
