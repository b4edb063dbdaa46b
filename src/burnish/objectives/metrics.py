"""What objectives share: margins, the smoothed logistic, and metrics, each a sum with its own count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from burnish.tensors import Losses, Metric, Pairs, TokenScores


def margin(values: Float[Tensor, " completions"], pairs: Pairs) -> Float[Tensor, " pairs"]:
    """Chosen less rejected."""
    return values[pairs.chosen] - values[pairs.rejected]


def smoothed_logistic(z: Float[Tensor, " pairs"], e: float) -> Float[Tensor, " pairs"]:
    """`-(1-e) log s(z) - e log s(-z)`; at e = 0 the second term is left out, for 0 x -inf is not a number."""
    loss = -F.logsigmoid(z)
    return loss if e == 0 else (1 - e) * loss - e * F.logsigmoid(-z)


def pair_losses(losses: Tensor, rewards: Tensor, scores: TokenScores, pairs: Pairs) -> Losses:
    """Losses times their pair's weight, with the metrics that every objective of pairs logs; `rewards` [completions]
    is the reward inside the loss."""
    metrics = pair_metrics(rewards.detach(), scores, pairs)
    weighted = torch.where(pairs.weight == 1, losses, losses * pairs.weight)
    return Losses(weighted, "pair", metrics, rewards.detach())


def margin_metrics(rewards: Tensor, lengths: Tensor, pairs: Pairs) -> dict[str, Metric]:
    """`rewards` [completions] is the reward inside the loss. Ties count one half; the strict count has its own name."""
    margins = (rewards[pairs.chosen] - rewards[pairs.rejected]).double()
    longer = (lengths[pairs.chosen] - lengths[pairs.rejected]).double()
    accuracy = half_ties(margins)
    values = {
        "rewards/chosen": rewards[pairs.chosen],
        "rewards/rejected": rewards[pairs.rejected],
        "rewards/margins": margins,
        "rewards/accuracies": accuracy,
        "rewards/accuracies_strict": (margins > 0).double(),
        "rewards/accuracies_longer": accuracy[longer > 0],
        "rewards/accuracies_shorter": accuracy[longer < 0],
        "calibration/nll": -F.logsigmoid(margins),
        "calibration/brier": torch.sigmoid(-margins).square(),
        "length/longer_wins": half_ties(longer),
        "length/chosen": lengths[pairs.chosen].double(),
        "length/rejected": lengths[pairs.rejected].double(),
    }
    metrics = {name: Metric.of(value) for name, value in values.items()}
    both = torch.cat([pairs.chosen, pairs.rejected])
    metrics["calibration/ece"] = CalibrationError.of(margins)
    metrics["length/reward_correlation"] = Correlation.of_two(rewards[both], lengths[both])
    return metrics


def pair_metrics(rewards: Tensor, scores: TokenScores, pairs: Pairs) -> Mapping[str, Metric]:
    """The metrics of the margin, and log-probs and log-ratios as sums and per token."""
    values = {}
    with torch.no_grad():
        logps = scores.logps
        ratios = None if scores.reference is None else scores.logratios
        for side, index in (("chosen", pairs.chosen), ("rejected", pairs.rejected)):
            values[f"logps/{side}"] = logps[index]
            values[f"logps/{side}_per_token"] = logps[index] / scores.counts[index]
            if ratios is not None:
                values[f"logratio/{side}"] = ratios[index]
                values[f"logratio/{side}_per_token"] = ratios[index] / scores.counts[index]
    return margin_metrics(rewards, scores.lengths, pairs) | {name: Metric.of(value) for name, value in values.items()}


@dataclass(frozen=True)
class CalibrationError(Metric):
    """Expected calibration error of `sigmoid(margin)` as the probability of the label.

    Confidence is `max(P, 1-P)`, in equal bins on [1/2, 1]; `sum_b |n_b|/N |conf_b - acc_b|` is the sum over bins of
    `|sum of (confidence - outcome)|`, divided by N. So the signed sums of the bins [bins] add over microbatches, and
    the absolute value is taken once, at the end: the same number whatever the split.
    """

    def __add__(self, other: Metric) -> CalibrationError:
        return CalibrationError(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        count = float(self.count)
        return float(torch.as_tensor(self.total).abs().sum()) / count if count else float("nan")

    @staticmethod
    def of(values: Tensor, bins: int = 10) -> CalibrationError:
        """From margins [pairs]; a margin that is not a number makes the result one that is not."""
        margin = values.detach().double()
        confidence = torch.sigmoid(margin.abs())
        place = ((confidence - 0.5) * 2 * bins).long().clamp(0, bins - 1)
        gaps = margin.new_zeros(bins).index_add(0, place, confidence - half_ties(margin))
        return CalibrationError(gaps, float(margin.numel()))


@dataclass(frozen=True)
class Correlation(Metric):
    """Pearson's correlation of x and y from the sums (x, y, xx, yy, xy), which add; undefined where one is constant."""

    def __add__(self, other: Metric) -> Correlation:
        return Correlation(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        x, y, xx, yy, xy = torch.as_tensor(self.total).tolist()
        n = float(self.count)
        varies_x, varies_y = n * xx - x * x, n * yy - y * y
        # below a millionth of a millionth of n xx, what is left of a constant is rounding, not variance
        if not (varies_x > 1e-12 * n * xx and varies_y > 1e-12 * n * yy):
            return float("nan")
        correlation = float(n * xy - x * y) / math.sqrt(varies_x * varies_y)
        return max(-1.0, min(1.0, correlation))

    @staticmethod
    def of_two(x: Tensor, y: Tensor) -> Correlation:
        """From two tensors of equal length, one value per completion."""
        x, y = x.detach().double(), y.detach().double()
        return Correlation(torch.stack([x.sum(), y.sum(), x @ x, y @ y, x @ y]), float(x.numel()))


@dataclass(frozen=True)
class Largest(Metric):
    """The largest value seen; undefined where there was none."""

    def __add__(self, other: Metric) -> Largest:
        return Largest(max(float(self.total), float(other.total)), self.count + other.count)

    @property
    def mean(self) -> float:
        return float(self.total) if float(self.count) else float("nan")

    @staticmethod
    def of(values: Tensor) -> Largest:
        return Largest(float(values.max()) if len(values) else -math.inf, float(values.numel()))


@dataclass(frozen=True)
class ExplainedVariance(Metric):
    """`1 - Var(R - v) / Var(R)` from the sums (R, RR, e, ee), e = R - v, which add; undefined where R is constant."""

    def __add__(self, other: Metric) -> ExplainedVariance:
        return ExplainedVariance(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        r, rr, e, ee = torch.as_tensor(self.total).tolist()
        n = float(self.count)
        spread = n * rr - r * r
        return 1 - (n * ee - e * e) / spread if spread > 1e-12 * n * rr else float("nan")

    @staticmethod
    def of_two(values: Tensor, returns: Tensor) -> ExplainedVariance:
        """From predicted values and the returns that came."""
        r, e = returns.detach().double(), (returns - values).detach().double()
        return ExplainedVariance(torch.stack([r.sum(), r @ r, e.sum(), e @ e]), float(r.numel()))


def half_ties(x: Tensor) -> Tensor:
    """1 where positive, 1/2 where zero, 0 where negative; not a number stays one."""
    return torch.where(x.isnan(), x, torch.heaviside(x, x.new_tensor(0.5)))
