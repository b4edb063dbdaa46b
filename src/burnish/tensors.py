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

    The *shared* layout is one flat row `input_ids[1, T]`: each group's prompt once, then its branches, each with
    positions that go on from the prompt. The *padded* layout is plain right-padded rows `[C, T]`, one completion a
    row, with `attention_mask`; it serves models that cannot share. Both name, for every completion token, the
    (flattened) input row whose hidden state predicts it. A completion's last token predicts nothing, so it is no input.
    """

    input_ids: Int[Tensor, "rows width"]
    position_ids: Int[Tensor, "rows width"]
    attention_mask: Int[Tensor, "rows width"] | None  # None in the shared layout
    spans: tuple[GroupSpans, ...]  # empty in the padded layout
    predict_rows: Int[Tensor, " tokens"]
    targets: Int[Tensor, " tokens"]
    completion_of: Int[Tensor, " tokens"]
    lengths: Int[Tensor, " completions"]
    group_of: Int[Tensor, " completions"]
    group_index: tuple[int, ...]  # which of the step's groups stand here, in order

    @property
    def shared(self) -> bool:
        return self.attention_mask is None

    @property
    def idle(self) -> bool:
        """Of none of the step's groups: a few tokens for a process that has none left while others still compute."""
        return not self.group_index

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of the microbatch's tokens [tokens, ...] in pieces, one for each completion."""
        return torch.split(values, self.lengths.tolist())


@dataclass(frozen=True)
class TokenScores:
    """Per-token log-probs of every completion of a microbatch, policy and (where needed) reference.

    `completion_of` maps a token to its completion; tokens of one completion are contiguous and in order.
    Log-probs are in nats, float32 (float64 in exactness tests). The reference never carries gradient.
    `square` is log sum_v p(v)^2 of the policy at each position, without gradient; `kl` the KL over the vocabulary from
    reference to policy there, with gradient. They are there for the objectives that ask.
    """

    policy: Float[Tensor, " tokens"]
    reference: Float[Tensor, " tokens"] | None
    completion_of: Int[Tensor, " tokens"]
    lengths: Int[Tensor, " completions"]
    group_of: Int[Tensor, " completions"]
    square: Float[Tensor, " tokens"] | None = None
    kl: Float[Tensor, " tokens"] | None = None
    values: Float[Tensor, " tokens"] | None = None  # a value head's, of the state each token is chosen in

    def zero_loss(self) -> Tensor:
        """0 that has been through the model: its gradient is 0 everywhere."""
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
        """0 that has been through the model: its gradient is 0 everywhere."""
        return 0.0 * self.rewards.sum()


@dataclass(frozen=True)
class PairSums:
    """Summed log-probs of every pair of a step, without gradient, from a first pass over its microbatches."""

    policy_chosen: Float[Tensor, " step_pairs"]
    policy_rejected: Float[Tensor, " step_pairs"]
    reference_chosen: Float[Tensor, " step_pairs"]
    reference_rejected: Float[Tensor, " step_pairs"]
    chosen_lengths: Int[Tensor, " step_pairs"]
    rejected_lengths: Int[Tensor, " step_pairs"]

    @property
    def chosen(self) -> Float[Tensor, " step_pairs"]:
        """Log-ratios a."""
        return self.policy_chosen - self.reference_chosen

    @property
    def rejected(self) -> Float[Tensor, " step_pairs"]:
        """Log-ratios b."""
        return self.policy_rejected - self.reference_rejected


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
    mean_length: float | None = None  # tokens of a chosen completion, averaged over the pairs of the whole step
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
    """A number with its own reduction: add sums and counts over microbatches, ranks and steps, then divide."""

    total: float | Tensor
    count: float | Tensor

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
    """Un-reduced losses: one value per unit. The loop divides their sum by the *step's* number of units."""

    values: Float[Tensor, " units"]
    unit: Unit
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    rewards: Float[Tensor, " completions"] | None = None  # the reward inside the loss, for per-completion records
