"""Intervals that may be looked at after every vote: their definition, and that they hold at all times together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.stats import anytime, in_order, outcomes_ahead, sequential


def wealth_by_definition(outcomes: np.ndarray, mean: float) -> float:
    """The mixture over bets of prod (1 + s x_i) / (1 + s m)^t, term by term."""
    total = 0.0
    weights = np.exp(anytime._PRIOR)
    for stake, weight in zip(anytime._STAKES, weights, strict=True):
        product = 1.0
        for x in outcomes:
            product *= (1 + stake * x) / (1 + stake * mean)
        total += weight * product
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_ends_where_the_wealth_is_twenty(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = rng.choice([0.0, 0.5, 1.0], p=[0.2, 0.2, 0.6], size=40)
    found = sequential(outcomes)
    assert found.value == pytest.approx(outcomes.mean()) and found.low < found.value < found.high
    assert found.evidence == pytest.approx(wealth_by_definition(outcomes, 0.5))
    for end in (found.low, found.high):
        assert wealth_by_definition(outcomes, end) == pytest.approx(20.0, rel=1e-4)
    swapped = sequential(1 - outcomes)
    assert (swapped.low, swapped.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


def test_bets_are_a_mixture_and_a_tie_costs_nothing_at_one_half() -> None:
    assert np.exp(anytime._PRIOR).sum() == pytest.approx(1.0)
    wins = np.array([1.0, 1.0, 0.0, 1.0])
    assert sequential(np.append(wins, [0.5] * 7)).evidence == pytest.approx(sequential(wins).evidence)


@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_it_holds_the_average_so_far_at_all_times_together(drift: float) -> None:
    """800 ballots of 300 votes, looked at after every vote; raters who drift move the average that is to be held."""
    rng = np.random.default_rng(1)
    ballots, votes = 800, 300
    truth = 0.55 + drift * (np.linspace(-0.5, 0.5, votes) if drift else np.zeros(votes))
    ties = 0.2
    win = truth - ties / 2
    drawn = rng.random((ballots, votes))
    outcomes = np.where(drawn < win, 1.0, np.where(drawn < win + ties, 0.5, 0.0))
    wealth = np.repeat(anytime._PRIOR[None], ballots, axis=0)
    missed = np.zeros(ballots, dtype=bool)
    for t in range(votes):
        wealth += np.log1p(np.outer(outcomes[:, t], anytime._STAKES))
        missed |= anytime.log_wealth(wealth, t + 1, truth[: t + 1].mean()) >= math.log(20)
    assert missed.mean() <= 0.05


def test_a_prompt_counts_once_it_has_all_its_votes_and_no_more() -> None:
    prompts = ["a", "b", "a", "c", "b", "b"]
    assert in_order(prompts, np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.0]), 2).tolist() == [0.75, 0.5]


def test_how_many_more_falls_with_what_is_known() -> None:
    clear, close = np.array([1.0] * 30 + [0.0] * 8), np.array([1.0] * 20 + [0.0] * 18)
    assert outcomes_ahead(clear, 0.1).median == 0 and sequential(clear).decided(0.1)
    more = outcomes_ahead(close, 0.1)
    assert 100 < more.low <= more.median <= more.high
    assert outcomes_ahead(close, 0.5).median < more.low, "a wider width is reached earlier"
    assert sequential(np.array([])).high == 1.0 and math.isnan(sequential(np.array([])).value)
