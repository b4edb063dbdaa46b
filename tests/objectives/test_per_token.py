"""Objectives of single tokens, each against its formula: what is drawn, what has no gradient (float64)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch
from pytest import approx

from burnish.engine.pack import pack
from burnish.group import EncodedGroup, Preferences
from burnish.objectives import TABLE
from burnish.objectives.feedback import StepGroups, view_of
from burnish.objectives.pairs import dpo
from burnish.objectives.per_token import sampo, tdpo1, tdpo2, wpo
from burnish.tensors import Drawn, Pairs, TokenScores
from tests.objectives.microbatch import POLICY, REFERENCE, answers, draw, pair_loss, pairs_of, s, scores_of

a, b = (sum(p) - sum(q) for p, q in zip(POLICY, REFERENCE, strict=True))
D = a - b
n_w, n_l = map(len, POLICY)
SQUARE = [-0.5, -0.75, -0.25, -1.0, -0.125]  # log sum_v pi(v)^2 at every token, the chosen answer's first
KL = [0.5, 0.25, 1.0, 0.125, 0.75]
SCORES = replace(
    answers(POLICY, REFERENCE),
    square=torch.tensor(SQUARE, dtype=torch.float64),
    kl=torch.tensor(KL, dtype=torch.float64),
)


def drawn(chosen: list[int], rejected: list[int]) -> Pairs:
    """One pair with these tokens of the microbatch drawn of either side."""
    sides = [torch.tensor(side, dtype=torch.long) for side in (chosen, rejected)]
    return replace(pairs_of(1), drawn=tuple(Drawn(torch.zeros_like(side), side) for side in sides))


def test_sampo() -> None:
    """Two of the rejected answer's three tokens, its first and its third."""
    of_drawn = sum(POLICY[1][::2]) - sum(REFERENCE[1][::2])
    losses = sampo(SCORES, drawn([0, 1], [2, 4]), beta=0.3)
    assert losses.values.item() == approx(-log(s(0.3 * (a - of_drawn))))
    shorter, average = min(n_w, n_l), (n_w + n_l) / 2
    for mode, size in (("mean", shorter), ("avg", average)):
        assert pair_loss(sampo, beta=0.3, mode=mode) == approx(-log(s(0.3 * size * (a / n_w - b / n_l))))


def test_wpo() -> None:
    m_w, m_l = (sum(POLICY[0]) - sum(SQUARE[:2])) / n_w, (sum(POLICY[1]) - sum(SQUARE[2:])) / n_l
    of_dpo = -log(s(0.3 * D))
    assert exp(m_w + m_l) < 1
    assert pair_loss(wpo, SCORES, beta=0.3) == approx(exp(m_w + m_l) * of_dpo)
    assert pair_loss(wpo, SCORES, beta=0.3, max_weight=0.1) == approx(0.1 * of_dpo)
    means = sum(POLICY[0]) / n_w + sum(POLICY[1]) / n_l
    assert pair_loss(wpo, SCORES, beta=0.3, alignment="none") == approx(exp(means) * of_dpo)


def test_tdpo1() -> None:
    K_w, K_l = sum(KL[:2]), sum(KL[2:])
    assert pair_loss(tdpo1, SCORES, beta=0.3) == approx(-log(s(0.3 * (D - (K_l - K_w)))))


def test_tdpo2() -> None:
    K_w, K_l = sum(KL[:2]), sum(KL[2:])
    assert pair_loss(tdpo2, SCORES, beta=0.3, alpha=0.4) == approx(-log(s(0.3 * (D - 0.4 * (K_l - K_w)))))
    assert pair_loss(tdpo2, SCORES, beta=0.3, alpha=0.0) == approx(-log(s(0.3 * D)))


def with_gradients(lengths: list[int]) -> TokenScores:
    """Random scores whose policy and KL take gradients."""
    policy, reference = draw(lengths)
    scores = scores_of(policy.clone().requires_grad_(True), reference, lengths)
    return replace(scores, square=policy / 2, kl=(0.1 + policy.square() / 9).requires_grad_(True))


def test_sampo_is_dpo_where_all_tokens_are_drawn() -> None:
    scores = with_gradients([4, 4])
    of_dpo = dpo(scores, pairs_of(1)).values
    for mode in ("indices", "mean", "avg"):
        values = sampo(scores, drawn([0, 1, 2, 3], [4, 5, 6, 7]), mode=mode).values  # type: ignore[arg-type]
        torch.testing.assert_close(values, of_dpo, rtol=1e-12, atol=0)


def test_sampo_mean_is_the_expectation_of_the_draw() -> None:
    """Over all draws of 3 tokens of 5, the mean of the sums is 3 times the mean log-ratio."""
    scores = with_gradients([3, 5])
    beta = 1e-6  # where the loss is linear in its argument
    draws = itertools.combinations(range(3, 8), 3)
    losses = [sampo(scores, drawn([0, 1, 2], list(rejected)), beta=beta).values for rejected in draws]
    mean = sampo(scores, pairs_of(1), beta=beta, mode="mean").values
    torch.testing.assert_close(torch.stack(losses).mean(0), mean, rtol=0, atol=1e-12)


def test_tokens_that_were_not_drawn_have_no_gradient() -> None:
    scores = with_gradients([2, 5])
    (gradient,) = torch.autograd.grad(sampo(scores, drawn([0, 1], [3, 6])).values.sum(), scores.policy)
    assert [bool(x) for x in gradient != 0] == [True, True, False, True, False, False, True]


def test_wpo_weighs_without_gradient() -> None:
    scores = with_gradients([3, 2])
    weighted, plain = wpo(scores, pairs_of(1)).values, dpo(scores, pairs_of(1)).values
    gradients = [torch.autograd.grad(values.sum(), scores.policy)[0] for values in (weighted, plain)]
    torch.testing.assert_close(gradients[0], (weighted / plain).detach() * gradients[1])


@pytest.mark.parametrize(("function", "share"), [(tdpo1, 1.0), (tdpo2, 0.5)])
def test_tdpo_reaches_the_kl(function: Any, share: float) -> None:
    """dl/dK_l = +alpha beta u; dl/dK_w = -beta u in the first form, none in the second."""
    scores = with_gradients([3, 4])
    assert scores.kl is not None
    assert torch.autograd.gradcheck(lambda p: function(replace(scores, policy=p), pairs_of(1)).values, (scores.policy,))
    of_policy, of_kl = torch.autograd.grad(function(scores, pairs_of(1)).values.sum(), [scores.policy, scores.kl])
    torch.testing.assert_close(of_kl[3:], share * of_policy[3:])
    torch.testing.assert_close(of_kl[:3], of_policy[:3] if function is tdpo1 else torch.zeros(3, dtype=torch.float64))


def test_draws_do_not_depend_on_packing_but_on_the_step() -> None:
    """The drawn places of each pair, counted from its completion's start, whatever shares the microbatch."""
    lengths = [(3, 9), (8, 2), (5, 5), (1, 7)]
    groups = [
        EncodedGroup(
            str(i), (1, 2), tuple(tuple(range(5, 5 + n)) for n in sides), (True, True), Preferences(((0, 1, 1.0),))
        )
        for i, sides in enumerate(lengths)
    ]

    def places(budget: int, seed: int, step: int) -> dict[tuple[int, int], list[int]]:
        by_side = {}
        for batch in pack(groups, budget, shared=True):
            zeros = torch.zeros(len(batch.targets))
            scores = TokenScores(zeros, zeros, batch.completion_of, batch.lengths, batch.group_of)
            view = view_of(TABLE["sampo"], batch, scores, StepGroups(groups, None, seed, step))
            assert isinstance(view, Pairs) and view.drawn is not None
            for side, of_side in enumerate(view.drawn):
                for pair, member in enumerate(batch.group_index):
                    by_side[member, side] = scores.places[of_side.token[of_side.pair == pair]].tolist()
        return by_side

    whole = places(1000, 0, 5)
    assert whole == places(1, 0, 5)
    for i, sides in enumerate(lengths):
        for side in (0, 1):
            assert len(set(whole[i, side])) == len(whole[i, side]) == min(sides)
            assert max(whole[i, side]) < sides[side]
    assert whole != places(1000, 0, 6) and whole != places(1000, 1, 5)
