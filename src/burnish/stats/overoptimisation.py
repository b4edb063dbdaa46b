"""Where more of a proxy reward stops helping: gold against d = sqrt(KL), its fitted form, and the peak.

The forms, with r the gold at d = 0:

    square    r + d (a - b d)        Gao, Schulman & Hilton (2023), for best-of-n
    log       r + d (a - b ln d)     the same, for RL; Rafailov et al. (2024), for direct alignment
    kl        r + a d^2 - b d^4      a parabola in the KL, to which Rafailov et al. compare

Each is linear in (r, a, b), so a fit is least squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import seed_sequence

Floats = NDArray[np.float64]
LEAST = 6  # points; with fewer a form with three coefficients fits anything
FOLDS = 5  # of the cross-validation; each leaves every fifth point out
REFITS = 1000  # of the bootstrap


@dataclass(frozen=True)
class CurveForm:
    """A form: its two columns beside the constant, and where it peaks for (a, b > 0)."""

    name: str
    columns: Callable[[Floats], tuple[Floats, Floats]]
    peak: Callable[[Floats, Floats], Floats]

    def design(self, d: Floats) -> Floats:
        return np.stack([np.ones_like(d), *self.columns(d)], axis=1)


def _d_log_d(d: Floats) -> Floats:
    return d * np.log(np.where(d > 0, d, 1.0))


FORMS = (
    CurveForm("square", lambda d: (d, -d * d), lambda a, b: a / (2 * b)),
    CurveForm("log", lambda d: (d, -_d_log_d(d)), lambda a, b: np.exp(np.minimum(a / b - 1, 50.0))),
    CurveForm("kl", lambda d: (d**2, -(d**4)), lambda a, b: np.sqrt(np.maximum(a / (2 * b), 0.0))),
)


@dataclass(frozen=True)
class Curve:
    """A fitted curve. `reason`: why no peak is told from these points; empty where `peak` and its 95 % interval are.

    `errors`: root mean square errors on points that a fit did not see, by form, with that of a "line" r + a d.
    """

    form: str
    coefficients: tuple[float, float, float]  # r, a, b
    errors: dict[str, float]
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

    A peak is told where the curve bends down (b > 0) in 97.5 % of the refits, the form tells unseen points better than
    a line, and two points at least lie beyond it. Its interval is a wild bootstrap's (Wu 1986) over the residuals, each
    scaled by its leverage.
    """
    known = np.isfinite(kl) & np.isfinite(gold) & (kl >= 0)
    d, gold = np.sqrt(kl[known]), gold[known]
    order = np.argsort(d, kind="stable")
    d, gold = d[order], gold[order]
    if len(d) < LEAST or len(np.unique(d)) < LEAST:
        return None
    errors = {form.name: _held_out(form.design(d), gold) for form in FORMS}
    errors["line"] = _held_out(FORMS[0].design(d)[:, :2], gold)
    best = min(FORMS, key=lambda form: errors[form.name])
    r, a, b = (float(x) for x in _solve(best.design(d), gold))
    refits = _refits(best.design(d), gold, seed)
    bends = float((refits[:, 2] > 0).mean())
    unknown = Curve(best.name, (r, a, b), errors, "")
    if b <= 0 or (a <= 0 and best.name != "log") or bends < 0.975:
        return _without(unknown, f"the curve bends down in {bends:.0%} of the refits, and 97.5% are wanted")
    if errors[best.name] >= errors["line"]:
        return _without(unknown, "a straight line tells points that it did not see as well")
    peaks = best.peak(refits[:, 1], np.where(refits[:, 2] > 0, refits[:, 2], np.nan))
    low, high = (float(x) for x in np.nanquantile(peaks, (0.025, 0.975)))
    peak = float(best.peak(np.array([a]), np.array([b]))[0])
    beyond = int((d > peak).sum())
    if beyond < 2:
        told = f"the fitted peak, sqrt(KL) {peak:.3g}, has {beyond} of the {len(d)} points beyond it, and 2 are wanted"
        return _without(unknown, told)
    top = float((best.design(np.array([peak])) @ np.array([r, a, b]))[0])
    return Curve(best.name, (r, a, b), errors, "", peak, low, high, top)


def _without(curve: Curve, reason: str) -> Curve:
    return Curve(curve.form, curve.coefficients, curve.errors, f"not identifiable from this run: {reason}")


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


def _refits(design: Floats, gold: Floats, seed: int) -> Floats:
    """Coefficients of `REFITS` worlds in which each residual has its sign, or the other, by the toss of a coin."""
    inverse = np.linalg.pinv(design)
    fitted = design @ (inverse @ gold)
    leverage = np.einsum("ij,ji->i", design, inverse)
    residuals = (gold - fitted) / np.sqrt(np.maximum(1 - leverage, 1e-3))
    rng = np.random.default_rng(seed_sequence(seed, "overoptimisation"))
    signs = rng.choice(np.array([-1.0, 1.0]), size=(REFITS, len(gold)))
    refits: Floats = (fitted + signs * residuals) @ inverse.T
    return refits
