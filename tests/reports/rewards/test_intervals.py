"""The clustered estimators of `stats`: by hand, against scipy where its assumptions hold, and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from burnish.stats import clustered_correlation, clustered_mean, clustered_share, t95, wilson


def test_a_clustered_mean_by_hand() -> None:
    """m = sum w y / sum w; V = G / (G - 1) sum_g (sum w (y - m))^2 / (sum w)^2."""
    values, weights = np.array([1.0, 3.0, 2.0, 8.0]), np.array([1.0, 1.0, 2.0, 1.0])
    clusters = np.array([7, 7, 4, 4])
    found = clustered_mean(values, clusters, weights)
    assert found.value == (1 + 3 + 4 + 8) / 5 == 3.2
    # cluster 7: -2.2 - 0.2 = -2.4; cluster 4: 2 x -1.2 + 4.8 = 2.4
    assert math.isclose(found.error, math.sqrt(2 / 1 * (2.4**2 + 2.4**2) / 25))
    assert found.clusters == 2 and math.isclose(found.high - found.value, 12.706204736 * found.error, rel_tol=1e-9)


def test_one_trial_a_cluster_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, 23)
    found = clustered_mean(values, np.arange(23))
    low, high = scipy_stats.t.interval(0.95, 22, values.mean(), scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert t95(22) == pytest.approx(scipy_stats.t.ppf(0.975, 22))


def test_trials_that_repeat_within_a_cluster_carry_nothing_new() -> None:
    values = np.random.default_rng(1).normal(size=20)
    once, often = (
        clustered_mean(values, np.arange(20)),
        clustered_mean(np.repeat(values, 9), np.repeat(np.arange(20), 9)),
    )
    assert (once.low, once.high) == pytest.approx((often.low, often.high))


def test_a_weight_of_two_is_the_trial_twice() -> None:
    values, clusters = np.array([0.0, 1.0, 1.0, 0.5]), np.array([0, 0, 1, 2])
    weights = np.array([2.0, 1.0, 3.0, 1.0])
    repeated = np.repeat(np.arange(4), weights.astype(int))
    for estimate in (clustered_mean, clustered_share):
        weighted, unweighted = estimate(values, clusters, weights), estimate(values[repeated], clusters[repeated])
        assert weighted.value == pytest.approx(unweighted.value) and weighted.error == pytest.approx(unweighted.error)


def test_a_share_of_equal_weights_does_not_depend_on_them() -> None:
    outcomes = np.array([1.0, 0.0, 1.0, 1.0, 0.5])
    plain, weighted = (clustered_share(outcomes, np.arange(5), w) for w in (None, np.full(5, 0.25)))
    assert (plain.value, plain.low, plain.high) == pytest.approx((weighted.value, weighted.low, weighted.high))


def test_a_share_claims_no_more_trials_than_its_weights_are_worth() -> None:
    """Right and wrong cancel within every prompt but one: the interval is still that of (sum w)^2 / sum w^2 trials."""
    outcomes, clusters = np.tile([1.0, 0.0], 50), np.repeat(np.arange(50), 2)
    outcomes[:2] = 1
    weights = np.tile([2.0, 2.0, 1.0, 1.0], 25)
    found = clustered_share(outcomes, clusters, weights)
    assert (found.low, found.high) == pytest.approx(wilson(found.value, 150**2 / 250))


def test_what_cannot_be_known_is_not_a_number() -> None:
    alone = clustered_mean(np.array([1.0, 2.0]), np.array([3, 3]))
    assert alone.value == 1.5 and math.isnan(alone.low) and math.isnan(alone.error)
    nothing = clustered_mean(np.zeros(0), np.zeros(0, dtype=np.int64))
    assert math.isnan(nothing.value) and nothing.clusters == 0


def test_coverage_of_means_and_shares_with_prompts_of_unequal_size() -> None:
    """Prompts have effects of their own and 1 to 9 pairs: 95 % intervals cover about 95 % of the time (se 0.7 %)."""
    rng = np.random.default_rng(2)
    covered, naive = np.zeros(2), 0.0
    rounds = 1000
    for _ in range(rounds):
        sizes = rng.integers(1, 10, 60)
        clusters = np.repeat(np.arange(60), sizes)
        effect = np.repeat(rng.normal(size=60), sizes)
        values = 1.0 + effect + rng.normal(size=len(clusters))
        hits = (effect > 0.6 + rng.normal(size=len(clusters))).astype(np.float64)  # P = Phi(-0.6 / sqrt 2) = 0.3357
        mean, share = clustered_mean(values, clusters), clustered_share(hits, clusters)
        covered += [mean.low < 1.0 < mean.high, share.low < scipy_stats.norm.cdf(-0.6 / math.sqrt(2)) < share.high]
        low, high = scipy_stats.t.interval(0.95, len(values) - 1, values.mean(), scipy_stats.sem(values))
        naive += low < 1.0 < high
    assert (np.abs(covered / rounds - 0.95) < 0.025).all(), covered / rounds
    assert naive / rounds < 0.75  # what counting pairs would do


def test_a_correlation_within_one_pair_of_columns_is_pearsons() -> None:
    """Prompts of many answers without effects: centring hardly matters; with one prompt it is Pearson's exactly."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 50))
    one = clustered_correlation(x, y, np.zeros(50, dtype=np.int64))
    assert one.value == pytest.approx(scipy_stats.pearsonr(x, y).statistic) and math.isnan(one.low)


def test_a_correlation_is_within_prompts_and_not_between_them() -> None:
    """Levels differ between prompts the other way round: r = -1 within, though the pooled one is positive."""
    prompts = np.repeat(np.arange(30), 3)
    inside = np.tile([-1.0, 0.0, 1.0], 30)
    x, y = 10.0 * prompts + inside, 10.0 * prompts - inside
    assert clustered_correlation(x, y, prompts).value == pytest.approx(-1)
    assert scipy_stats.pearsonr(x, y).statistic > 0.9
    assert math.isnan(clustered_correlation(x, np.repeat(np.arange(30.0), 3), prompts).value)  # no spread within


def test_coverage_of_the_correlation() -> None:
    """x and y have correlation 0.5 about prompts' own levels; their scale differs between prompts."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(600):
        prompts = np.repeat(np.arange(80), rng.integers(2, 7, 80))
        scale = np.repeat(rng.gamma(20.0, size=80), np.bincount(prompts))
        x, other = rng.normal(size=(2, len(prompts)))
        y = 0.5 * x + math.sqrt(0.75) * other
        levels = rng.normal(size=(2, 80))[:, prompts] * 5
        found = clustered_correlation(levels[0] + scale * x, levels[1] + scale * y, prompts)
        covered += found.low < 0.5 < found.high
    assert abs(covered / 600 - 0.95) < 0.03, covered / 600
