"""What flows between the engine and the objectives: packed rows, per-token scores, un-reduced losses, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Unit = Literal["token", "completion", "pair", "group"]


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type of sums and log-probs of a model that computes in `dtype`: float32, or float64 where that is float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def wide(tensor: Tensor) -> Tensor:
    """The tensor in its `wide_type`."""
    return tensor.to(wide_type(tensor.dtype))


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `[start, start + length)` of a flat row."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class GroupSpans:
    """Where one group lies in the flat row: its prompt, then its K branches, contiguous and in order."""

    prompt: Span
    branches: tuple[Span, ...]

    @property
    def start(self) -> int:
        return self.prompt.start

    @property
    def stop(self) -> int:
        return self.branches[-1].stop if self.branches else self.prompt.stop


@dataclass(frozen=True)
class PackedBatch:
    """One microbatch. Completions are numbered 0..C-1 over the whole microbatch, groups 0..G-1.

    The *shared* layout is one flat row: each group's prompt once, then its branches, whose positions go on from the
    prompt. The *padded* layout has a right-padded row for each completion; it serves models that cannot share. In both
    a completion token is predicted by one (flattened) input row, and a completion's last token, which predicts nothing,
    is no input.

    Example, the group with prompt (1, 9) and completions (5, 6, 2) and (7, 2) in the shared layout:

        input_ids      [[1, 9, 5, 6, 7]]      predict_rows   [1, 2, 3, 1, 4]
        position_ids   [[0, 1, 2, 3, 2]]      targets        [5, 6, 2, 7, 2]
        lengths        [3, 2]                 completion_of  [0, 0, 0, 1, 1]
        group_of       [0, 0]                 group_index    (0,)
    """

    input_ids: Int[Tensor, "rows width"]  # one row in the shared layout, C in the padded one
    position_ids: Int[Tensor, "rows width"]
    attention_mask: Int[Tensor, "rows width"] | None  # 1 for tokens, 0 for padding; None in the shared layout
    spans: tuple[GroupSpans, ...]  # where each group lies in the flat row; empty in the padded layout
    predict_rows: Int[Tensor, " tokens"]  # for each completion token the input row that predicts it
    targets: Int[Tensor, " tokens"]  # the completion tokens, completion after completion
    completion_of: Int[Tensor, " tokens"]  # the completion of each token
    lengths: Int[Tensor, " completions"]  # tokens of each completion
    group_of: Int[Tensor, " completions"]  # the group of each completion
    group_index: tuple[int, ...]  # for each group its index among the step's groups

    @property
    def shared(self) -> bool:
        return self.attention_mask is None

    @property
    def idle(self) -> bool:
        """Whether it holds none of the step's groups: a few tokens for a process that has no more of them, while others
        still compute."""
        return not self.group_index

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of the microbatch's tokens [tokens, ...] in pieces, one for each completion."""
        return torch.split(values, self.lengths.tolist())


