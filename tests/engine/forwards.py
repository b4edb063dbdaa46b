"""One set of groups through the engine and through plain forwards: log-probs and gradients to compare."""

from __future__ import annotations

from typing import Any

import torch

from burnish.engine.engine import Engine
from burnish.engine.model import Policy
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup, Unjudged
from burnish.tensors import PackedBatch
from tests.zoo import tiny

VOCABULARY = 120


def policy_of(family: str, dtype: torch.dtype = torch.float32) -> Policy:
    module = tiny(family, dtype, VOCABULARY)
    return Policy(module, module, family, dtype, module.config._attn_implementation)


def groups() -> list[EncodedGroup]:
    """K = 1, 2 and 7; a one-token prompt; one-token answers; answers that share a first token; longer than windows."""
    draw = torch.Generator().manual_seed(3)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (n,), generator=draw).tolist())

    shape = [(11, (9,)), (14, (8, 5)), (1, (3, 1)), (6, (1, 2, 3, 4, 5, 6, 12))]
    made = []
    for i, (prompt, lengths) in enumerate(shape):
        first = ids(1)
        made.append(
            EncodedGroup(
                str(i), ids(prompt), tuple(first + ids(n - 1) for n in lengths), (True,) * len(lengths), Unjudged()
            )
        )
    return made


def engine_result(engine: Engine, coefficient: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """All log-probs in order, and the gradient of a weighted sum that tells tokens apart."""

    def forward_backward(batch: PackedBatch) -> tuple[torch.Tensor, ...]:
        logps = engine.score(batch).logps
        (logps * torch.cos(coefficient * batch.targets.to(logps))).sum().backward()
        return batch.split(logps.detach())

    pieces = [piece for rows in by_completion(engine, groups(), forward_backward) for piece in rows]
    return torch.cat(pieces), gradient(engine.policy.module)


def plain_result(policy: Policy, coefficient: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle: every prompt + completion alone, the model's own forward and its own logits."""
    out = []
    with policy.stock():
        for group in groups():
            for completion in group.completion_ids:
                ids = torch.tensor([[*group.prompt_ids, *completion]])
                logits = policy.module(input_ids=ids, use_cache=False).logits[0, len(group.prompt_ids) - 1 : -1]
                logits = logits if logits.dtype == torch.float64 else logits.float()
                targets = torch.tensor(completion)
                logps = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
                (logps * torch.cos(coefficient * targets.to(logps))).sum().backward()
                out.append(logps.detach())
    return torch.cat(out), gradient(policy.module)


def gradient(module: Any) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return found
