"""Numbers for whole completions from an engine: rewards, or sums of log-probs; groups in, rows of numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from burnish.data.views import offsets
from burnish.engine.engine import Engine
from burnish.group import EncodedGroup
from burnish.tensors import PackedBatch

Rows = list[tuple[float, ...]]  # one number for each completion of each group
Tick = Callable[[int], None]  # how many groups were scored since it was last called


def rewards(engine: Engine, groups: Sequence[EncodedGroup], tick: Tick = lambda count: None) -> Rows:
    """The reward model's number for every completion."""
    return _by_group(engine, groups, lambda batch: engine.reward(batch)[0], tick)


def logps(engine: Engine, groups: Sequence[EncodedGroup], tick: Tick = lambda count: None) -> Rows:
    """Summed log-prob of every completion, in nats; added up in float64."""

    def summed(batch: PackedBatch) -> Tensor:
        found = engine.score(batch).logps.double()
        zero = found.new_zeros(len(batch.lengths))
        return zero.index_add(0, batch.completion_of.to(found.device), found)

    return _by_group(engine, groups, summed, tick)


@torch.no_grad()
def _by_group(
    engine: Engine, groups: Sequence[EncodedGroup], number: Callable[[PackedBatch], Tensor], tick: Tick
) -> Rows:
    training = engine.policy.module.training
    engine.policy.module.eval()
    counts = [len(group.completion_ids) for group in groups]
    starts = offsets(groups)
    found = torch.zeros(sum(counts), dtype=torch.float64)
    for batch in engine.plan(groups):
        values = number(batch).double().cpu()
        if batch.idle:
            continue
        place = torch.tensor([starts[i] + k for i in batch.group_index for k in range(counts[i])], dtype=torch.long)
        found[place] = values
        tick(len(batch.group_index))
    engine.world.add_up(found)
    engine.policy.module.train(training)
    return [tuple(row) for row in (piece.tolist() for piece in found.split(counts))]
