"""Objectives that look at each side by itself, each against its formula (float64)."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from pytest import approx

from burnish.errors import ConfigError
from burnish.objectives.sides import apo_down, apo_zero, bco_pair, nca_pair, sppo
from tests.objectives.microbatch import POLICY, REFERENCE, answers, pair_loss, pairs_of, s

a, b = (sum(p) - sum(q) for p, q in zip(POLICY, REFERENCE, strict=True))
D = a - b
BETA = 0.3


def test_nca_pair() -> None:
    expected = -log(s(BETA * a)) - log(s(-BETA * a)) / 2 - log(s(-BETA * b)) / 2
    assert pair_loss(nca_pair, beta=BETA) == approx(expected)


def test_apo_zero() -> None:
    assert pair_loss(apo_zero, beta=BETA) == approx(s(-BETA * a) + s(BETA * b))


def test_apo_down() -> None:
    assert pair_loss(apo_down, beta=BETA) == approx(s(BETA * a) + s(-BETA * D))


def test_sppo() -> None:
    hard = 0.5 * ((a - (1 - 0.5) / BETA) ** 2 + (b - (0 - 0.5) / BETA) ** 2)
    assert pair_loss(sppo, beta=BETA, scale=0.5) == approx(hard)
    chances = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    pairs = replace(pairs_of(1), wins=chances)
    soft = sppo(answers(POLICY, REFERENCE), pairs, beta=BETA, soft=True).values.item()
    assert soft == approx((a - (0.7 - 0.5) / BETA) ** 2 + (b - (0.2 - 0.5) / BETA) ** 2)
    with pytest.raises(ConfigError, match="chance of winning"):
        pair_loss(sppo, soft=True)


def test_bco_pair() -> None:
    expected = -log(s(BETA * a - 0.4)) - log(s(-(BETA * b - 0.4)))
    assert pair_loss(bco_pair, beta=BETA, delta=0.4) == approx(expected)
