"""`engine.token_budget = "auto"` on a GPU, by measurement: passes of two sizes, a line through their peaks, a look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from burnish.group import EncodedGroup
from burnish.loop.build import Trainer
from burnish.loop.memory.plan import GRAIN
from burnish.loop.passes import batch_scores

MARGIN = 0.92  # of the free memory: lengths differ from step to step, and the allocator cannot use every piece


def measured_budget(trainer: Trainer, groups: Sequence[EncodedGroup]) -> int:
    """The largest token budget whose microbatches of a step's groups fit on this GPU."""
    sizes = [len(g.prompt_ids) + sum(map(len, g.completion_ids)) for g in groups]
    moments = 2 * sum(p.numel() * max(4, p.element_size()) for p in trainer.masters.parameters)  # AdamW's, to come
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - moments

    def peak(budget: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer.engine.token_budget = budget
        batch = max(trainer.engine.plan(groups), key=lambda b: b.input_ids.numel())
        batch_scores(trainer, batch, groups)[0].zero_loss().backward()  # type: ignore[no-untyped-call]
        trainer.masters.clear_gradients()
        return int(torch.cuda.max_memory_allocated())

    return largest(peak, max(sizes), sum(sizes), int(free * MARGIN))


def largest(peak: Callable[[int], int], least: int, useful: int, memory: int) -> int:
    """The largest budget in [least, useful] whose `peak` (bytes) is within `memory`, where peaks lie near a line."""
    first, second = least, min(useful, 4 * least)
    low, high = peak(first), peak(second)
    slope = max((high - low) / max(second - first, 1), 1.0)
    best = min(useful, int(first + (memory - low) / slope))
    while best > least and peak(best) > memory:
        best = int(best * 0.9)
    return max(least, best // GRAIN * GRAIN if best < useful else useful)
