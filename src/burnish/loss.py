"""One microbatch's scores and feedback -> un-reduced losses, and the step's count of units to divide by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from burnish.group import EncodedGroup
from burnish.objectives import Objective
from burnish.pack import offsets
from burnish.tensors import Lists, Losses, PackedBatch, Pairs, Singles, TokenScores
from burnish.views import list_view, pair_view, winner_view


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

    def __call__(self, scores: TokenScores, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> Losses:
        """`groups` are the step's; the batch names those that stand in it, in order."""
        here = [groups[i] for i in batch.group_index]
        views = {"pairs": self._pairs, "lists": self._lists, "winners": self._winners}
        losses: Losses = self.objective.function(
            scores, views[self.objective.view](here, scores, groups), **self.params
        )
        return losses

    def _pairs(self, groups: Sequence[EncodedGroup], scores: TokenScores, step: Sequence[EncodedGroup]) -> Pairs:
        triples = [
            (start + winner, start + loser, weight)
            for start, group in zip(offsets(groups), groups, strict=True)
            for winner, loser, weight in pair_view(group)
        ]
        device = scores.policy.device
        return Pairs(
            torch.tensor([t[0] for t in triples], dtype=torch.long, device=device),
            torch.tensor([t[1] for t in triples], dtype=torch.long, device=device),
            torch.tensor([t[2] for t in triples], dtype=scores.policy.dtype, device=device),
            mean_length=_mean_length(step),
        )

    def _lists(self, groups: Sequence[EncodedGroup], scores: TokenScores, step: Sequence[EncodedGroup]) -> Lists:
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

    def _winners(self, groups: Sequence[EncodedGroup], scores: TokenScores, step: Sequence[EncodedGroup]) -> Singles:
        winners = [start + k for start, group in zip(offsets(groups), groups, strict=True) for k in winner_view(group)]
        device = scores.policy.device
        return Singles(
            torch.tensor(winners, dtype=torch.long, device=device),
            torch.ones(len(winners), dtype=torch.bool, device=device),
        )


def _mean_length(step: Sequence[EncodedGroup]) -> float:
    """Tokens of a chosen completion, averaged over the step's pairs: the same number in each of its microbatches."""
    lengths = [len(group.completion_ids[winner]) for group in step for winner, _, _ in pair_view(group)]
    return sum(lengths) / len(lengths) if lengths else 1.0
