"""Objectives of the margin, each against its formula, and what coincides with DPO (float64)."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from pytest import approx

from burnish.objectives.pairs import (
    chi_po,
    discopop,
    dpo,
    dpo_norm,
    dpop,
    exo_pair,
    f_dpo,
    hinge,
    ipo,
    ld_dpo,
    r_dpo,
    robust_dpo,
    simpo,
)
from burnish.tensors import Pairs
from tests.objectives.microbatch import (
    COUNT,
    LENGTHS,
    POLICY,
    REFERENCE,
    answers,
    draw,
    losses_and_gradient,
    losses_of,
    pair_loss,
    pairs_of,
    s,
    scores_of,
)

S_w, S_l = map(sum, POLICY)
R_w, R_l = map(sum, REFERENCE)
n_w, n_l = map(len, POLICY)
a, b = S_w - R_w, S_l - R_l
D = a - b


def test_dpo() -> None:
    assert pair_loss(dpo, beta=0.3) == approx(-log(s(0.3 * D)))
    assert pair_loss(dpo, beta=0.3, label_smoothing=0.2) == approx(-0.8 * log(s(0.3 * D)) - 0.2 * log(s(-0.3 * D)))


def test_dpo_norm() -> None:
    assert pair_loss(dpo_norm, beta=4.0) == approx(-log(s(4 * (a / n_w - b / n_l))))


def test_ipo() -> None:
    assert pair_loss(ipo, tau=0.2) == approx((D - 1 / 0.4) ** 2)
    assert pair_loss(ipo, tau=0.2, normalize="avg") == approx((a / n_w - b / n_l - 1 / 0.4) ** 2)


def test_simpo() -> None:
    without_reference = answers(POLICY, None)
    expected = -log(s(2.5 * (S_w / n_w - S_l / n_l) - 0.7))
    assert pair_loss(simpo, without_reference, beta=2.5, gamma=0.7) == approx(expected)


def test_robust_dpo() -> None:
    z, e = 0.3 * D, 0.2
    expected = (-(1 - e) * log(s(z)) + e * log(s(-z))) / (1 - 2 * e)
    assert pair_loss(robust_dpo, beta=0.3, label_smoothing=e) == approx(expected)


def test_hinge() -> None:
    assert pair_loss(hinge, beta=0.3, margin=0.5) == approx(max(0, 0.5 - 0.3 * D))
    assert pair_loss(hinge, answers([[-1.0], [-9.0]], [[-5.0], [-5.0]]), beta=0.3, margin=0.5) == 0


def test_r_dpo() -> None:
    assert pair_loss(r_dpo, beta=0.3, alpha=0.05) == approx(-log(s(0.3 * D + 0.05 * (n_w - n_l))))


def test_ld_dpo() -> None:
    """Of the rejected answer's three tokens the third lies behind the chosen one's length."""
    head, tail = sum(POLICY[1][:2]) - sum(REFERENCE[1][:2]), POLICY[1][2] - REFERENCE[1][2]
    assert pair_loss(ld_dpo, beta=0.3, alpha=0.4) == approx(-log(s(0.3 * (a - (head + 0.4 * tail)))))
    policy_alone = head + 0.4 * POLICY[1][2] - REFERENCE[1][2]
    assert pair_loss(ld_dpo, beta=0.3, alpha=0.4, ref="policy") == approx(-log(s(0.3 * (a - policy_alone))))
    cut = sum(POLICY[1][:2]) - sum(REFERENCE[1][:2])
    assert pair_loss(ld_dpo, beta=0.3, alpha=0.0) == approx(-log(s(0.3 * (a - cut))))


def test_dpop() -> None:
    assert a < 0
    assert pair_loss(dpop, beta=0.3, lam=5.0) == approx(-log(s(0.3 * (D - 5 * max(0, -a)))))


def test_exo_pair() -> None:
    q, eps = s(0.3 * D), 0.01
    expected = q * (log(q) - log(1 - eps)) + (1 - q) * (log(1 - q) - log(eps))
    assert pair_loss(exo_pair, beta=0.3, eps=eps) == approx(expected)


def test_discopop() -> None:
    z, tau = 0.3 * D, 0.1
    expected = (1 - s(z / tau)) * log(1 + exp(-z)) + s(z / tau) * exp(-z)
    assert pair_loss(discopop, beta=0.3, tau=tau) == approx(expected)


def test_chi_po() -> None:
    def phi(v: float) -> float:
        return exp(v) + v

    assert pair_loss(chi_po, beta=0.3) == approx(-log(s(0.3 * (phi(a) - phi(b)))))
    assert 0.3 * (phi(a) - phi(b)) < -0.2
    assert pair_loss(chi_po, beta=0.3, clip=0.2) == approx(-log(s(-0.2)))


@pytest.mark.parametrize(
    ("divergence", "slope"),
    [
        ("reverse_kl", lambda v: v),
        ("forward_kl", lambda v: -exp(-v)),
        ("js", lambda v: log(s(v))),
        ("alpha", lambda v: -exp(-0.3 * v) / 0.3),
    ],
)
def test_f_dpo(divergence: str, slope: Any) -> None:
    expected = -log(s(0.3 * (slope(a) - slope(b))))
    assert pair_loss(f_dpo, beta=0.3, divergence=divergence, alpha=0.3) == approx(expected)


def test_towards_its_ends_the_alpha_divergence_is_a_kl() -> None:
    for alpha, divergence in ((1e-9, "reverse_kl"), (1 - 1e-9, "forward_kl")):
        assert pair_loss(f_dpo, divergence="alpha", alpha=alpha) == approx(pair_loss(f_dpo, divergence=divergence))


def test_a_small_alpha_is_dpo_also_in_float32() -> None:
    """1/alpha is a constant next to which the log-ratio would be lost."""
    policy, reference = (values.float() for values in draw())
    scores, pairs = scores_of(policy, reference, LENGTHS), pairs_of(COUNT)
    losses = f_dpo(scores, pairs, divergence="alpha", alpha=1e-7)
    torch.testing.assert_close(losses.values, f_dpo(scores, pairs).values, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("f_dpo", {"divergence": "reverse_kl"}),
        ("ld_dpo", {"alpha": 1.0}),
        ("r_dpo", {"alpha": 0.0}),
        ("dpop", {"lam": 0.0}),
        ("rpo", {"alpha": 0.0}),
        ("robust_dpo", {"label_smoothing": 0.0}),
    ],
)
def test_special_cases_are_dpo(name: str, settings: dict[str, Any]) -> None:
    for values, of_dpo in zip(losses_and_gradient(name, settings), losses_and_gradient("dpo", {}), strict=True):
        torch.testing.assert_close(values, of_dpo, rtol=1e-12, atol=1e-14)


def test_robust_is_unbiased_under_flips() -> None:
    """(1 - e) loss(pair) + e loss(pair turned round) = the clean DPO loss (2403.00409)."""
    settings = {"label_smoothing": 0.2}
    index = 2 * torch.arange(COUNT)
    turned = Pairs(index + 1, index, torch.ones(COUNT, dtype=torch.float64))
    right, flipped = losses_and_gradient("robust_dpo", settings), losses_and_gradient("robust_dpo", settings, turned)
    for value, of_flipped, clean in zip(right, flipped, losses_and_gradient("dpo", {}), strict=True):
        torch.testing.assert_close(0.8 * value + 0.2 * of_flipped, clean)


def test_ld_dpo_cuts_an_answer_for_each_of_its_pairs() -> None:
    """Of a ranked group of 4, 7 and 2 tokens the second is cut at another length in each of its pairs."""
    policy, reference = draw([4, 7, 2])
    scores = scores_of(policy, reference, [4, 7, 2])
    both = Pairs(torch.tensor([1, 1]), torch.tensor([0, 2]), torch.ones(2, dtype=torch.float64))
    together = ld_dpo(scores, both, alpha=0.3).values
    for k in range(2):
        alone = Pairs(both.chosen[k : k + 1], both.rejected[k : k + 1], both.weight[:1])
        assert ld_dpo(scores, alone, alpha=0.3).values.item() == approx(together[k].item())


def test_discopop_pushes_the_wrong_way_at_the_start() -> None:
    """Its published slope at D = 0 with beta = tau = 0.05 is +0.78 in beta D."""
    policy, _ = draw([4, 4])
    leaf = policy.clone().requires_grad_(True)
    discopop(scores_of(leaf, policy, [4, 4]), pairs_of(1)).values.sum().backward()
    assert leaf.grad is not None and float(leaf.grad[0]) / 0.05 == approx(0.78, abs=0.01)


def test_rewards_are_those_inside_the_loss() -> None:
    policy, reference = draw()
    scores = scores_of(policy, reference, LENGTHS)
    ratios, logps, n = scores.logratios, scores.logps, torch.tensor(LENGTHS, dtype=torch.float64)
    inside = {"dpo": 0.1 * ratios, "dpo_norm": 5 * ratios / n, "ipo": 0.1 * ratios, "simpo": 2 * logps / n}
    for name, rewards in inside.items():
        losses = losses_of(name, {}, policy, reference)
        torch.testing.assert_close(losses.rewards, rewards, rtol=1e-14, atol=0)
        assert losses.metrics["rewards/chosen"].mean == approx(rewards[::2].mean().item(), rel=1e-12)
        assert losses.metrics["rewards/accuracies"].mean == (rewards[::2] > rewards[1::2]).double().mean().item()
    of_dpo = losses_of("dpo", {}, policy, reference)
    assert of_dpo.metrics["calibration/nll"].mean == approx(of_dpo.values.mean().item(), rel=1e-12)
