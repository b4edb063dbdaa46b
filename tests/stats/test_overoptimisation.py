"""The fitted form of gold against sqrt(KL): its coefficients, its peak, and when there is none to tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.stats import gold_curve
from burnish.stats.overoptimisation import FORMS

TRUTH = {"square": (0.2, 0.5, 0.08), "log": (0.2, 0.6, 0.3), "kl": (0.2, 0.06, 0.0015)}


def world(name: str, points: int, noise: float, reach: float = 6.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    d = np.linspace(0.2, reach, points)
    form = next(form for form in FORMS if form.name == name)
    gold = form.design(d) @ np.array(TRUTH[name])
    return d**2, gold + np.random.default_rng(seed).normal(0, noise, points)


def summit(name: str) -> float:
    """By a search over a fine grid."""
    d = np.linspace(0.01, 10, 100_000)
    form = next(form for form in FORMS if form.name == name)
    return float(d[np.argmax(form.design(d) @ np.array(TRUTH[name]))])


@pytest.mark.parametrize("name", TRUTH)
def test_points_without_noise_give_back_form_coefficients_and_peak(name: str) -> None:
    curve = gold_curve(*world(name, 60, 0.0))
    assert curve is not None and curve.form == name and curve.reason == ""
    assert curve.coefficients == pytest.approx(TRUTH[name], abs=1e-9)
    assert curve.peak == pytest.approx(summit(name), abs=0.2)  # of the 60 places
    kl, gold = world(name, 60, 0.0)
    assert curve.at(np.sqrt(kl)) == pytest.approx(gold, abs=1e-9)
    assert curve.top == pytest.approx(float(curve.at(np.array([summit(name)]))[0]), abs=5e-3)


def test_a_collapse_does_not_bend_the_form() -> None:
    """Gold that drops to a floor and stays there: the form is fitted to the rise and the first fall alone."""
    d = np.linspace(0.2, 12, 120)
    form = FORMS[0]
    gold = np.maximum(form.design(d) @ np.array(TRUTH["square"]), -0.5)
    curve = gold_curve(d**2, gold + np.random.default_rng(0).normal(0, 0.02, 120))
    assert curve is not None and curve.reason == "" and curve.reach < 8
    assert curve.low <= summit("square") <= curve.high
    assert curve.form == "square" and curve.coefficients == pytest.approx(TRUTH["square"], abs=0.05)


def test_a_line_has_no_peak_to_tell() -> None:
    """In 100 noisy lines a peak is told in at most 5."""
    told = 0
    for seed in range(100):
        d = np.linspace(0.2, 6, 25)
        gold = 0.2 + 0.1 * d + np.random.default_rng(seed).normal(0, 0.03, 25)
        curve = gold_curve(d**2, gold, seed)
        assert curve is not None
        told += not curve.reason
    assert told <= 5


def test_a_peak_beyond_the_points_is_not_told() -> None:
    curve = gold_curve(*world("square", 20, 0.01, reach=2.5))
    assert curve is not None and "not identifiable" in curve.reason and math.isnan(curve.peak)
    assert "farthest points" in curve.reason


def test_the_interval_holds_the_peak() -> None:
    """200 noisy worlds of the RL form: the peak is within in 95 % of those where one is told, less their noise."""
    truth, told, held = summit("log"), 0, 0
    for seed in range(200):
        curve = gold_curve(*world("log", 60, 0.03, reach=8.0, seed=seed), seed)
        assert curve is not None
        if not curve.reason:
            told += 1
            held += curve.low <= truth <= curve.high
    assert told > 150 and held >= 0.92 * told


def test_few_points_fit_anything() -> None:
    assert gold_curve(*world("log", 5, 0.0)) is None
    kl, gold = world("log", 9, 0.0)
    gold[3:8] = math.nan
    assert gold_curve(kl, gold) is None, "what was not measured is no point"
