"""Where a noisy curve is highest: the interval holds the place, on sharp peaks and on flat tops."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.stats.peaks import local_weights, peak_of


def test_a_local_quadratic_gives_a_quadratic_back() -> None:
    x = np.sort(np.random.default_rng(0).uniform(0, 3, 40))
    y = 1 + 2 * x - 0.7 * x * x
    assert local_weights(x, x) @ y == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize(("width", "noise"), [(0.3, 0.02), (1.0, 0.05)])
def test_the_interval_holds_the_peak(width: float, noise: float) -> None:
    """60 noisy curves 1 / (1 + ((x - 1.5) / width)^2): 95 % less their noise."""
    x, held = np.linspace(0, 4, 100), 0
    for seed in range(60):
        y = 1 / (1 + ((x - 1.5) / width) ** 2) + np.random.default_rng(seed).normal(0, noise, 100)
        peak = peak_of(x, y, seed)
        held += peak.low <= 1.5 <= peak.high
    assert held >= 0.9 * 60


def test_a_flat_curve_may_be_highest_anywhere_and_a_rising_one_at_its_end() -> None:
    x, flat, rising = np.linspace(0, 4, 80), 0, 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 0.1, 80)
        peak = peak_of(x, noise, seed)
        flat += peak.first and peak.last
        rising += peak_of(x, 0.5 * x + noise, seed).last
    assert flat >= 80 and rising >= 90
