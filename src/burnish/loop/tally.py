"""What a step adds up to, microbatch by microbatch and then over processes: sums with their counts, never means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from burnish.engine.distributed import World
from burnish.group import EncodedGroup
from burnish.objectives.mixture import State
from burnish.runlog.records import CompletionRecord
from burnish.tensors import Losses, Metric, PackedBatch, ScalarScores, TokenScores


@dataclass
class Tally:
    """The sums of one process; `joined`, those of all."""

    loss: float = 0.0  # the step's mean loss, by the objective's unit
    tokens: int = 0  # input tokens computed
    metrics: dict[str, Metric] = field(default_factory=dict)
    completions: list[CompletionRecord] = field(default_factory=list)
    spoiled: list[tuple[str, list[str]]] = field(default_factory=list)  # a loss that is no number, and its groups
    imbalance: float = 0.0  # tokens of the process that had most, over the mean, less 1
    running: State = field(default_factory=dict)  # the objectives' running averages after the step

    def take(
        self, batch: PackedBatch, loss: float, metrics: Mapping[str, Metric], groups: Sequence[EncodedGroup]
    ) -> None:
        """Add a microbatch."""
        self.loss += loss
        rows = batch.attention_mask if batch.attention_mask is not None else batch.input_ids + 1
        self.tokens += int(rows.count_nonzero())
        self._add(metrics)
        if not isfinite(loss):
            self.spoiled.append((f"the loss is {loss}", names_of([groups[i] for i in batch.group_index])))

    def joined(self, world: World) -> Tally:
        """The same for all processes together."""
        if world.size == 1:
            return self
        total = Tally(running=self.running)
        tallies = world.gather(self)
        for tally in tallies:
            total.loss += tally.loss
            total.tokens += tally.tokens
            total.completions += tally.completions
            total.spoiled += tally.spoiled
            total._add(tally.metrics)
        total.imbalance = max(tally.tokens for tally in tallies) * world.size / max(total.tokens, 1) - 1
        return total

    def means(self) -> dict[str, float]:
        return {name: metric.mean for name, metric in self.metrics.items()}

    def _add(self, metrics: Mapping[str, Metric]) -> None:
        for name, metric in metrics.items():
            on_host = metric.on_host()
            self.metrics[name] = self.metrics[name] + on_host if name in self.metrics else on_host


def names_of(groups: Sequence[EncodedGroup]) -> list[str]:
    """Where each group stands in the user's data, or its id."""
    return [group.where or group.id for group in groups]


def staleness(groups: Sequence[EncodedGroup], step: int) -> dict[str, float]:
    """Optimiser steps since the fresh groups of a step were answered: their mean; nothing where none is fresh."""
    ages = [step - group.rollout.version for group in groups if group.rollout is not None]
    return {"staleness": sum(ages) / len(ages)} if ages else {}


def completion_records(
    batch: PackedBatch, scores: TokenScores | ScalarScores, losses: Sequence[Losses], groups: Sequence[EncodedGroup],
    step: int,
) -> list[CompletionRecord]:  # fmt: skip
    """Per-completion numbers of a microbatch: what every later diagnostic is drawn from."""
    columns: dict[str, list[float]] = {}
    if isinstance(scores, TokenScores):
        columns["logp"] = scores.logps.detach().tolist()
        if scores.reference is not None:
            columns["reference_logp"] = scores.sum_by_completion(scores.reference).tolist()
    rewards = next((part.rewards for part in losses if part.rewards is not None), None)
    if rewards is not None:
        columns["reward"] = rewards.detach().tolist()
    places = [(i, k) for i in batch.group_index for k in range(len(groups[i].completion_ids))]
    return [
        CompletionRecord(
            step=step, group=groups[i].id, index=k, length=length,
            **{name: values[number] for name, values in columns.items()},
        )
        for number, ((i, k), length) in enumerate(zip(places, batch.lengths.tolist(), strict=True))
    ]  # fmt: skip
