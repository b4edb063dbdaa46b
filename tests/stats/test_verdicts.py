"""Win rates: raw, at equal length, and what length, order and noise do to them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from burnish.stats import Verdicts, clustered_share, wilson, win_rate
from burnish.stats.verdicts import RIDGE, fit, more_prompts, resampled, standardised


def drawn(n: int, edge: float, slope: float, *, seed: int = 0, ties: float = 0.0, longer: float = 0.5) -> Verdicts:
    """n prompts; the log-odds are edge + slope x tanh(length), whose mean is `longer`."""
    rng = np.random.default_rng(seed)
    lengths = rng.normal(longer, 1.0, n)
    won = (rng.random(n) < 1 / (1 + np.exp(-(edge + slope * np.tanh(lengths))))).astype(float)
    won[rng.random(n) < ties] = 0.5
    return Verdicts(np.arange(n), won, 100 * lengths)


def test_independent_verdicts_without_ties_have_wilsons_interval() -> None:
    verdicts = drawn(80, 0.4, 0.0)
    raw = win_rate(verdicts).raw
    low, high = wilson(raw.value, 80 * 79 / 80)
    assert (raw.low, raw.high) == pytest.approx((low, high))


def test_a_tie_is_one_half_and_tells_less_than_a_win_and_a_loss() -> None:
    half = clustered_share(np.full(40, 0.5), np.arange(40))
    split = clustered_share(np.tile([0.0, 1.0], 20), np.arange(40))
    mixed = clustered_share(np.tile([0.0, 1.0, 0.5, 0.5], 10), np.arange(40))
    assert half.value == split.value == mixed.value == 0.5
    assert mixed.error == pytest.approx(split.error / math.sqrt(2)), "half of the outcomes vary"
    assert split.low < mixed.low < 0.5 < mixed.high < split.high


def test_the_regression_has_no_gradient_left() -> None:
    """d/d beta of the penalised log-likelihood: sum w (y - p) x = ridge x beta."""
    verdicts = drawn(60, 0.4, 1.0, ties=0.2)
    scaled = standardised(verdicts.longer)
    weights = resampled(verdicts.prompts, 5, 0)
    for row, (a, b) in zip(weights, fit(verdicts.outcomes, scaled, weights), strict=True):
        left = row * (verdicts.outcomes - 1 / (1 + np.exp(-(a + b * scaled))))
        assert (left.sum(), (left * scaled).sum()) == pytest.approx((RIDGE * a, RIDGE * b), abs=1e-6)


def test_a_judge_that_likes_length_alone_is_seen_through() -> None:
    """No edge at equal length: the raw rate is above one half, the controlled one is not, and length explains it."""
    found = win_rate(drawn(4000, 0.0, 2.0))
    assert found.raw.low > 0.58
    assert found.controlled.low < 0.5 < found.controlled.high
    assert found.explained is not None and found.explained_low < 1.0 < found.explained_high
    assert found.explained == pytest.approx(1 - (found.controlled.value - 0.5) / (found.raw.value - 0.5))


def test_a_judge_that_ignores_length_is_left_alone() -> None:
    found = win_rate(drawn(4000, 0.7, 0.0))
    assert found.controlled.value == pytest.approx(1 / (1 + math.exp(-0.7)), abs=0.03)
    assert abs(found.slope) < 0.2 and found.explained is not None and found.explained_low < 0.0 < found.explained_high


def test_of_no_edge_nothing_is_explained() -> None:
    found = win_rate(drawn(100, 0.0, 0.0, longer=0.0))
    assert found.explained is None and not found.raw.excludes_half


def test_equal_lengths_need_no_control() -> None:
    verdicts = replace(drawn(50, 0.5, 0.0), longer=np.zeros(50))
    found = win_rate(verdicts)
    assert found.controlled == found.raw and found.slope == 0.0


@pytest.mark.parametrize("outcomes", [np.ones(30), np.zeros(30), np.r_[np.zeros(15), np.ones(15)]])
def test_a_length_that_tells_every_outcome_gives_finite_figures(outcomes: np.ndarray) -> None:
    found = win_rate(Verdicts(np.arange(30), outcomes, np.arange(30.0) - 14.5))
    assert all(map(math.isfinite, (found.controlled.low, found.controlled.high, found.slope)))
    assert 0 <= found.controlled.low <= found.controlled.value <= found.controlled.high <= 1


def test_the_same_prompt_again_is_no_new_evidence() -> None:
    verdicts = drawn(60, 0.4, 0.5)
    twice = Verdicts(*(np.tile(x, 2) for x in (verdicts.prompts, verdicts.outcomes, verdicts.longer)))
    once, again = win_rate(verdicts), win_rate(twice)
    assert again.raw.error == pytest.approx(once.raw.error)
    assert again.controlled.low == pytest.approx(once.controlled.low, abs=0.01)


def test_the_first_place_that_always_wins_is_position_bias() -> None:
    """Shown first the model wins, shown second it loses: every pair is a tie of its two orders."""
    orders = np.tile([1.0, 0.0], (20, 1))
    found = win_rate(Verdicts(np.arange(20), orders.mean(1), np.zeros(20), orders))
    assert found.raw.value == 0.5 and found.first is not None and found.first.value == 1.0
    fair = np.tile([[1.0, 1.0], [0.0, 0.0]], (10, 1))
    found = win_rate(Verdicts(np.arange(20), fair.mean(1), np.zeros(20), fair))
    assert found.first is not None and found.first.value == 0.5


def test_repeats_that_agree() -> None:
    repeats = np.array([[1.0, 1.0]] * 3 + [[1.0, 0.0]])
    found = win_rate(replace(drawn(20, 0.0, 0.0), repeats=repeats))
    assert found.agreement is not None and found.agreement.value == 0.75


def test_as_many_prompts_as_it_says_would_settle_it() -> None:
    verdicts = Verdicts(np.arange(40), np.r_[np.ones(23), np.zeros(17)], np.zeros(40))
    raw = win_rate(verdicts).raw
    more = more_prompts(raw, 40)
    assert more is not None and not raw.excludes_half
    error = raw.error * math.sqrt(40 / (40 + more))
    assert 1.96 * error < raw.value - 0.5 < 1.96 * raw.error * math.sqrt(40 / (40 + more - 2))
    assert more_prompts(replace(raw, value=0.5), 40) is None
    assert win_rate(drawn(500, 2.0, 0.0)).more_prompts == 0


def test_what_was_not_judged_bounds_the_rate() -> None:
    verdicts = drawn(96, 0.5, 0.0)
    assert win_rate(replace(verdicts, unjudged=1)).bounds is None, "two per cent or less"
    found = win_rate(replace(verdicts, unjudged=4))
    assert found.bounds is not None
    lost = clustered_share(np.r_[verdicts.outcomes, np.zeros(4)], np.arange(100))
    won = clustered_share(np.r_[verdicts.outcomes, np.ones(4)], np.arange(100))
    assert found.bounds == (lost.low, won.high) and found.bounds[0] < found.raw.low < found.raw.high < found.bounds[1]


def test_without_a_verdict_there_is_no_rate() -> None:
    with pytest.raises(ValueError, match="no verdict"):
        win_rate(Verdicts(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)))


def test_intervals_cover_with_ties_clusters_and_a_judge_who_likes_length() -> None:
    """200 worlds of 100 prompts, up to three pairs each: between 91 and 99 % (the benchmark has the exact figures)."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        prompts = np.repeat(np.arange(100), rng.integers(1, 4, 100))
        lengths = rng.normal(0.4, 1.0, len(prompts))
        chance = 1 / (1 + np.exp(-(0.4 + 1.2 * np.tanh(lengths / 1.0))))
        won = (rng.random(len(prompts)) < chance).astype(float)
        won[rng.random(len(prompts)) < 0.2] = 0.5
        found = win_rate(Verdicts(prompts, won, lengths), seed).controlled
        held += found.low <= 0.5752 <= found.high  # the regression's limit at d = 0, of 400,000 pairs
    assert 182 <= held <= 198
