"""Rankings, agreement, and votes with a judge's verdicts, each against its definition."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from burnish.stats import (
    asking_order,
    chances,
    krippendorff,
    next_pair,
    predicted_win_rate,
    ranking,
    unsure_first,
)  # fmt: skip
from burnish.stats.bradley_terry import PRIOR


def drawn(models: int, votes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    skill = np.linspace(-1, 1, models)
    a = rng.integers(0, models, votes)
    b = (a + rng.integers(1, models, votes)) % models
    chance = 1 / (1 + np.exp(skill[b] - skill[a]))
    return a, b, np.where(rng.random(votes) < 0.2, 0.5, (rng.random(votes) < chance) * 1.0), skill - skill[0]


def test_abilities_maximise_the_likelihood_with_half_a_draw_between_every_two() -> None:
    a, b, outcomes, _ = drawn(4, 300)
    found = ranking(a, b, outcomes, np.arange(300), 4)

    def loss(free: np.ndarray) -> float:
        s = np.append(0.0, free)
        gaps = s[a] - s[b]
        prior = sum(PRIOR * (np.logaddexp(0, s[i] - s[j]) - 0.5 * (s[i] - s[j])) for i, j in combinations(range(4), 2))
        return float((np.logaddexp(0, gaps) - outcomes * gaps).sum() + prior)

    best = minimize(loss, np.zeros(3), tol=1e-12).x
    assert found.abilities[1:] == pytest.approx(best, abs=1e-4) and found.abilities[0] == 0
    assert found.beats(3, 0) == pytest.approx(1 / (1 + math.exp(-found.abilities[3])))


def test_intervals_count_prompts_and_not_votes() -> None:
    a, b, outcomes, _ = drawn(3, 200)
    once = ranking(a, b, outcomes, np.arange(200), 3)
    again = ranking(np.tile(a, 4), np.tile(b, 4), np.tile(outcomes, 4), np.tile(np.arange(200), 4), 3)
    assert again.high[1] - again.low[1] == pytest.approx(once.high[1] - once.low[1], rel=0.2), "and not half of it"


def test_rankings_intervals_cover() -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 3, 300), rng.integers(1, 3, 300)
        b = (a + b) % 3
        skill = np.array([0.0, 0.4, 0.8])
        outcomes = (rng.random(300) < 1 / (1 + np.exp(skill[b] - skill[a]))) * 1.0
        found = ranking(a, b, outcomes, np.arange(300), 3)
        held += bool(found.low[2] <= 0.8 <= found.high[2])
    assert 0.91 <= held / 200 <= 0.99


def test_the_next_pair_is_the_one_whose_vote_lowers_the_variance_most() -> None:
    a, b, outcomes = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 2]), np.array([1.0, 0, 1, 0, 1])
    found = ranking(a, b, outcomes, np.arange(5), 3)
    traces = {}
    for pair in combinations(range(3), 2):
        step = np.eye(3)[pair[0]] - np.eye(3)[pair[1]]
        p = found.beats(*pair)
        more = np.linalg.pinv(np.linalg.pinv(found.covariance) + p * (1 - p) * np.outer(step, step))
        traces[pair] = np.trace(more)
    assert next_pair(found, list(traces)) == min(traces, key=lambda pair: traces[pair])


def test_krippendorffs_alpha_is_one_minus_observed_over_expected() -> None:
    items = [{"x": 1, "y": 1}, {"x": 0, "y": 1}, {"x": 0, "y": 0}, {"x": 1, "y": 1, "z": 0}, {"x": 1}]
    pairs = [(u, v, len(item) - 1) for item in items if len(item) > 1 for u in item.items() for v in item.items()
             if u[0] != v[0]]  # fmt: skip
    observed = sum((u[1] != v[1]) / m for u, v, m in pairs)
    values = [value for item in items if len(item) > 1 for value in item.values()]
    total = len(values)
    expected = sum(values[i] != values[j] for i in range(total) for j in range(total)) / (total - 1)
    found = krippendorff(items)
    assert found.alpha == pytest.approx(1 - observed / expected) and found.items == 4
    assert found.low <= found.alpha <= found.high
    assert math.isnan(krippendorff([{"x": 1}]).alpha)


def test_with_a_useless_judge_the_votes_alone_count_and_with_a_perfect_one_every_verdict() -> None:
    rng = np.random.default_rng(0)
    people = (rng.random(400) < 0.6) * 1.0
    votes = np.full(400, np.nan)
    votes[:50] = people[:50]
    even = np.full(400, 50 / 400)
    perfect = predicted_win_rate(people, votes, even)
    assert perfect.value == pytest.approx(people.mean()) and perfect.trust == pytest.approx(1.0, abs=0.15)
    useless = predicted_win_rate(np.full(400, 0.5), votes, even)
    assert useless.trust == 0 and useless.value == pytest.approx(people[:50].mean())
    assert useless.worth == pytest.approx(50) and perfect.worth > 200
    with pytest.raises(ValueError, match="belong together"):
        predicted_win_rate(people, votes, np.zeros(400))


@pytest.mark.parametrize("unsure", [False, True])
def test_people_and_judge_together_cover_whatever_the_judge_says(unsure: bool) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(600):
        people = (rng.random(200) < 0.6) * 1.0
        judge = np.where(rng.random(200) < 0.5, people, rng.choice([0.0, 0.5, 1.0], 200, p=[0.1, 0.3, 0.6]))
        weights = unsure_first(judge) if unsure else np.ones(200)
        asked = asking_order(weights, rng)[:60]
        votes = np.full(200, np.nan)
        votes[asked] = people[asked]
        found = predicted_win_rate(judge, votes, chances(weights, 60))
        held += found.low <= 0.6 <= found.high
    assert 0.92 <= held / 600 <= 0.98


def test_chances_add_up_and_none_is_above_one() -> None:
    weights = np.array([0.1, 1.0, 5.0, 1.0])
    found = chances(weights, 2)
    assert found.sum() == pytest.approx(2) and found.max() <= 1 and (np.diff(found[[0, 1, 2]]) > 0).all()
    assert chances(weights, 9).tolist() == [1.0] * 4
