"""Paired differences, exact tests and unbiased pass@k, each against its definition."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from burnish.stats import clustered_mean, holm, paired, pass_at_k
from burnish.stats.differences import mcnemar, tango


def test_one_binary_result_a_prompt_is_mcnemars_exact_test() -> None:
    a, b = np.array([1.0] * 6 + [0.0] * 14), np.array([1.0] * 4 + [0.0] * 4 + [1.0] * 9 + [0.0] * 3)
    found = paired(a, b, np.arange(20))
    assert (found.test, found.only_a, found.only_b) == ("mcnemar", 2, 9)
    assert found.p == pytest.approx(scipy_stats.binomtest(2, 11, 0.5).pvalue)
    assert found.difference.value == pytest.approx(7 / 20)


def test_every_discordant_count_is_the_binomials_tail() -> None:
    """Two-sided, of a symmetric law: twice the smaller tail, at most 1."""
    for one in range(7):
        for other in range(7):
            tail = sum(math.comb(one + other, k) for k in range(min(one, other) + 1)) / 2 ** (one + other)
            assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_tangos_interval_is_where_the_score_test_of_a_difference_accepts() -> None:
    """The score test at d, its nuisance share maximised over a fine grid of the likelihood; symmetric; never empty."""
    for lost, gained, prompts in ((2, 9, 20), (1, 0, 40), (5, 5, 30), (0, 12, 12), (3, 1, 200)):
        low, high = tango(lost, gained, prompts)
        assert low <= (gained - lost) / prompts <= high and high - low > 0.01
        assert tango(gained, lost, prompts) == pytest.approx((-high, -low), abs=1e-9)
        for d in (low, high):
            if abs(d) > 1 - 1e-9:
                continue
            q = np.linspace(max(0.0, -d), (1 - d) / 2, 200_001)[1:-1]
            likelihood = gained * np.log(q + d) + lost * np.log(q) + (prompts - gained - lost) * np.log1p(-2 * q - d)
            best = q[likelihood.argmax()]
            z = (gained - lost - prompts * d) / math.sqrt(prompts * (2 * best + d * (1 - d)))
            assert abs(z) == pytest.approx(1.96, abs=0.02), (lost, gained, prompts, d)
    assert tango(0, 0, 40) == pytest.approx((-0.0876, 0.0876), abs=1e-4), "1.96^2 / (n + 1.96^2)"


def test_tangos_interval_covers() -> None:
    rng = np.random.default_rng(0)
    for only_a, only_b in ((0.05, 0.1), (0.02, 0.02), (0.3, 0.1)):
        held = 0
        for _ in range(1500):
            lost, gained, _ = rng.multinomial(60, [only_a, only_b, 1 - only_a - only_b])
            low, high = tango(int(lost), int(gained), 60)
            held += low <= only_b - only_a <= high
        assert 0.93 <= held / 1500 <= 0.99


def test_one_result_a_prompt_that_is_not_binary_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(30), rng.random(30) + 0.2
    found, known = paired(a, b, np.arange(30)), scipy_stats.ttest_rel(b, a)
    interval = known.confidence_interval(0.95)
    assert found.test == "t" and found.p == pytest.approx(known.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


def test_prompts_drawn_several_times_are_clusters() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2, size=24).astype(float) for _ in range(2))
    clusters = np.repeat(np.arange(8), 3)
    found = paired(a, b, clusters)
    assert found.test == "t" and found.difference == clustered_mean(b - a, clusters)
    doubled = paired(np.tile(a, 2), np.tile(b, 2), np.tile(clusters, 2))
    assert doubled.p == pytest.approx(found.p), "the same draws again are no new evidence"


def test_without_a_difference_there_is_nothing_to_test() -> None:
    same = np.array([0.5, 0.25, 1.0])
    assert paired(same, same, np.arange(3)).p == 1.0
    alone = paired(np.array([0.5]), np.array([1.0]), np.zeros(1, dtype=np.int64))
    assert math.isnan(alone.p) and alone.test == "none"
    with pytest.raises(ValueError, match="3 and 2 results"):
        paired(same, same[:2], np.arange(3))


def test_holm_rejects_what_its_definition_rejects() -> None:
    """The smallest p of m is read at level/m, the next at level/(m - 1), until one is not rejected."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        ps, level = rng.random(5) ** 3, 0.05
        rejected = set()
        for rank, i in enumerate(np.argsort(ps)):
            if ps[i] > level / (5 - rank):
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(holm(list(ps))) if p <= level} == rejected
    assert holm([0.01, math.nan, 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_pass_at_k_is_the_share_of_draws_of_k_with_a_pass() -> None:
    for draws in range(1, 7):
        for passed in range(draws + 1):
            results = [1] * passed + [0] * (draws - passed)
            for k in range(1, draws + 1):
                chosen = [max(subset) for subset in combinations(results, k)]
                assert pass_at_k(passed, draws, k) == pytest.approx(sum(chosen) / len(chosen))
    with pytest.raises(ValueError, match="pass@5 of 4 draws"):
        pass_at_k(1, 4, 5)
