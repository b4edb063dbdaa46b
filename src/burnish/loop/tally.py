"""What a step adds up to, microbatch by microbatch and then over processes: sums with their counts, never means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.engine.distributed import World
from burnish.group import EncodedGroup
from burnish.tensors import Losses, Metric, PackedBatch, ScalarScores, TokenScores


@dataclass
class Tally:
    """The sums of one process; `joined`, those of all."""

    loss: float = 0.0
    tokens: int = 0
    metrics: dict[str, Metric] = field(default_factory=dict)
    completions: list[dict[str, Any]] = field(default_factory=list)  # records for the log
    spoiled: list[tuple[str, list[str]]] = field(default_factory=list)  # a loss that is no number, and its groups
    imbalance: float = 0.0  # tokens of the process that had most, over the mean, less 1

    def take(self, batch: PackedBatch, loss: float, metrics: dict[str, Metric], groups: Sequence[EncodedGroup]) -> None:
        """Add a microbatch."""
        self.loss += loss
        rows = batch.attention_mask if batch.attention_mask is not None else batch.input_ids + 1
        self.tokens += int(rows.count_nonzero())
        self._add(metrics)
        if not finite(loss):
            here = [groups[i] for i in batch.group_index]
            self.spoiled.append((f"the loss is {loss}", [group.where or group.id for group in here]))

    def joined(self, world: World) -> Tally:
        """The same for all processes together."""
        if world.size == 1:
            return self
        total = Tally()
        every = world.gather(self)
        for one in every:
            total.loss += one.loss
            total.tokens += one.tokens
            total.completions += one.completions
            total.spoiled += one.spoiled
            total._add(one.metrics)
        total.imbalance = max(one.tokens for one in every) * world.size / max(total.tokens, 1) - 1
        return total

    def means(self) -> dict[str, float]:
        return {name: metric.mean for name, metric in self.metrics.items()}

    def _add(self, metrics: dict[str, Metric]) -> None:
        for name, metric in metrics.items():
            own = metric.on_host()
            self.metrics[name] = self.metrics[name] + own if name in self.metrics else own


def records(
    batch: PackedBatch, scores: TokenScores | ScalarScores, losses: Sequence[Losses], groups: Sequence[EncodedGroup]
) -> list[dict[str, Any]]:
    """Per-completion numbers of a microbatch: what every later diagnostic is drawn from."""
    columns: dict[str, list[float]] = {"length": batch.lengths.tolist()}
    if isinstance(scores, TokenScores):
        columns["logp"] = scores.logps.detach().tolist()
        if scores.reference is not None:
            columns["reference_logp"] = scores.sum_by_completion(scores.reference).tolist()
    rewards = next((found.rewards for found in losses if found.rewards is not None), None)
    if rewards is not None:
        columns["reward"] = rewards.detach().tolist()
    places = [(i, k) for i in batch.group_index for k in range(len(groups[i].completion_ids))]
    return [
        {"group": groups[i].id, "index": k, **{name: values[number] for name, values in columns.items()}}
        for number, (i, k) in enumerate(places)
    ]


def finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
