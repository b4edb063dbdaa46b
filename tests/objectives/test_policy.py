"""Policy-gradient objectives, each against its formula, and what must coincide (float64)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from math import exp
from statistics import mean
from typing import Any

import pytest
import torch
from pytest import approx
from torch import Tensor

from burnish.errors import ConfigError
from burnish.objectives import TABLE
from burnish.objectives.policy import (
    dapo,
    dr_grpo,
    grpo,
    gspo,
    kl_loss,
    pg,
    ppo,
    reinforce,
    rloo,
    value_loss,
)
from burnish.tensors import Losses, Rollouts, TokenScores
from tests.objectives.microbatch import answers

# two answers: new, old and reference log-probs by token, and an advantage each
P = [[-1.0, -2.0], [-0.5, -1.5, -0.25]]
O = [[-1.5, -1.9], [-0.9, -1.5, -0.1]]
Q = [[-1.25, -1.5], [-0.75, -1.0, -1.0]]
A = [2.0, -0.5]
VALUES, OLD_VALUES, RETURNS = [0.5, 1.0, -1.0, 0.0, 2.0], [0.4, 0.5, -0.5, 0.1, 2.0], [1.0, 1.0, 0.5, -1.0, 1.0]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


SCORES = answers(P, Q)
ROLLOUTS = Rollouts(
    column(flat(O)), column([A[0]] * 2 + [A[1]] * 3), torch.ones(5, dtype=torch.bool), column(VALUES),
    column(OLD_VALUES), column(RETURNS), limit=7,
)  # fmt: skip


def losses_of(function: Callable[..., Losses], **settings: Any) -> list[float]:
    """One for each answer, or for each token: as the objective's unit says."""
    losses = function(SCORES, ROLLOUTS, **settings)
    values: list[float] = losses.values.tolist()
    assert len(values) == {"completion": 2, "token": 5}[losses.unit]
    return values


def clipped(rho: float, advantage: float, low: float = 0.2, high: float = 0.2) -> float:
    return -min(rho * advantage, min(max(rho, 1 - low), 1 + high) * advantage)


def by_token(low: float = 0.2, high: float = 0.2, kl: Callable[[float], float] = lambda d: 0.0) -> list[list[float]]:
    """The clipped loss of every token of both answers, with a KL of d = p - q."""
    return [
        [clipped(exp(p - o), A[i], low, high) + kl(p - q) for p, o, q in zip(P[i], O[i], Q[i], strict=True)]
        for i in (0, 1)
    ]


def k2(d: float) -> float:
    return d**2 / 2


def k3(d: float) -> float:
    return exp(-d) - 1 + d


def test_reinforce() -> None:
    assert losses_of(reinforce) == approx([-A[0] * sum(P[0]), -A[1] * sum(P[1])])
    assert losses_of(reinforce, agg="token_mean") == approx([-a * p for a, row in zip(A, P, strict=True) for p in row])


def test_rloo() -> None:
    assert losses_of(rloo) == approx([-A[0] * sum(P[0]), -A[1] * sum(P[1])])


def test_grpo() -> None:
    expected = [mean(row) for row in by_token(kl=lambda d: 0.04 * k3(d))]
    assert losses_of(grpo) == approx(expected)


def test_dr_grpo() -> None:
    """Over the most tokens that an answer may have, or a constant that is set."""
    assert losses_of(dr_grpo) == approx([sum(row) / 7 for row in by_token()])
    assert losses_of(dr_grpo, l_max=4) == approx([sum(row) / 4 for row in by_token()])


def test_dapo() -> None:
    assert losses_of(dapo) == approx(flat(by_token(high=0.28)))


def test_gspo() -> None:
    ratios = [exp(mean(p - o for p, o in zip(P[i], O[i], strict=True))) for i in (0, 1)]
    assert losses_of(gspo, eps_low=0.1, eps_high=0.1) == approx(
        [clipped(rho, a, 0.1, 0.1) for rho, a in zip(ratios, A, strict=True)]
    )


def test_value_loss() -> None:
    held = [o + max(-0.2, min(0.2, v - o)) for v, o in zip(VALUES, OLD_VALUES, strict=True)]
    expected = [max((v - r) ** 2, (c - r) ** 2) / 2 for v, c, r in zip(VALUES, held, RETURNS, strict=True)]
    assert losses_of(value_loss) == approx(expected)
    assert losses_of(value_loss, clip=None) == approx([(v - r) ** 2 / 2 for v, r in zip(VALUES, RETURNS, strict=True)])


