"""Objectives of reward models, each against its formula (float64)."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from statistics import mean

import pytest
import torch
from pytest import approx

from burnish.objectives.reward import bradley_terry, plackett_luce, reward_regression
from burnish.tensors import Lists, Pairs, ScalarScores
from tests.objectives.microbatch import pairs_of, s

r = [1.5, -0.5, 0.25]


def scores(rewards: list[float]) -> ScalarScores:
    lengths = torch.tensor([3, 5, 2][: len(rewards)])
    return ScalarScores(torch.tensor(rewards, dtype=torch.float64), lengths, torch.zeros_like(lengths))


def ranked(score: list[float]) -> Lists:
    k = len(score)
    return Lists(torch.arange(k)[None], torch.ones(1, k, dtype=torch.bool), torch.tensor([score], dtype=torch.float64))


def column(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_bradley_terry() -> None:
    margin = r[0] - r[1]
    pair = pairs_of(1)

    def loss(pairs: Pairs = pair, **settings: float) -> float:
        return bradley_terry(scores(r[:2]), pairs, **settings).values.item()  # type: ignore[arg-type]

    assert loss() == approx(-log(s(margin)))
    assert loss(center=0.1) == approx(-log(s(margin)) + 0.1 * (r[0] + r[1]) ** 2)
    assert loss(label_smoothing=0.2) == approx(-0.8 * log(s(margin)) - 0.2 * log(s(-margin)))
    assert loss(replace(pair, margin=column(0.7)), use_margin=True) == approx(-log(s(margin - 0.7)))
    assert loss(replace(pair, share=column(0.25)), per_prompt=True) == approx(0.25 * -log(s(margin)))
    for setting in ("use_margin", "per_prompt"):
        with pytest.raises(ValueError, match=setting):
            loss(**{setting: True})


def test_plackett_luce() -> None:
    expected = log(sum(map(exp, r))) - r[0] + log(exp(r[1]) + exp(r[2])) - r[1]
    loss = plackett_luce(scores(r), ranked([3.0, 2.0, 1.0]), center=0.1).values.item()
    assert loss == approx(expected + 0.1 * (2 * mean(r)) ** 2)
    of_two = plackett_luce(scores(r[:2]), ranked([1.0, 0.0]), center=0.1).values.item()
    assert of_two == approx(bradley_terry(scores(r[:2]), pairs_of(1), center=0.1).values.item())


def test_reward_regression() -> None:
    score = [2.0, 1.0, 0.5]
    expected = mean((x - y) ** 2 for x, y in zip(r, score, strict=True)) + 0.1 * mean(r) ** 2
    losses = reward_regression(scores(r), ranked(score), center=0.1)
    assert losses.unit == "group" and losses.values.item() == approx(expected)