@dataclass(frozen=True)
class TokenScores:
    """Per-token log-probs of every completion of a microbatch, in nats: float32, float64 in exactness tests.

    Tokens of one completion are contiguous and in order. Example, of two completions of 3 and 2 tokens in one group:

        TokenScores(policy=tensor([-0.1, -2.3, -0.4, -1.7, -0.2]), reference=tensor([-0.2, -1.9, -0.4, -2.0, -0.2]),
                    completion_of=tensor([0, 0, 0, 1, 1]), lengths=tensor([3, 2]), group_of=tensor([0, 0]))
    """

    policy: Float[Tensor, " tokens"]  # log pi(y_t | x, y_<t), with gradient
    reference: Float[Tensor, " tokens"] | None  # the same of the reference, without gradient; None where none is needed
    completion_of: Int[Tensor, " tokens"]  # the completion of each token
    lengths: Int[Tensor, " completions"]  # tokens of each completion
    group_of: Int[Tensor, " completions"]  # the group of each completion
    square: Float[Tensor, " tokens"] | None = None  # log sum_v p(v)^2 of the policy, without gradient; where needed
    kl: Float[Tensor, " tokens"] | None = None  # KL(reference || policy), with gradient; where needed
    values: Float[Tensor, " tokens"] | None = None  # a value head's, of the state in which each token is chosen

    def zero_loss(self) -> Tensor:
        """0, computed from the model's output: its gradient is 0 everywhere."""
        return 0.0 * self.policy.sum()

    def sum_by_completion(self, values: Float[Tensor, " tokens"]) -> Float[Tensor, " completions"]:
        """Segment sum over each completion's tokens; an empty completion sums to exactly 0.

        Added up in float64: one after the other in float32, 32 000 tokens lose a tenth of a nat.
        """
        zero = values.new_zeros(self.lengths.shape[0], dtype=torch.float64)
        return zero.index_add(0, self.completion_of, values.to(torch.float64)).to(values.dtype)

    @property
    def logps(self) -> Float[Tensor, " completions"]:
        """Summed policy log-probs S (objectives.md 1.1: sum over completion tokens, end-of-turn included)."""
        return self.sum_by_completion(self.policy)

    @property
    def logratios(self) -> Float[Tensor, " completions"]:
        """Summed log-ratios: `p_t - q_t` is formed per token, then summed (long sums keep their digits that way)."""
        if self.reference is None:
            raise ValueError("this objective needs reference log-probs, and none were computed")
        return self.sum_by_completion(self.policy - self.reference)

    @property
    def reference_logps(self) -> Float[Tensor, " completions"]:
        """The reference's summed log-probs R, in float64: float32 would round a sum of thousands of nats."""
        if self.reference is None:
            raise ValueError("this objective needs reference log-probs, and none were computed")
        return self.sum_by_completion(self.reference.double())

    @property
    def squares(self) -> Float[Tensor, " tokens"]:
        """`square`, for an objective that needs it."""
        if self.square is None:
            raise ValueError("this objective needs log sum_v p(v)^2 at every position, and it was not computed")
        return self.square

    @property
    def divergence(self) -> Float[Tensor, " tokens"]:
        """`kl`, for an objective that needs it."""
        if self.kl is None:
            raise ValueError("this objective needs the KL at every position, and it was not computed")
        return self.kl

    @property
    def places(self) -> Int[Tensor, " tokens"]:
        """Which token of its completion each one is, from 0."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.completion_of), device=self.lengths.device) - starts[self.completion_of]

    @property
    def counts(self) -> Float[Tensor, " completions"]:
        """Lengths as floats, at least 1, for means over tokens."""
        return self.lengths.clamp(min=1).to(self.policy.dtype)


@dataclass(frozen=True)
class ScalarScores:
    """One reward for every completion of a microbatch, from a scalar head; float32, with gradient."""

    rewards: Float[Tensor, " completions"]
    lengths: Int[Tensor, " completions"]
    group_of: Int[Tensor, " completions"]

    def zero_loss(self) -> Tensor:
        """0, computed from the model's output: its gradient is 0 everywhere."""
        return 0.0 * self.rewards.sum()


@dataclass(frozen=True)
class PairSums:
    """Sums over every pair of a step, without gradient, from a first pass over its microbatches."""

    reference_chosen: Float[Tensor, " step_pairs"]  # the reference's log-probs, in float64
    reference_rejected: Float[Tensor, " step_pairs"]
    chosen: Float[Tensor, " step_pairs"]  # log-ratios a
    rejected: Float[Tensor, " step_pairs"]  # log-ratios b
    chosen_lengths: Int[Tensor, " step_pairs"]
    rejected_lengths: Int[Tensor, " step_pairs"]


@dataclass(frozen=True)
class SingleSums:
    """Summed log-ratios of every answer of a step with its label, and of mismatched answers; without gradient."""

    logratios: Float[Tensor, " step_singles"]
    desirable: Bool[Tensor, " step_singles"]
    mismatched: Float[Tensor, " mismatched"]