def test_ppo() -> None:
    policy, value = flat(by_token(kl=lambda d: 0.3 * k2(d))), losses_of(value_loss)
    expected = [x + 0.1 * v for x, v in zip(policy, value, strict=True)]
    assert losses_of(ppo, kl_coef=0.3, value_coef=0.1) == approx(expected)


def test_kl_loss() -> None:
    d = [p - q for rows in zip(P, Q, strict=True) for p, q in zip(*rows, strict=True)]
    assert losses_of(kl_loss, kl="k1") == approx(d)
    assert losses_of(kl_loss, kl="k2") == approx([k2(x) for x in d])
    assert losses_of(kl_loss, kl="k3") == approx([k3(x) for x in d])


@pytest.mark.parametrize(
    ("agg", "expected"),
    [
        ("token_mean", flat(by_token())),
        ("seq_mean_token_mean", [mean(row) for row in by_token()]),
        ("seq_mean_token_sum", [sum(row) for row in by_token()]),
        ("const", [sum(row) / 4 for row in by_token()]),
    ],
)
def test_pg(agg: str, expected: list[float]) -> None:
    assert losses_of(pg, agg=agg, l_max=4 if agg == "const" else None) == approx(expected)


def test_pg_with_one_ratio_a_sequence() -> None:
    ratios = [exp(sum(P[i]) - sum(O[i])) for i in (0, 1)]
    expected = [clipped(rho, a) for rho, a in zip(ratios, A, strict=True)]
    assert losses_of(pg, level="sequence_sum") == approx(expected)


def test_the_dual_clip_bounds_the_loss_of_a_negative_advantage() -> None:
    far = Rollouts(SCORES.policy - 3.0, torch.full((5,), -1.0, dtype=torch.float64), ROLLOUTS.mask)
    assert pg(SCORES, far, agg="token_mean").values.tolist() == approx([exp(3)] * 5)
    assert pg(SCORES, far, agg="token_mean", dual_clip=3.0).values.tolist() == approx([3.0] * 5)


LENGTHS = [3, 5, 1, 4]


