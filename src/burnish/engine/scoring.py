"""What an engine computes for every completion of some groups, in the order of the groups: anything, rewards, logps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

import torch

from burnish.engine.engine import Engine
from burnish.group import EncodedGroup
from burnish.tensors import PackedBatch

T = TypeVar("T")
Rows = list[tuple[float, ...]]  # a number for each completion of each group
Tick = Callable[[int], None]  # takes the number of groups scored since the last call


def by_completion(
    engine: Engine,
    groups: Sequence[EncodedGroup],
    compute: Callable[[PackedBatch], Sequence[T]],
    tick: Tick = lambda count: None,
) -> list[list[T]]:
    """For each group, in order, `compute`'s result for each of its completions; the same on every process.

    The groups are packed as a training step packs them and divided among the processes. `compute` gives one result for
    each completion of a microbatch, in its order; results travel between processes, so they are numbers or arrays of
    the CPU. It is called with idle microbatches too, whose results are dropped.
    """
    results: dict[int, list[T]] = {}
    for batch in engine.plan(groups) if groups else []:
        of_batch = iter(compute(batch))
        for index in batch.group_index:
            results[index] = list(islice(of_batch, len(groups[index].completion_ids)))
        tick(len(batch.group_index))
    everywhere = {index: rows for part in engine.world.gather(results) for index, rows in part.items()}
    return [everywhere[index] for index in range(len(groups))]


def rewards(engine: Engine, groups: Sequence[EncodedGroup], tick: Tick = lambda count: None) -> Rows:
    """The reward of every completion by a reward model."""
    return _numbers(engine, groups, lambda batch: engine.reward(batch)[0].tolist(), tick)


def logps(engine: Engine, groups: Sequence[EncodedGroup], tick: Tick = lambda count: None) -> Rows:
    """The summed log-prob of every completion, in nats; added up in float64."""

    def sums(batch: PackedBatch) -> list[float]:
        token_logps = engine.score(batch).logps.double()
        zero = token_logps.new_zeros(len(batch.lengths))
        by_number: list[float] = zero.index_add(0, batch.completion_of.to(token_logps.device), token_logps).tolist()
        return by_number

    return _numbers(engine, groups, sums, tick)


@torch.no_grad()
def _numbers(
    engine: Engine, groups: Sequence[EncodedGroup], compute: Callable[[PackedBatch], list[float]], tick: Tick
) -> Rows:
    """`by_completion` without gradient, with the model in its evaluation mode."""
    training = engine.policy.module.training
    engine.policy.module.eval()
    rows = by_completion(engine, groups, compute, tick)
    engine.policy.module.train(training)
    return [tuple(row) for row in rows]
