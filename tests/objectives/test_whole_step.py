"""Objectives that look at the whole step, each against its formula, and the running averages (float64)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import log
from statistics import mean, pstdev, stdev

import pytest
import torch
from pytest import approx

from burnish.objectives import TABLE
from burnish.objectives.pairs import dpo
from burnish.objectives.whole_step import (
    alpha_dpo,
    alpha_dpo_step,
    aot_paired,
    aot_unpaired,
    bco_pair_batch_shift,
    beta_dpo,
    beta_dpo_step,
    step_of,
)
from burnish.tensors import Pairs, PairSums
from tests.objectives.microbatch import COUNT, LENGTHS, answers, draw, losses_and_gradient, pairs_of, s, scores_of

# three pairs, the chosen answer of each first; of one or two tokens
POLICY = [[-1.0, -1.0], [-3.0], [-0.5], [-2.0, -0.25], [-4.0], [-1.0]]
REFERENCE = [[-1.5, -1.0], [-2.0], [-1.25], [-1.0, -0.5], [-2.5], [-1.25]]
S_w, S_l = ([sum(row) for row in POLICY[side::2]] for side in (0, 1))
R_w, R_l = ([sum(row) for row in REFERENCE[side::2]] for side in (0, 1))
a, b = ([x - y for x, y in zip(*sides, strict=True)] for sides in ((S_w, R_w), (S_l, R_l)))
D = [x - y for x, y in zip(a, b, strict=True)]
n_w, n_l = ([len(row) for row in POLICY[side::2]] for side in (0, 1))
SCORES, PAIRS = answers(POLICY, REFERENCE), pairs_of(3)


def test_aot_paired() -> None:
    """In the order of the sorted margins; the file's pairs are put back into theirs."""
    u, v = ([x - y for x, y in zip(*sides, strict=True)] for sides in ((S_w, S_l), (R_w, R_l)))
    matched = dict(zip(sorted(u), sorted(v), strict=True))
    expected = [-log(s(0.3 * (margin - matched[margin]))) for margin in u]
    assert aot_paired(SCORES, PAIRS, beta=0.3).values.tolist() == approx(expected)


def test_aot_unpaired() -> None:
    matched = dict(zip(sorted(a), sorted(b), strict=True))
    assert aot_unpaired(SCORES, PAIRS, beta=0.3).values.tolist() == approx([-log(s(0.3 * (x - matched[x]))) for x in a])


def test_aot_unpaired_reaches_both_answers_of_a_rank() -> None:
    """The sum is that of -log s(beta (a_(i) - b_(i))), whose gradient a_(i) and b_(i) take with opposite signs."""
    leaf = SCORES.policy.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(aot_unpaired(replace(SCORES, policy=leaf), PAIRS, beta=0.3).values.sum(), leaf)
    starts = [0, 2, 3, 4, 6, 7]
    slope_a, slope_b = ([gradient[starts[2 * i + side]].item() for i in range(3)] for side in (0, 1))
    for x, y in zip(sorted(a), sorted(b), strict=True):
        slope = -0.3 * s(-0.3 * (x - y))
        assert slope_a[a.index(x)] == approx(slope) and slope_b[b.index(y)] == approx(-slope)


def test_bco_pair_batch_shift() -> None:
    delta = 0.3 * (mean(a) + mean(b)) / 2
    expected = [-log(s(0.3 * x - delta)) - log(s(-(0.3 * y - delta))) for x, y in zip(a, b, strict=True)]
    assert bco_pair_batch_shift(SCORES, PAIRS, beta=0.3).values.tolist() == approx(expected)


def test_alpha_dpo() -> None:
    g = [x / n - y / m for x, y, n, m in zip(a, b, n_w, n_l, strict=True)]
    margins = [x / n - y / m for x, y, n, m in zip(S_w, S_l, n_w, n_l, strict=True)]
    expected = [-log(s(2 * (M - (0.3 + 0.5 * (x - 0.1) / 1.5)))) for M, x in zip(margins, g, strict=True)]
    losses = alpha_dpo(SCORES, PAIRS, beta=2.0, gamma_beta_ratio=0.3, alpha=0.5, mu=0.1, sigma=1.5)
    assert losses.values.tolist() == approx(expected)


@pytest.mark.parametrize("m0", [-1.0, 50.0])
def test_beta_dpo(m0: float) -> None:
    """A margin far below its running mean holds beta at its least."""
    beta = max(0.01, 0.1 * (1 + 0.6 * (mean(D) - m0)))
    assert (beta == 0.01) == (m0 == 50.0)
    losses = beta_dpo(SCORES, PAIRS, beta0=0.1, alpha=0.6, m0=m0, beta_min=0.01)
    assert losses.values.tolist() == approx([-log(s(beta * x)) for x in D])
    kept = [D[0], D[2]]
    beta = max(0.01, 0.1 * (1 + 0.6 * (mean(kept) - m0)))
    losses = beta_dpo(SCORES, PAIRS, beta0=0.1, alpha=0.6, m0=m0, beta_min=0.01, keep=(0, 2))
    assert losses.values.tolist() == approx([-log(s(beta * x)) for x in kept])


