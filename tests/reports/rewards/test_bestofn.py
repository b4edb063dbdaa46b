"""Best-of-n over all subsets: against brute force, ties included, and the curves put together from it."""

from __future__ import annotations

import math
from itertools import combinations
from math import comb

import numpy as np
import pytest

from burnish.reports.rewards.bestofn import MOST, best_of, best_of_n, order_weights, reach
from burnish.reports.rewards.columns import Answers
from tests.reports.rewards.world import group


def brute(proxy: np.ndarray, values: np.ndarray, n: int) -> float:
    """Mean over all subsets of n of the mean value of its best by proxy (several where they tie)."""
    found = []
    for subset in combinations(range(len(proxy)), n):
        top = max(proxy[k] for k in subset)
        found.append(np.mean([values[k] for k in subset if proxy[k] == top]))
    return float(np.mean(found))


@pytest.mark.parametrize("levels", [0, 2, 4])
def test_it_is_the_mean_over_all_subsets(levels: int) -> None:
    """`levels` distinct rewards (0: all distinct): half of the draws are ties."""
    rng = np.random.default_rng(levels)
    for count in (1, 2, 5, 8):
        proxy = rng.normal(size=count) if not levels else rng.integers(0, levels, count).astype(float)
        values = rng.normal(size=count)
        expected = [brute(proxy, values, n) for n in range(1, count + 1)]
        assert best_of(proxy, values, count) == pytest.approx(expected, abs=1e-12)


def test_the_weights_are_ratios_of_binomials() -> None:
    weights = order_weights(90, 64)
    exact = [[comb(i - 1, n - 1) / comb(90, n) for i in range(1, 91)] for n in range(1, 65)]
    assert weights == pytest.approx(np.array(exact), rel=1e-10)
    assert weights.sum(axis=1) == pytest.approx(np.ones(64))


def test_the_ends_of_a_curve() -> None:
    """n = 1 is the mean, n = K the value of the best by proxy."""
    proxy, values = np.array([3.0, 1.0, 2.0]), np.array([10.0, 30.0, 50.0])
    assert best_of(proxy, values, 3) == pytest.approx([30, brute(proxy, values, 2), 10])


def test_it_is_unbiased_for_fresh_answers() -> None:
    """For answers drawn from a normal law, E[largest of 4] = 1.02938 (order statistics), whatever K."""
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(4000, 12))
    means = [best_of(row, row, 4)[3] for row in draws]
    assert abs(np.mean(means) - 1.02938) < 4 * np.std(means) / math.sqrt(4000)


def test_how_far_a_curve_reaches() -> None:
    assert reach([2] * 1000 + [64] * 20) == 64 and reach([2] * 1000 + [64] * 5) == 2
    assert reach([200]) == MOST and reach([1, 1]) == 1 and reach([4, 8, 8]) == 8


def test_curves_are_means_over_groups() -> None:
    groups = [
        group({"a": (1.0, 2.0, 4.0)}, gold=(3.0, 1.0, 2.0), prompt="one"),
        group({"a": (5.0, 1.0, 1.0)}, gold=(0.0, 4.0, 6.0), prompt="two"),
        group({"a": (9.0, 8.0)}, gold=(9.0, 8.0), prompt="three"),
    ]
    found = best_of_n(Answers.of(groups, ["a"]))
    assert found is not None and found["n"] == [1, 2, 3] and found["groups"] == 2
    row = found["by"]["a"]
    first, second = best_of(np.array([1.0, 2, 4]), np.array([3.0, 1, 2]), 3), [10 / 3, 5 / 3, 0.0]
    assert row["gold"]["value"] == pytest.approx([(x + y) / 2 for x, y in zip(first, second, strict=True)])
    assert row["proxy"]["value"][0] == pytest.approx((7 / 3 + 7 / 3) / 2) and row["proxy"]["value"][2] == 4.5
    assert row["gain"]["value"][0] == 0 and found["gold"]["value"][2] == 4.5
    assert found["kl"] == pytest.approx([0, math.log(2) - 1 / 2, math.log(3) - 2 / 3])
    assert row["peak"] == 1 and row["fall"]["value"] == pytest.approx(row["gold"]["value"][2] - row["gold"]["value"][0])


def test_single_answers_have_no_curve_and_gold_is_not_needed() -> None:
    assert best_of_n(Answers.of([group({"a": (1.0,)})], ["a"])) is None
    found = best_of_n(Answers.of([group({"a": (1.0, 2.0)})], ["a"]))
    assert found is not None and found["gold"] is None and "gold" not in found["by"]["a"]
