"""What is computed by microbatch comes back by group and completion, whatever the packing and the processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from burnish.engine import attention
from burnish.engine.distributed import World, balance
from burnish.engine.engine import Engine
from burnish.engine.scoring import by_completion, logps
from burnish.group import EncodedGroup
from burnish.tensors import PackedBatch
from tests.engine.forwards import groups, plain_result, policy_of


def engine(token_budget: int = 1, *, shared: bool = True, world: World | None = None) -> Engine:
    policy = policy_of("llama")
    if shared:
        attention.register()
        policy.base.set_attn_implementation(attention.NAME)
    return Engine(policy, token_budget, shared=shared, world=world or World())


def targets(batch: PackedBatch) -> list[tuple[int, ...]]:
    return [tuple(piece.tolist()) for piece in batch.split(batch.targets)]


@pytest.mark.parametrize("token_budget", [1, 30, 10_000])
@pytest.mark.parametrize("shared", [True, False])
def test_results_stand_where_their_completions_do(token_budget: int, shared: bool) -> None:
    sizes: list[int] = []
    found = by_completion(engine(token_budget, shared=shared), groups(), targets, sizes.append)
    assert found == [list(group.completion_ids) for group in groups()]
    assert sum(sizes) == len(groups())
    assert by_completion(engine(token_budget, shared=shared), [], targets) == []


@dataclass(frozen=True)
class Among(World):
    """One process of several; what the others compute is in `others`."""

    others: Sequence[dict[int, Any]] = ()

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others] if isinstance(value, dict) else [value, 3]  # they have three microbatches

    def share(self, sizes: Sequence[int]) -> list[int]:
        return balance(sizes, 2)[0]


def test_processes_bring_their_groups_and_idle_batches_leave_no_trace() -> None:
    data = groups()
    own = balance([len(group.prompt_ids) + sum(map(len, group.completion_ids)) for group in data], 2)[0]
    others: dict[int, list[Any]] = {i: list(group.completion_ids) for i, group in enumerate(data) if i not in own}
    passes: list[bool] = []

    def compute(batch: PackedBatch) -> list[tuple[int, ...]]:
        passes.append(batch.idle)
        return targets(batch)

    found = by_completion(engine(10_000, world=Among(0, 2, others=[others])), data, compute)
    assert found == [list(group.completion_ids) for group in data]
    assert passes == [False, True, True]


def test_logps_are_sums_over_the_completions_of_plain_forwards() -> None:
    scorer = engine(30)
    found = logps(scorer, groups())
    with scorer.policy.stock():
        token_logps = plain_result(scorer.policy)[0].double()
    lengths = [len(ids) for group in groups() for ids in group.completion_ids]
    sums = torch.stack([piece.sum() for piece in token_logps.split(lengths)])
    flat = torch.tensor([value for row in found for value in row], dtype=torch.float64)
    torch.testing.assert_close(flat, sums, rtol=0, atol=5e-5)
    assert [len(row) for row in found] == [len(group.completion_ids) for group in groups()]


def test_empty_completions_sum_to_nothing() -> None:
    group = EncodedGroup("a", (5, 6), ((), (7,)), (True, True), groups()[0].feedback)
    (row,) = logps(engine(), [group])
    assert row[0] == 0.0
    assert row[1] < 0.0