def drawn(lengths: list[int] = LENGTHS, on_policy: bool = False) -> tuple[TokenScores, Rollouts]:
    """Random answers whose policy takes gradients."""
    generator = torch.Generator().manual_seed(0)
    total = sum(lengths)
    new = -2 * torch.rand(total, generator=generator, dtype=torch.float64)
    old = new.clone() if on_policy else new + 0.3 * torch.randn(total, generator=generator, dtype=torch.float64)
    reference = new + 0.3 * torch.randn(total, generator=generator, dtype=torch.float64)
    sizes = torch.tensor(lengths)
    completion_of = torch.arange(len(lengths)).repeat_interleave(sizes)
    advantage = torch.randn(len(lengths), generator=generator, dtype=torch.float64)[completion_of]
    scores = TokenScores(new.requires_grad_(True), reference, completion_of, sizes, torch.arange(len(lengths)) // 2)
    return scores, Rollouts(old, advantage, torch.ones(total, dtype=torch.bool))


def gradient(function: Callable[..., Losses], scores: TokenScores, rollouts: Rollouts, **settings: Any) -> Tensor:
    """Of the mean over the step's units."""
    losses = function(scores, rollouts, **settings)
    units = len(scores.lengths) if losses.unit == "completion" else len(losses.values)
    return torch.autograd.grad(losses.values.sum() / units, scores.policy)[0]


@pytest.mark.parametrize("name", [row.name for row in TABLE.values() if row.view == "rollouts" and row.advantages])
def test_a_step_raises_the_answers_that_are_better_than_the_baseline(name: str) -> None:
    """sum A dp > 0 for a small step down the gradient, and dp has the sign of A at every token."""
    scores, rollouts = drawn(on_policy=True)
    values = torch.zeros(sum(LENGTHS), dtype=torch.float64)
    rollouts = replace(rollouts, values=values, old_values=values, returns=values, limit=9)
    step = -gradient(TABLE[name].function, replace(scores, reference=scores.policy.detach()), rollouts)
    assert float((rollouts.advantage * step).sum()) > 0 and torch.equal(step.sign(), rollouts.advantage.sign())


@pytest.mark.parametrize("agg", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const"])
def test_on_policy_the_clipped_gradient_is_reinforce(agg: str) -> None:
    scores, rollouts = drawn(on_policy=True)
    settings = {"agg": agg, "l_max": 7 if agg == "const" else None}
    clipped_gradient = gradient(pg, scores, rollouts, **settings)
    torch.testing.assert_close(clipped_gradient, gradient(reinforce, scores, rollouts, **settings), rtol=1e-12, atol=0)


def test_gspo_and_its_token_form_have_one_gradient() -> None:
    scores, rollouts = drawn()
    wide = {"eps_low": 0.9, "eps_high": 9.0}
    sequence, token = (gradient(pg, scores, rollouts, level=level, **wide) for level in ("sequence", "sequence_token"))
    torch.testing.assert_close(sequence, token, rtol=1e-12, atol=1e-15)


def test_aggregations_coincide_at_equal_lengths() -> None:
    scores, rollouts = drawn(lengths=[4, 4, 4])
    first, *others = (
        gradient(pg, scores, rollouts, agg=agg, l_max=4 if agg == "const" else None)
        for agg in ("token_mean", "seq_mean_token_mean", "const")
    )
    for other in others:
        torch.testing.assert_close(first, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [pg, reinforce, kl_loss])
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan, 1000.0])
def test_masked_is_removed(function: Callable[..., Losses], poison: float) -> None:
    """Whatever stands at a masked token, loss and gradients are those without it."""
    scores, rollouts = drawn(lengths=[4, 3])
    keep = torch.tensor([True, False, True, True, True, True, False])
    policy = torch.where(keep, scores.policy.detach(), poison).requires_grad_(True)
    settings = {"kl_coef": 0.1} if function is pg else {}
    masked = gradient(function, replace(scores, policy=policy), replace(rollouts, mask=keep), **settings)
    assert torch.equal(masked[~keep], torch.zeros(2, dtype=torch.float64))
    assert scores.reference is not None
    shorter = TokenScores(
        scores.policy.detach()[keep].requires_grad_(True), scores.reference[keep], scores.completion_of[keep],
        torch.tensor([3, 2]), scores.group_of,
    )  # fmt: skip
    bare = Rollouts(rollouts.behavior[keep], rollouts.advantage[keep], torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(gradient(function, shorter, bare, **settings), masked[keep], rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", ["token", "sequence_sum"])
@pytest.mark.parametrize("advantage", [0.0, 1.0])
def test_a_huge_ratio_without_effect_leaves_no_trace(level: Any, advantage: float) -> None:
    """A = 0, or a positive A beyond the clip: rho is infinite, the gradient exactly 0."""
    scores, _ = drawn(lengths=[2])
    behavior = scores.policy.detach() - torch.tensor([900.0, 0.0], dtype=torch.float64)
    rollouts = Rollouts(behavior, torch.full((2,), advantage, dtype=torch.float64), torch.ones(2, dtype=torch.bool))
    values = pg(scores, rollouts, level=level).values
    (by_token,) = torch.autograd.grad(values.sum(), scores.policy)
    assert values.isfinite().all() and float(by_token[0]) == 0.0


def test_microbatches_add_up() -> None:
    scores, rollouts = drawn()
    whole = pg(scores, rollouts, agg="token_mean", kl_coef=0.1).values.sum()
    parts = torch.zeros((), dtype=torch.float64)
    assert scores.reference is not None
    for i, n in enumerate(LENGTHS):
        rows = slice(sum(LENGTHS[:i]), sum(LENGTHS[: i + 1]))
        zeros = torch.zeros(n, dtype=torch.long)
        part = TokenScores(scores.policy[rows], scores.reference[rows], zeros, torch.tensor([n]), zeros[:1])
        of_part = Rollouts(rollouts.behavior[rows], rollouts.advantage[rows], rollouts.mask[rows])
        parts = parts + pg(part, of_part, agg="token_mean", kl_coef=0.1).values.sum()
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)


def test_finite_differences_and_settings_that_do_not_fit() -> None:
    scores, rollouts = drawn()
    assert torch.autograd.gradcheck(
        lambda p: pg(replace(scores, policy=p), rollouts, kl_coef=0.2).values, (scores.policy,)
    )
    with pytest.raises(ConfigError, match="give both"):
        pg(scores, rollouts, agg="const")
    with pytest.raises(ConfigError, match="in the reward"):
        pg(scores, rollouts, level="sequence_sum", kl_coef=0.1)
