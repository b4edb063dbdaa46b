"""Objectives of ranked groups, each against its formula (float64)."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, log
from typing import Any

import pytest
import torch
from pytest import approx

from burnish.errors import DataError
from burnish.objectives.lists import exo, info_nca, multi_pair_dpo, nca, online_dpo, pl_dpo, s_dpo
from burnish.objectives.pairs import dpo
from burnish.tensors import Lists, Losses
from tests.objectives.microbatch import POLICY, REFERENCE, answers, pair_loss, s

# three answers of a token or two, from best to worst
RANKED = answers([[-1.0, -2.0], [-0.5], [-3.0]], [[-1.25, -1.0], [-1.0], [-1.5]])
r = [0.3 * x for x in (-0.75, 0.5, -1.5)]
SCORE = [2.0, 1.0, 1.0]
w = [exp(x / 0.5) / sum(exp(y / 0.5) for y in SCORE) for x in SCORE]
q = [exp(x) / sum(map(exp, r)) for x in r]


def lists(score: list[float]) -> Lists:
    k = len(score)
    return Lists(torch.arange(k)[None], torch.ones(1, k, dtype=torch.bool), torch.tensor([score], dtype=torch.float64))


def loss(function: Callable[..., Losses], **settings: Any) -> float:
    losses = function(RANKED, lists(SCORE), beta=0.3, **settings)
    assert losses.unit == "group" and len(losses.values) == 1
    return losses.values.item()


def test_pl_dpo() -> None:
    expected = log(sum(map(exp, r))) - r[0] + log(exp(r[1]) + exp(r[2])) - r[1]
    assert loss(pl_dpo) == approx(expected)


def test_multi_pair_dpo() -> None:
    """The two last answers score alike, so they make no pair."""
    pairs = {(i, j): -log(s(r[i] - r[j])) for i, j in ((0, 1), (0, 2))}
    assert loss(multi_pair_dpo) == approx((pairs[0, 1] + pairs[0, 2]) / 2)
    assert loss(multi_pair_dpo, reduction="sum") == approx(pairs[0, 1] + pairs[0, 2])
    assert loss(multi_pair_dpo, which="best_vs_rest") == approx((pairs[0, 1] + pairs[0, 2]) / 2)
    assert loss(multi_pair_dpo, which="best_vs_worst") == approx(pairs[0, 2])
    assert loss(multi_pair_dpo, which="adjacent") == approx(pairs[0, 1])


def test_s_dpo() -> None:
    assert loss(s_dpo) == approx(log(sum(map(exp, r))) - r[0])


def test_info_nca() -> None:
    assert loss(info_nca, temp=0.5) == approx(-sum(w_i * log(q_i) for w_i, q_i in zip(w, q, strict=True)))


def test_nca() -> None:
    expected = -sum(w_i * log(s(r_i)) + log(s(-r_i)) / 3 for w_i, r_i in zip(w, r, strict=True))
    assert loss(nca, temp=0.5) == approx(expected)


def test_exo() -> None:
    assert loss(exo, temp=0.5) == approx(sum(q_i * (log(q_i) - log(w_i)) for w_i, q_i in zip(w, q, strict=True)))


def test_online_dpo() -> None:
    """Of the two worst answers the first; a group scored all alike has no loss."""
    assert loss(online_dpo) == approx(-log(s(r[0] - r[1])))
    assert online_dpo(RANKED, lists([1.0, 1.0, 1.0])).values.tolist() == []


@pytest.mark.parametrize("function", [pl_dpo, s_dpo, multi_pair_dpo, online_dpo])
def test_of_two_answers_a_ranking_is_a_pair(function: Any) -> None:
    losses = function(answers(POLICY, REFERENCE), lists([1.0, 0.0]), beta=0.3)
    assert losses.values.item() == approx(pair_loss(dpo, beta=0.3), rel=1e-12)


@pytest.mark.parametrize("function", [pl_dpo, s_dpo, multi_pair_dpo, online_dpo, info_nca, nca, exo])
def test_places_behind_a_groups_last_answer_change_nothing(function: Any) -> None:
    """A group of two beside one of three, whatever index and score stand in the place that it does not have."""
    padded = Lists(
        torch.tensor([[0, 1, 2], [0, 1, 0]]), torch.tensor([[True] * 3, [True, True, False]]),
        torch.tensor([SCORE, [2.0, 1.0, inf]], dtype=torch.float64),
    )  # fmt: skip
    padded.score[1, 2] = 7.0
    losses = function(RANKED, padded, beta=0.3).values
    assert losses[0].item() == approx(loss(function)) and losses[1].item() == approx(
        function(RANKED, lists([2.0, 1.0]), beta=0.3).values.item()
    )


def test_one_answer_has_no_order() -> None:
    with pytest.raises(DataError, match="fewer than two"):
        pl_dpo(answers([[-1.0]], [[-1.0]]), lists([1.0]))
