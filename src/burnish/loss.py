"""One microbatch's scores and feedback -> un-reduced losses, and the step's count of units to divide by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.group import EncodedGroup
from burnish.objectives import Objective
from burnish.pack import offsets
from burnish.tensors import Lists, Losses, PackedBatch, Pairs, PairSums, Singles, SingleSums, TokenScores
from burnish.views import label_view, list_view, pair_view, winner_view


@dataclass(frozen=True)
class StepSums:
    """What a first pass found: summed log-probs of every completion of the step, in the step's order, and log-ratios
    of mismatched answers."""

    policy: Tensor  # [completions of the step]
    reference: Tensor
    mismatched: Tensor  # [mismatched answers], empty for objectives that do not ask


@dataclass(frozen=True)
class StepLoss:
    """An objective with its hyper-parameters, applied to microbatches of a step."""

    objective: Objective
    params: Mapping[str, Any]

    def units(self, groups: Sequence[EncodedGroup]) -> int:
        """What the summed losses of these groups are divided by; counted before the first backward pass."""
        if self.objective.unit == "group":
            return len(groups)
        if self.objective.unit == "pair":
            return sum(len(pair_view(group)) for group in groups)
        if self.objective.view == "labels":
            return sum(len(label_view(group)) for group in groups)
        trained = [(group, k) for group in groups for k in winner_view(group)]
        if self.objective.unit == "completion":
            return len(trained)
        return sum(len(group.completion_ids[k]) for group, k in trained)

    def closed_form(self, groups: Sequence[EncodedGroup]) -> float | None:
        """Mean loss when the policy is its reference; None where it depends on the log-probs themselves."""
        if self.objective.view != "pairs":
            return None
        values: list[float] = []
        for group in groups:
            for winner, loser, weight in pair_view(group):
                sizes = len(group.completion_ids[winner]), len(group.completion_ids[loser])
                value = self.objective.at_reference(*sizes, self.params)
                if value is None:
                    return None
                values.append(weight * value)
        return sum(values) / len(values)

    def __call__(
        self, scores: TokenScores, batch: PackedBatch, groups: Sequence[EncodedGroup], sums: StepSums | None = None
    ) -> Losses:
        """`groups` are the step's; the batch names those that stand in it, in order. `sums` are the first pass's, for
        an objective of the whole step; without them the batch is taken for the step."""
        views = {"pairs": self._pairs, "lists": self._lists, "labels": self._labels, "winners": self._winners}
        view = views[self.objective.view](batch.group_index, scores, groups, sums)
        losses: Losses = self.objective.function(scores, view, **self.params)
        return losses

    def _pairs(
        self, members: Sequence[int], scores: TokenScores, step: Sequence[EncodedGroup], sums: StepSums | None
    ) -> Pairs:
        triples = _numbered([step[i] for i in members])
        device = scores.policy.device
        whole, place = None, None
        if sums is not None:
            every = _numbered(step)
            chosen, rejected = (torch.tensor([t[side] for t in every], device=sums.policy.device) for side in (0, 1))
            whole = PairSums(
                sums.policy[chosen], sums.policy[rejected], sums.reference[chosen], sums.reference[rejected]
            )
            counts = [0, *torch.tensor([len(pair_view(group)) for group in step]).cumsum(0).tolist()]
            place = torch.tensor([k for i in members for k in range(counts[i], counts[i + 1])], device=device)
        return Pairs(
            torch.tensor([t[0] for t in triples], dtype=torch.long, device=device),
            torch.tensor([t[1] for t in triples], dtype=torch.long, device=device),
            torch.tensor([t[2] for t in triples], dtype=scores.policy.dtype, device=device),
            mean_length=_mean_length(step),
            step=whole,
            place=place,
        )

    def _lists(
        self, members: Sequence[int], scores: TokenScores, step: Sequence[EncodedGroup], sums: StepSums | None
    ) -> Lists:
        groups = [step[i] for i in members]
        ranked = [
            [(start + k, score) for k, score in list_view(group)]
            for start, group in zip(offsets(groups), groups, strict=True)
        ]
        width = max(map(len, ranked))
        device = scores.policy.device
        padded = [row + [(0, 0.0)] * (width - len(row)) for row in ranked]
        sizes = torch.tensor([len(row) for row in ranked], device=device)
        return Lists(
            torch.tensor([[k for k, _ in row] for row in padded], dtype=torch.long, device=device),
            torch.arange(width, device=device)[None, :] < sizes[:, None],
            torch.tensor([[score for _, score in row] for row in padded], dtype=scores.policy.dtype, device=device),
        )

    def _labels(
        self, members: Sequence[int], scores: TokenScores, step: Sequence[EncodedGroup], sums: StepSums | None
    ) -> Singles:
        device = scores.policy.device
        index, desirable = _labelled([step[i] for i in members], device)
        if sums is None:
            return Singles(index, desirable)
        every, labels = _labelled(step, sums.policy.device)
        return Singles(index, desirable, SingleSums((sums.policy - sums.reference)[every], labels, sums.mismatched))

    def _winners(
        self, members: Sequence[int], scores: TokenScores, step: Sequence[EncodedGroup], sums: StepSums | None
    ) -> Singles:
        groups = [step[i] for i in members]
        winners = [start + k for start, group in zip(offsets(groups), groups, strict=True) for k in winner_view(group)]
        device = scores.policy.device
        return Singles(
            torch.tensor(winners, dtype=torch.long, device=device),
            torch.ones(len(winners), dtype=torch.bool, device=device),
        )


def _numbered(groups: Sequence[EncodedGroup]) -> list[tuple[int, int, float]]:
    """The pairs of some groups, completions numbered through all of them."""
    return [
        (start + winner, start + loser, weight)
        for start, group in zip(offsets(groups), groups, strict=True)
        for winner, loser, weight in pair_view(group)
    ]


def _labelled(groups: Sequence[EncodedGroup], device: torch.device) -> tuple[Tensor, Tensor]:
    """(completions with a yes or a no, the answer), numbered through all of the groups."""
    found = [
        (start + k, yes) for start, group in zip(offsets(groups), groups, strict=True) for k, yes in label_view(group)
    ]
    index = torch.tensor([k for k, _ in found], dtype=torch.long, device=device)
    return index, torch.tensor([yes for _, yes in found], dtype=torch.bool, device=device)


def mismatched(groups: Sequence[EncodedGroup], data: Sequence[EncodedGroup]) -> list[EncodedGroup]:
    """Each group's prompt with the answers of the step's next group: what KTO estimates its KL on (2402.01306, 4.1).

    A rotation of the step's groups, so it is the same under any microbatching. A step of one group (the end of an
    epoch) takes the answers of the first group in the data that has another prompt; empty where none has. Answers are
    cut where prompt and answer would be longer than the longest group of the step.
    """
    limit = max((len(g.prompt_ids) + max(map(len, g.completion_ids), default=0) for g in groups), default=0)
    others = [*groups[1:], *groups[:1]]
    if len(groups) == 1:
        others = [next((g for g in data if g.prompt_ids != groups[0].prompt_ids), groups[0])]
    pairs = [(own, other) for own, other in zip(groups, others, strict=True) if own.prompt_ids != other.prompt_ids]
    return [
        EncodedGroup(
            f"{own.id}~{other.id}", own.prompt_ids,
            tuple(ids[: max(1, limit - len(own.prompt_ids))] for ids in other.completion_ids), other.ended,
            other.feedback, own.source, own.where,
        )
        for own, other in pairs
    ]  # fmt: skip


def _mean_length(step: Sequence[EncodedGroup]) -> float:
    """Tokens of a chosen completion, averaged over the step's pairs: the same number in each of its microbatches."""
    lengths = [len(group.completion_ids[winner]) for group in step for winner, _, _ in pair_view(group)]
    return sum(lengths) / len(lengths) if lengths else 1.0
