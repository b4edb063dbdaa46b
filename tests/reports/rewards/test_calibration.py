"""Calibration: section by section what the formulas say, the same numbers as in training, and a known temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.special import expit

from burnish.objectives.metrics import CalibrationError, margin_metrics
from burnish.reports.rewards.calibration import after_temperature, calibration, calibration_error, losses, temperature
from burnish.reports.rewards.calibration import reliability as bins_of
from burnish.tensors import Pairs

ONES = np.ones


def test_ece_by_hand() -> None:
    """P = .73, .73 (wrong), .5 (a tie): bins [.5, .55) and [.7, .75) hold confidence minus outcome 0 and .46."""
    margins = np.array([1.0, -1.0, 0.0])
    confidence = expit(1.0)
    assert calibration_error(margins, ONES(3)) == pytest.approx(abs(2 * confidence - 1) / 3)
    found = losses(margins, ONES(3))
    assert found["nll"] == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(1)) + math.log(2)) / 3)
    assert found["brier"] == pytest.approx((expit(-1) ** 2 + expit(1) ** 2 + 0.25) / 3)


def test_the_numbers_are_those_that_training_logs() -> None:
    rng = np.random.default_rng(0)
    rewards = np.round(rng.normal(size=400) * 2, 1)  # some ties
    pairs = Pairs(torch.arange(200), torch.arange(200, 400), torch.ones(200))
    logged = margin_metrics(torch.tensor(rewards), torch.ones(400, dtype=torch.long), pairs)
    margins = rewards[:200] - rewards[200:]
    found = losses(margins, ONES(200))
    for name in ("ece", "nll", "brier"):
        assert found[name] == pytest.approx(logged[f"calibration/{name}"].mean, abs=1e-12)
    assert found["ece"] == pytest.approx(CalibrationError.of(torch.tensor(margins)).mean, abs=1e-14)


def test_the_bins_add_up_to_the_error() -> None:
    rng = np.random.default_rng(1)
    margins, weights = rng.normal(size=300) * 2, rng.integers(1, 4, 300).astype(float)
    clusters = np.arange(300)
    rows = bins_of(margins, clusters, ONES(300))
    parts = [row["pairs"] / 300 * abs(row["confidence"] - row["value"]) for row in rows]
    assert sum(parts) == pytest.approx(calibration_error(margins, ONES(300)))
    assert all(row["from"] <= row["confidence"] <= row["to"] for row in rows)
    repeated = np.repeat(margins, weights.astype(int))  # a pair of weight 2 is the pair twice
    assert calibration_error(margins, weights) == pytest.approx(calibration_error(repeated, ONES(len(repeated))))


def bradley_terry(rng: np.random.Generator, pairs: int, heat: float, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Margins of the winner where P(win) = sigmoid(gap) and the scorer says `heat` times the gap; clusters."""
    gaps = rng.normal(size=pairs) * 1.5
    won = np.where(rng.random(pairs) < expit(gaps), 1.0, -1.0)
    return won * gaps * heat, rng.integers(0, prompts, pairs)


def test_the_temperature_is_the_minimum() -> None:
    margins, clusters = bradley_terry(np.random.default_rng(2), 400, 2.0, 100)
    weights = np.random.default_rng(3).integers(1, 3, 400).astype(float)

    def nll(log_t: float) -> float:
        return float((weights * np.logaddexp(0, -margins / math.exp(log_t))).sum())

    best = optimize.minimize_scalar(nll, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    assert temperature(margins, clusters, weights)["value"] == pytest.approx(math.exp(best.x), rel=1e-6)


def test_a_known_temperature_lies_in_its_interval() -> None:
    """In a Bradley-Terry world whose scorer says twice the truth, the 95 % interval covers T = 2, about 95 % of the
    time over 400 worlds (se 1.1 %); and it is not so wide that T = 1 would do."""
    rng = np.random.default_rng(4)
    covered, excludes_one = 0, 0
    for _ in range(400):
        margins, clusters = bradley_terry(rng, 500, 2.0, 200)
        found = temperature(margins, clusters, ONES(500))
        covered += found["low"] < 2 < found["high"]
        excludes_one += found["low"] > 1
    assert abs(covered / 400 - 0.95) < 0.035 and excludes_one > 390


def test_the_temperature_mends_what_it_can_on_other_prompts() -> None:
    margins, clusters = bradley_terry(np.random.default_rng(5), 4000, 3.0, 2000)
    found = calibration(margins, clusters, ONES(4000))
    right = calibration(margins / 3, clusters, ONES(4000))
    assert found["ece"] > 0.1 and found["after"]["ece"] < 0.025 and found["after"]["nll"] < found["nll"]
    assert right["ece"] < 2 * right["ece_by_chance"] and right["temperature"]["low"] < 1 < right["temperature"]["high"]


def test_error_by_chance_is_what_true_probabilities_give() -> None:
    rng = np.random.default_rng(6)
    gaps = rng.normal(size=200) * 2
    found = []
    for _ in range(400):
        margins = np.where(rng.random(200) < expit(gaps), 1, -1) * gaps
        found.append(calibration_error(margins, ONES(200)))
    message = calibration(gaps, np.arange(200), ONES(200))["ece_by_chance"]
    assert message == pytest.approx(np.mean(found), rel=0.1)


def test_where_no_temperature_is_best_the_reason_is_given() -> None:
    worse = temperature(np.array([1.0, -3.0]), np.arange(2), ONES(2))
    perfect = temperature(np.array([1.0, 0.5]), np.arange(2), ONES(2))
    assert worse["value"] is None and "not positive" in worse["message"]
    assert perfect["value"] is None and "no pair is ranked wrongly" in perfect["message"]
    assert after_temperature(np.array([1.0, 0.5]), np.arange(2), ONES(2)) is None


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_any_scale_of_rewards(scale: float) -> None:
    margins, clusters = bradley_terry(np.random.default_rng(7), 200, 1.0, 100)
    plain, scaled = temperature(margins, clusters, ONES(200)), temperature(margins * scale, clusters, ONES(200))
    assert [scaled[k] / scale for k in ("value", "low", "high")] == pytest.approx(
        [plain[k] for k in ("value", "low", "high")], rel=1e-6
    )
