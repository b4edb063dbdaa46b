"""Small microbatches for the tests of formulas, in float64: answers with log-probs by token, and their pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.objectives import TABLE
from burnish.tensors import Losses, Pairs, TokenScores

LENGTHS = [3, 5, 1, 4, 6, 2, 7, 7, 2, 2]  # completions 2i and 2i + 1 are pair i
COUNT = len(LENGTHS) // 2

# one pair to write formulas about, by token
POLICY = [[-1.0, -2.0], [-0.5, -1.5, -0.25]]
REFERENCE = [[-1.25, -1.5], [-0.75, -1.0, -1.0]]


def s(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


def answers(policy: Sequence[Sequence[float]], reference: Sequence[Sequence[float]] | None) -> TokenScores:
    """The scores of answers from the log-probs of their tokens; two answers are a group."""
    flat = [torch.tensor([x for row in rows for x in row], dtype=torch.float64) for rows in (policy, reference or [])]
    return scores_of(flat[0], flat[1] if reference else None, [len(row) for row in policy])


def pair_loss(function: Callable[..., Losses], scores: TokenScores | None = None, **settings: Any) -> float:
    """The loss of one pair: of the answers above, the first the chosen one, where none are given."""
    losses = function(scores or answers(POLICY, REFERENCE), pairs_of(1), **settings)
    assert losses.unit == "pair" and len(losses.values) == 1
    return losses.values.item()


def scores_of(policy: Tensor, reference: Tensor | None, lengths: list[int]) -> TokenScores:
    sizes = torch.tensor(lengths)
    number = torch.arange(len(lengths))
    return TokenScores(policy, reference, number.repeat_interleave(sizes), sizes, number // 2)


def draw(lengths: list[int] = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random log-probs of policy and reference for answers of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    policy = -3 * torch.rand(sum(lengths), generator=generator, dtype=torch.float64)
    return policy, policy - 0.3 * torch.randn(sum(lengths), generator=generator, dtype=torch.float64)


def pairs_of(count: int, weight: Tensor | None = None) -> Pairs:
    index = 2 * torch.arange(count)
    return Pairs(index, index + 1, torch.ones(count, dtype=torch.float64) if weight is None else weight)


def losses_of(
    name: str, settings: dict[str, Any], policy: Tensor, reference: Tensor, pairs: Pairs | None = None
) -> Losses:
    """The losses of pairs of answers of the lengths above."""
    losses: Losses = TABLE[name].function(scores_of(policy, reference, LENGTHS), pairs or pairs_of(COUNT), **settings)
    return losses


def losses_and_gradient(name: str, settings: dict[str, Any], pairs: Pairs | None = None) -> tuple[Tensor, Tensor]:
    """The losses of the random pairs, and their sum's gradient by token."""
    policy, reference = draw()
    leaf = policy.clone().requires_grad_(True)
    values = losses_of(name, settings, leaf, reference, pairs).values
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient
