"""SamPO, WPO and TDPO: what coincides with DPO, what has no gradient, what is drawn (float64)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from burnish.engine.pack import pack
from burnish.group import EncodedGroup, Preferences
from burnish.objectives import TABLE
from burnish.objectives.feedback import StepGroups, view_of
from burnish.tensors import Drawn, Pairs, TokenScores
from tests.objectives.test_properties import draw, pairs_of, scores_of


def with_extras(lengths: list[int], seed: int = 0) -> TokenScores:
    policy, reference = draw(lengths, seed)
    base = scores_of(policy.requires_grad_(True), reference, lengths)
    kl = (0.1 + policy.detach().square() / 9).requires_grad_(True)
    return TokenScores(policy, reference, base.completion_of, base.lengths, base.group_of, policy.detach() / 2, kl)


def drawn(chosen: list[int], rejected: list[int]) -> tuple[Drawn, Drawn]:
    """Tokens of one pair's two sides."""
    sides = [torch.tensor(side, dtype=torch.long) for side in (chosen, rejected)]
    return Drawn(torch.zeros_like(sides[0]), sides[0]), Drawn(torch.zeros_like(sides[1]), sides[1])


def one_pair(sides: tuple[Drawn, Drawn] | None = None) -> Pairs:
    pairs = pairs_of(1)
    return Pairs(pairs.chosen, pairs.rejected, pairs.weight, drawn=sides)


def test_special_cases_are_dpo() -> None:
    scores = with_extras([4, 4])
    dpo = TABLE["dpo"].function(scores, one_pair()).values
    every = drawn([0, 1, 2, 3], [4, 5, 6, 7])
    for name, params in (
        ("sampo", {}),
        ("sampo", {"mode": "mean"}),
        ("sampo", {"mode": "avg"}),
        ("tdpo2", {"alpha": 0.0}),
    ):
        found = TABLE[name].function(scores, one_pair(every), **params).values
        torch.testing.assert_close(found, dpo, rtol=1e-12, atol=0)


def test_sampo_mean_is_the_expectation_of_the_draw() -> None:
    """Over all draws of 3 tokens of 5, the mean of the sums is 3 times the mean log-ratio."""
    scores = with_extras([3, 5])
    beta = 1e-6  # where the loss is linear in its argument
    losses = [
        TABLE["sampo"].function(scores, one_pair(drawn([0, 1, 2], [3 + k for k in some])), beta=beta).values
        for some in itertools.combinations(range(5), 3)
    ]
    mean = TABLE["sampo"].function(scores, one_pair(), beta=beta, mode="mean").values
    torch.testing.assert_close(torch.stack(losses).mean(0), mean, rtol=0, atol=1e-12)


def test_tokens_that_were_not_drawn_have_no_gradient() -> None:
    scores = with_extras([2, 5])
    TABLE["sampo"].function(scores, one_pair(drawn([0, 1], [3, 6]))).values.sum().backward()
    assert scores.policy.grad is not None
    assert [bool(x) for x in scores.policy.grad != 0] == [True, True, False, True, False, False, True]


def test_wpo_weighs_without_gradient_and_at_most_one() -> None:
    """w = min(1, exp(m_w + m_l)), m the mean of p_t - log sum_v pi^2; the gradient is w times DPO's."""
    scores = with_extras([3, 2])
    means = [(scores.policy - scores.squares)[a:b].mean().item() for a, b in ((0, 3), (3, 5))]
    weight = min(1.0, math.exp(sum(means)))
    found = TABLE["wpo"].function(scores, one_pair())
    (ours,) = torch.autograd.grad(found.values.sum(), scores.policy)
    plain = TABLE["dpo"].function(scores, one_pair())
    (theirs,) = torch.autograd.grad(plain.values.sum(), scores.policy)
    torch.testing.assert_close(found.values, weight * plain.values)
    torch.testing.assert_close(ours, weight * theirs)
    bare = TABLE["wpo"].function(scores, one_pair(), alignment="none").values / plain.values
    assert bare.item() == pytest.approx(math.exp(scores.policy[:3].mean().item() + scores.policy[3:].mean().item()))


@pytest.mark.parametrize("name", ["tdpo1", "tdpo2"])
def test_tdpo_reaches_the_kl(name: str) -> None:
    """dl/dK_l = +alpha beta u; dl/dK_w = -beta u in the first form, none in the second."""
    scores = with_extras([3, 4])
    assert scores.kl is not None
    assert torch.autograd.gradcheck(
        lambda p: (
            TABLE[name]
            .function(
                TokenScores(
                    p, scores.reference, scores.completion_of, scores.lengths, scores.group_of, None, scores.kl
                ),
                one_pair(),
            )
            .values
        ),
        (scores.policy,),
    )
    values = TABLE[name].function(scores, one_pair()).values
    ratio, kl = torch.autograd.grad(values.sum(), [scores.policy, scores.kl])
    share = 1.0 if name == "tdpo1" else 0.5
    torch.testing.assert_close(kl[3:], share * ratio[3:])
    torch.testing.assert_close(kl[:3], ratio[:3] if name == "tdpo1" else torch.zeros(3, dtype=torch.float64))


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
        found = {}
        for batch in pack(groups, budget, shared=True):
            size = len(batch.targets)
            scores = TokenScores(
                torch.zeros(size), torch.zeros(size), batch.completion_of, batch.lengths, batch.group_of
            )
            view = view_of(TABLE["sampo"], batch, scores, StepGroups(groups, None, seed, step))
            assert isinstance(view, Pairs) and view.drawn is not None
            for side, one in enumerate(view.drawn):
                for pair, member in enumerate(batch.group_index):
                    tokens = one.token[one.pair == pair]
                    found[member, side] = scores.places[tokens].tolist()
        return found

    whole, parts = places(1000, 0, 5), places(1, 0, 5)
    assert whole == parts
    for i, sides in enumerate(lengths):
        for side in (0, 1):
            drawn_here = whole[i, side]
            assert len(drawn_here) == min(sides) == len(set(drawn_here)) and max(drawn_here) < sides[side]
    assert whole != places(1000, 0, 6) and whole != places(1000, 1, 5)
