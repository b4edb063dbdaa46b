"""Several models ranked by votes on pairs of their answers: Bradley-Terry with clustered intervals, and which pair of
models the next vote should compare."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from burnish.stats.intervals import t95

PRIOR = 0.5  # of a draw, added between every two models: an unbeaten model has a finite ability


@dataclass(frozen=True)
class Ranking:
    """Abilities of K models in log-odds, the first model's 0, with 95 % intervals of their difference from it.

    `covariance` is that of all abilities around their mean by Fisher's information, [K, K].
    """

    abilities: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def beats(self, a: int, b: int) -> float:
        """The probability that a's answer is preferred to b's."""
        return float(1 / (1 + np.exp(self.abilities[b] - self.abilities[a])))


def ranking(
    a: NDArray[np.int64], b: NDArray[np.int64], outcomes: NDArray[np.float64], clusters: NDArray[np.int64], models: int
) -> Ranking:
    """Bradley & Terry's model (1952), P(a preferred to b) = sigmoid(s_a - s_b), a tie half a win of each.

    `outcomes` are a's: 1, 1/2 or 0. Votes of one cluster (a prompt) are not independent: the variance is the sandwich
    H^- (sum_g u_g u_g') H^- x G / (G - 1), u_g the sum of a cluster's scores (x - p) (e_a - e_b), and H Fisher's
    information with `PRIOR` of a draw between every two models.
    """
    abilities = _abilities(a, b, outcomes, models)
    differences = _design(a, b, models)
    expected = 1 / (1 + np.exp(-(differences @ abilities)))
    information = (differences * (expected * (1 - expected))[:, None]).T @ differences
    for one, other in combinations(range(models), 2):
        p = 1 / (1 + np.exp(abilities[other] - abilities[one]))
        step = _design(np.array([one]), np.array([other]), models)[0]
        information += PRIOR * p * (1 - p) * np.outer(step, step)
    inverse: NDArray[np.float64] = np.asarray(np.linalg.pinv(information), dtype=np.float64)
    low, high = np.full(models, -np.inf), np.full(models, np.inf)
    low[0] = high[0] = 0.0
    groups = np.unique(clusters)
    if len(groups) > 1:
        sums = np.zeros((len(groups), models))
        np.add.at(sums, np.searchsorted(groups, clusters), differences * (outcomes - expected)[:, None])
        robust = inverse @ (sums.T @ sums) @ inverse * len(groups) / (len(groups) - 1)
        contrast = np.eye(models) - np.eye(models)[0]  # from the first
        halves = [np.sqrt(max(0.0, row @ _wider(robust, inverse, row) @ row)) * t95(len(groups) - 1)
                  for row in contrast]  # fmt: skip
        low, high = abilities - halves, abilities + halves
    return Ranking(abilities, low, high, inverse)


def _wider(robust: NDArray[np.float64], inverse: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance that gives `row` the larger variance: where few votes agree by chance, the sandwich is too
    small."""
    return robust if row @ robust @ row >= row @ inverse @ row else inverse


def next_pair(current: Ranking, candidates: list[tuple[int, int]]) -> tuple[int, int]:
    """The pair of models whose vote would lower the total variance of the abilities most.

    A vote on (a, b) adds v d d' to the information, v = p (1 - p), d = e_a - e_b; by Sherman & Morrison the trace of
    its inverse S falls by v |S d|^2 / (1 + v d' S d). Raises ValueError without candidates.
    """

    def gain(pair: tuple[int, int]) -> float:
        p = current.beats(*pair)
        moved = current.covariance[:, pair[0]] - current.covariance[:, pair[1]]
        spread = p * (1 - p)
        return float(spread * (moved @ moved) / (1 + spread * (moved[pair[0]] - moved[pair[1]])))

    return max(candidates, key=gain)


def _abilities(
    a: NDArray[np.int64], b: NDArray[np.int64], outcomes: NDArray[np.float64], models: int
) -> NDArray[np.float64]:
    """Log-abilities minus the first's, by evalica's solver."""
    import evalica

    kinds = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    pairs = list(combinations(range(models), 2))
    solution = evalica.bradley_terry(
        [*a.tolist(), *(pair[0] for pair in pairs)], [*b.tolist(), *(pair[1] for pair in pairs)],
        [*(kinds[x] for x in outcomes.tolist()), *([evalica.Winner.Draw] * len(pairs))],
        weights=[*([1.0] * len(a)), *([PRIOR] * len(pairs))], tolerance=1e-10, limit=20_000,
    )  # fmt: skip
    logs = np.log(np.array([float(solution.scores[model]) for model in range(models)]))
    centred: NDArray[np.float64] = logs - logs[0]
    return centred


def _design(a: NDArray[np.int64], b: NDArray[np.int64], models: int) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = np.eye(models)[a] - np.eye(models)[b]
    return rows
