"""Where more of a proxy reward stops helping: gold against d = sqrt(KL), its fitted form, and the peak.

The forms, with r the gold at d = 0:

    square    r + d (a - b d)        Gao, Schulman & Hilton (2023), for best-of-n
    log       r + d (a - b ln d)     the same, for RL; Rafailov et al. (2024), for direct alignment
    kl        r + a d^2 - b d^4      a parabola in the KL, to which Rafailov et al. compare

Each is linear in (r, a, b), so a fit is least squares. A form describes the rise and the first fall: points beyond the
place where gold has lost twice what it had gained are left out of it, as no form describes a policy that has collapsed.
The peak and its interval come from the points themselves, by local fits (`peaks`), not from the form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.stats.peaks import Peak, local_weights, peak_of

Floats = NDArray[np.float64]
LEAST = 7  # points; with fewer a form with three coefficients fits anything
FOLDS = 5  # of the cross-validation; each leaves every fifth point out


@dataclass(frozen=True)
class CurveForm:
    """A form: its two columns beside the constant."""

    name: str
    columns: Callable[[Floats], tuple[Floats, Floats]]

    def design(self, d: Floats) -> Floats:
        return np.stack([np.ones_like(d), *self.columns(d)], axis=1)


def _d_log_d(d: Floats) -> Floats:
    return d * np.log(np.where(d > 0, d, 1.0))


FORMS = (
    CurveForm("square", lambda d: (d, -d * d)),
    CurveForm("log", lambda d: (d, -_d_log_d(d))),
    CurveForm("kl", lambda d: (d**2, -(d**4))),
)


@dataclass(frozen=True)
class Curve:
    """A fitted curve. `reason`: why no peak is told from these points; empty where `peak` and its 95 % interval are.

    `errors`: root mean square errors on points that a fit did not see, by form, with that of a "line" r + a d. `reach`:
    the largest d that the form was fitted to.
    """

    form: str
    coefficients: tuple[float, float, float]  # r, a, b
    errors: dict[str, float]
    reach: float
    reason: str
    peak: float = math.nan  # d where gold is highest
    low: float = math.nan
    high: float = math.nan
    top: float = math.nan  # gold there

    def at(self, d: Floats) -> Floats:
        """The fitted gold at each d, [n]."""
        form = next(form for form in FORMS if form.name == self.form)
        values: Floats = form.design(d) @ np.array(self.coefficients)
        return values


def gold_curve(kl: Floats, gold: Floats, seed: int = 0) -> Curve | None:
    """The form that tells unseen points best, fitted to gold [n] at KL [n] nats of one run; None below `LEAST` points.

    A peak is told where neither the farthest points nor every place may be the highest (`peaks.peak_of`).
    """
    known = np.isfinite(kl) & np.isfinite(gold) & (kl >= 0)
    d, gold = np.sqrt(kl[known]), gold[known]
    order = np.argsort(d, kind="stable")
    d, gold = d[order], gold[order]
    if len(np.unique(d)) < LEAST:
        return None
    peak = peak_of(d, gold, seed)
    inside = d <= _collapse(d, gold, peak)
    near, level = d[inside], gold[inside]
    errors = {form.name: _held_out(form.design(near), level) for form in FORMS}
    errors["line"] = _held_out(FORMS[0].design(near)[:, :2], level)
    best = min(FORMS, key=lambda form: errors[form.name])
    r, a, b = (float(x) for x in _solve(best.design(near), level))
    told = Curve(best.name, (r, a, b), errors, float(near[-1]), "", peak.place, peak.low, peak.high, peak.value)
    if peak.first and peak.last:
        return _without(told, "gold does not differ from place to place beyond its noise")
    if peak.last:
        return _without(told, "gold may still be highest at the farthest points; a run that goes further would tell")
    return told


def _without(curve: Curve, reason: str) -> Curve:
    unknown = f"not identifiable from this run: {reason}"
    return Curve(curve.form, curve.coefficients, curve.errors, curve.reach, unknown)


def _collapse(d: Floats, gold: Floats, peak: Peak) -> float:
    """The first d beyond the peak where smoothed gold has lost twice what it had gained; infinite where it has not."""
    smooth = local_weights(d, d) @ gold
    gained = max(peak.value - float(smooth[0]), 0.0)
    noise = float(np.std(gold - smooth))
    lost = (d > peak.place) & (smooth < peak.value - 2 * max(gained, noise))
    beyond = d[lost]
    fewest = float(d[min(len(d), 2 * LEAST) - 1])  # that a form is fitted to
    return max(float(beyond[0]), fewest) if len(beyond) else math.inf


def _solve(design: Floats, values: Floats) -> Floats:
    solution: Floats = np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], dtype=np.float64)
    return solution


def _held_out(design: Floats, gold: Floats) -> float:
    """The root mean square error of predictions for every `FOLDS`-th point, by a fit on the others."""
    places = np.arange(len(gold)) % FOLDS
    wrong = [
        gold[places == fold] - design[places == fold] @ _solve(design[places != fold], gold[places != fold])
        for fold in range(FOLDS)
    ]
    return math.sqrt(float((np.concatenate(wrong) ** 2).mean()))