def test_the_running_averages_are_moved_by_the_step() -> None:
    sums, generator = step_of(SCORES, PAIRS)[0], torch.Generator().manual_seed(0)
    state, given = beta_dpo_step({"m0": 2.0, "s0": 3.0}, sums, generator, momentum=0.9, rho=0.4)
    assert state == approx({"m0": 0.9 * 2 + 0.1 * mean(D), "s0": 0.9 * 3 + 0.1 * stdev(D)})
    assert given["m0"] == state["m0"] and len(given["keep"]) == 1  # int((1 - rho) x 3)
    g = [x / n - y / m for x, y, n, m in zip(a, b, n_w, n_l, strict=True)]
    state, given = alpha_dpo_step({"mu": 2.0, "sigma": 3.0}, sums, generator, momentum=0.9)
    assert state == given == approx({"mu": 0.9 * 2 + 0.1 * mean(g), "sigma": 0.9 * 3 + 0.1 * pstdev(g)})


def test_pairs_far_from_the_mean_are_likely_left_out() -> None:
    """One pair of two is kept, drawn by exp(-(D - m0)^2 / (2 s0^2))."""
    zeros, lengths = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.long)
    sums = PairSums(zeros, zeros, torch.tensor([0.0, 2.0], dtype=torch.float64), zeros, lengths, lengths)
    generator = torch.Generator().manual_seed(0)
    kept = [
        beta_dpo_step({"m0": 0.0, "s0": 1.0}, sums, generator, momentum=0.999999, rho=0.5)[1]["keep"]
        for _ in range(4000)
    ]
    odds = torch.tensor(2.0**2 / 2).exp().item()  # of D = 0 against D = 2
    assert kept.count((0,)) / 4000 == approx(odds / (1 + odds), abs=0.02)


def test_aot_on_one_pair_is_dpo_and_on_more_the_least_transport() -> None:
    """No other matching of the sorted margins has a smaller sum of distances -log s."""
    one = answers(POLICY[:2], REFERENCE[:2])
    torch.testing.assert_close(aot_paired(one, pairs_of(1)).values, dpo(one, pairs_of(1)).values, rtol=1e-12, atol=0)
    sums = [sum(-log(s(x - y)) for x, y in zip(a, order, strict=True)) for order in permutations(b)]
    assert aot_unpaired(SCORES, PAIRS, beta=1.0).values.sum().item() == approx(min(sums))


@pytest.mark.parametrize("name", ["aot_paired", "aot_unpaired", "bco_pair_batch_shift", "beta_dpo"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_first_pass_makes_microbatches_the_step(name: str, cut: int) -> None:
    """Loss and gradient of the parts, each with the whole step's sums, are those of the step in one piece."""
    policy, reference = draw()
    value, whole = losses_and_gradient(name, {})
    step, _ = step_of(scores_of(policy, reference, LENGTHS), pairs_of(COUNT))
    leaf = policy.clone().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    for place in (torch.arange(cut), torch.arange(cut, COUNT)):
        ones = torch.ones(len(place), dtype=torch.float64)
        part = Pairs(2 * place, 2 * place + 1, ones, step=step, place=place)
        losses = TABLE[name].function(scores_of(leaf, reference, LENGTHS), part).values
        losses.sum().backward()  # type: ignore[no-untyped-call]
        total += losses.detach().sum()
    assert leaf.grad is not None
    torch.testing.assert_close(total, value.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(leaf.grad, whole, rtol=1e-10, atol=1e-14)


def test_the_scale_of_alpha_dpo_does_not_collapse() -> None:
    """A step of one pair has no spread and leaves sigma; of steps of like pairs it falls to a hundredth of a nat."""
    generator = torch.Generator().manual_seed(0)
    single, twice = (step_of(answers(POLICY[:2] * n, REFERENCE[:2] * n), pairs_of(n))[0] for n in (1, 2))
    assert alpha_dpo_step({"mu": 2.0, "sigma": 3.0}, single, generator, momentum=0.9)[0]["sigma"] == 3.0
    state = {"mu": 0.0, "sigma": 1.0}
    for _ in range(100):
        state, _ = alpha_dpo_step(state, twice, generator, momentum=0.9)
    assert state["sigma"] == 0.01


@pytest.mark.parametrize("name", ["aot_paired", "aot_unpaired", "bco_pair_batch_shift", "beta_dpo"])
def test_log_ratios_of_long_answers_keep_their_digits_in_float32(name: str) -> None:
    """Of 8,000 tokens, the losses of float32 log-probs are those of the same numbers in float64."""
    lengths = [8000, 7000, 7500, 8000]
    policy, reference = (x.float() for x in draw(lengths))
    reference = policy - (policy - reference) / 100  # log-ratios of about a nat
    losses = [
        TABLE[name].function(scores_of(p, q, lengths), pairs_of(2)).values.double()
        for p, q in ((policy, reference), (policy.double(), reference.double()))
    ]
    torch.testing.assert_close(*losses, rtol=1e-7, atol=1e-7)
