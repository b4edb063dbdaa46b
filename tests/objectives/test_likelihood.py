"""Imitation and what it anchors, each against its formula (float64)."""

from __future__ import annotations

from dataclasses import replace
from math import exp, expm1, log, log1p
from typing import Any

import pytest
import torch
from pytest import approx

from burnish.objectives.likelihood import cpo, log1mexp, orpo, rpo, sft, slic_hf
from burnish.tensors import Pairs, Singles
from tests.objectives.microbatch import (
    COUNT,
    LENGTHS,
    POLICY,
    REFERENCE,
    answers,
    draw,
    losses_of,
    pair_loss,
    pairs_of,
    s,
    scores_of,
)

S_w, S_l = map(sum, POLICY)
n_w, n_l = map(len, POLICY)
D = S_w - sum(REFERENCE[0]) - (S_l - sum(REFERENCE[1]))
ALONE = answers(POLICY, None)  # without a reference


def test_sft() -> None:
    """-p_t of the tokens of the answers that are imitated, and of no other."""
    losses = sft(ALONE, Singles(torch.tensor([1]), torch.tensor([True])))
    assert losses.unit == "token" and losses.values.tolist() == [-p for p in POLICY[1]]
    policy, _ = draw()
    leaf, trained = policy.clone().requires_grad_(True), [0, 3, 9]
    values = sft(scores_of(leaf, None, LENGTHS), Singles(torch.tensor(trained), torch.ones(3, dtype=torch.bool))).values
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    for i, by_token in enumerate(gradient.split(LENGTHS)):
        assert by_token.tolist() == [-1.0 if i in trained else 0.0] * LENGTHS[i]


def test_cpo() -> None:
    contrast = -log(s(0.3 * (S_w - S_l)))
    assert pair_loss(cpo, ALONE, beta=0.3, nll_weight=0.5) == approx(contrast - 0.5 * S_w)
    assert pair_loss(cpo, ALONE, beta=0.3, nll="token_mean") == approx(contrast - S_w / n_w)


@pytest.mark.parametrize(("nll", "expected"), [("seq_mean", -S_w / n_w), ("token_mean", -S_w / n_w), ("seq_sum", -S_w)])
def test_rpo(nll: str, expected: float) -> None:
    assert pair_loss(rpo, beta=0.3, alpha=0.7, nll=nll) == approx(-log(s(0.3 * D)) + 0.7 * expected)


def test_orpo() -> None:
    odds = [mean - log(1 - exp(mean)) for mean in (S_w / n_w, S_l / n_l)]
    expected = -0.5 * S_w / n_w - 0.2 * log(s(odds[0] - odds[1]))
    assert pair_loss(orpo, ALONE, lam=0.2, nll_weight=0.5) == approx(expected)


def test_slic_hf() -> None:
    assert pair_loss(slic_hf, ALONE, delta=2.0, lam=0.2) == approx(max(0, 2 - S_w + S_l) - 0.2 * S_w)
    assert pair_loss(slic_hf, ALONE, delta=2.0, lam=0.2, reg_norm="avg") == approx(2 - S_w + S_l - 0.2 * S_w / n_w)


def test_token_mean_is_the_steps_whatever_the_microbatches() -> None:
    """The likelihood per token of the step: pairs apart, each with the step's mean length, give the step's loss."""
    policy, reference = draw()
    mean = sum(LENGTHS[::2]) / COUNT
    whole = losses_of("rpo", {"nll": "token_mean"}, policy, reference).values
    parts = []
    for i in range(COUNT):
        start, lengths = sum(LENGTHS[: 2 * i]), LENGTHS[2 * i : 2 * i + 2]
        tokens = slice(start, start + sum(lengths))
        scores = scores_of(policy[tokens], reference[tokens], lengths)
        parts.append(rpo(scores, replace(pairs_of(1), mean_length=mean), nll="token_mean").values)
    torch.testing.assert_close(torch.cat(parts).sum(), whole.sum(), rtol=1e-13, atol=0)
    nll = -sum(float(p.sum()) for p in policy.split(LENGTHS)[::2])
    of_dpo = losses_of("dpo", {}, policy, reference).values
    assert (whole - of_dpo).mean().item() == approx(nll / sum(LENGTHS[::2]), rel=1e-12)


@pytest.mark.parametrize("x", [-1e-12, -1e-7, -0.3, -0.7, -30.0, -745.0, -5000.0])
def test_log1mexp_keeps_its_digits_and_its_gradient(x: float) -> None:
    """d/dx log(1 - e^x) = -1 / (e^-x - 1); the value is log(-expm1(x)) near 0 and -e^x far out."""
    leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    value = log1mexp(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert value.item() == approx(log(-expm1(x)) if x > -1 else log1p(-exp(x)), rel=1e-13, abs=1e-300)
    assert gradient.item() == approx(-1 / expm1(-x) if x > -700 else 0.0, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("objective", "strength"), [(rpo, {"alpha": 0.7}), (cpo, {"nll_weight": 0.7})])
def test_token_mean_counts_a_pairs_tokens_with_its_weight(objective: Any, strength: dict[str, float]) -> None:
    """sum_i w_i (l_i + alpha NLL), NLL = sum_i w_i NLL_i / sum_i w_i n_i, in one microbatch and in two."""
    (policy, reference), weights = draw(), torch.tensor([1.0, 0.25, 3.0, 0.5, 2.0], dtype=torch.float64)
    scores, none = scores_of(policy, reference, LENGTHS), dict.fromkeys(strength, 0.0)
    sums, lengths = scores.logps[::2], scores.lengths[::2]
    nll = -(weights * sums).sum() / (weights * lengths).sum()
    pairwise = objective(scores, pairs_of(COUNT, weights), nll="token_mean", **none).values
    expected = (pairwise + 0.7 * weights * nll).sum().item()
    assert objective(scores, pairs_of(COUNT, weights), nll="token_mean", **strength).values.sum().item() == approx(
        expected, rel=1e-12
    )
    mean, total = ((weights * lengths).sum() / weights.sum()).item(), 0.0
    for part in (slice(0, 2), slice(2, COUNT)):
        index = 2 * torch.arange(COUNT)[part]
        pairs = Pairs(index, index + 1, weights[part], mean_length=mean)
        total += objective(scores, pairs, nll="token_mean", **strength).values.sum().item()
    assert total == approx(expected, rel=1e-12)