@dataclass(frozen=True)
class Drawn:
    """Token positions drawn for one side of each pair: (which pair, which token of the microbatch), in parallel."""

    pair: Int[Tensor, " drawn"]
    token: Int[Tensor, " drawn"]


@dataclass(frozen=True)
class Pairs:
    """The pair view of a microbatch: indices of chosen and rejected completions, and each pair's weight."""

    chosen: Int[Tensor, " pairs"]
    rejected: Int[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]
    wins: tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]] | None = None  # chance that each side wins, if known
    mean_length: float | None = None  # tokens of a chosen completion, the weighted mean over the whole step's pairs
    step: PairSums | None = None  # all pairs of the step, for objectives that need them; None: these pairs are the step
    place: Int[Tensor, " pairs"] | None = None  # which of the step's pairs these are
    margin: Float[Tensor, " pairs"] | None = None  # by how much the data says the chosen one is better, where it does
    drawn: tuple[Drawn, Drawn] | None = None  # of chosen and rejected
    share: Float[Tensor, " pairs"] | None = None  # what a pair weighs where each group of the step weighs the same


@dataclass(frozen=True)
class Singles:
    """The unpaired view: which completions are trained on, and their yes/no labels (True where unlabelled)."""

    index: Int[Tensor, " singles"]
    desirable: Bool[Tensor, " singles"]
    step: SingleSums | None = None


@dataclass(frozen=True)
class Rollouts:
    """The view of sampled answers: what they were sampled with, and what they are worth, token by token.

    An advantage of a whole completion stands at each of its tokens. `mask` is False where the policy did not write (a
    tool's output). `values` (with gradient), `old_values` and `returns` are there where a value head is.
    """

    behavior: Float[Tensor, " tokens"]  # log-probs as sampled
    advantage: Float[Tensor, " tokens"]
    mask: Bool[Tensor, " tokens"]
    values: Float[Tensor, " tokens"] | None = None
    old_values: Float[Tensor, " tokens"] | None = None
    returns: Float[Tensor, " tokens"] | None = None
    limit: int | None = None  # the most tokens that an answer could have had


@dataclass(frozen=True)
class Lists:
    """The ranked view: each group's completions from best to worst, with their scores; rows are groups, padded right.

    `index` is 0 and `mask` False behind a group's last answer.
    """

    index: Int[Tensor, "groups width"]
    mask: Bool[Tensor, "groups width"]
    score: Float[Tensor, "groups width"]

    @property
    def sizes(self) -> Int[Tensor, " groups"]:
        """K of each group."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class Metric:
    """A number with its own reduction: add totals and counts over microbatches, processes and steps, then divide.

    Example: `(Metric(3.0, 4) + Metric(1.0, 1)).mean` is 0.8, whatever the microbatches.
    """

    total: float | Tensor  # sum over the units
    count: float | Tensor  # number of units, or their summed weight

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        count = float(self.count)
        return float(self.total) / count if count else float("nan")

    def on_host(self) -> Metric:
        """The same numbers on the CPU, where they are added up and sent to other processes."""
        total, count = (v.detach().cpu() if isinstance(v, Tensor) else v for v in (self.total, self.count))
        return replace(self, total=total, count=count)

    @staticmethod
    def of(values: Tensor) -> Metric:
        """Sum and count of a tensor of per-unit values (detached, float64)."""
        return Metric(values.detach().to(torch.float64).sum(), float(values.numel()))


@dataclass(frozen=True)
class Losses:
    """Un-reduced losses: one value per unit. The loop divides their sum by the *step's* number of units.

    Example, of DPO on two pairs at the start:

        Losses(values=tensor([0.6931, 0.6931]), unit="pair", metrics={"rewards/margins": Metric(0.0, 2.0)},
               rewards=tensor([0.0, 0.0, 0.0, 0.0]))
    """

    values: Float[Tensor, " units"]  # with gradient
    unit: Unit  # what a value is the loss of
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # by name, as the log and the trackers show them
    rewards: Float[Tensor, " completions"] | None = None  # the reward inside the loss, for per-completion records
