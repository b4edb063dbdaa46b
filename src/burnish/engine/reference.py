"""The reference of a run: stored log-probs, or a model in memory that may move.

`Stored` log-probs are computed where they are missing, before the first update. The `initial` reference is the policy
itself before it moves (for an adapter: the adapter switched off), so that no second model is held. A `Live` reference
is for objectives that need its whole distribution, and for references that follow the policy (TR-DPO, 2404.09656;
exponential moving average).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from burnish.config import ReferenceConfig
from burnish.engine.divergence import HeadInput
from burnish.engine.engine import Engine, to_device
from burnish.engine.logprob import token_logprobs
from burnish.engine.reference_store import ReferenceStore, row_keys
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup
from burnish.tensors import PackedBatch, wide, wide_type

FLUSH_GROUPS = 512  # an interrupted pass loses at most this much work


def fill(
    store: ReferenceStore,
    chunks: Sequence[Sequence[EncodedGroup]],
    engine: Engine,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compute what the store lacks; returns the number of those groups. `advance(done, total)` reports progress.

    A chunk holds the groups of a training step and is packed as that step will pack it. The same rows then go through
    the same products, and the margins of an untrained policy are exactly 0, in bfloat16 too.
    """

    def logps(batch: PackedBatch) -> list[np.ndarray]:
        return [piece.numpy() for piece in batch.split(engine.score_reference(batch).cpu())]

    total = sum(len(store.missing(chunk)) for chunk in chunks)
    done = unflushed = 0
    for chunk in chunks:
        missing = {id(group) for group in store.missing(chunk)}
        if not missing:
            continue
        for group, rows in zip(chunk, by_completion(engine, chunk, logps), strict=True):
            if id(group) in missing:
                store.take(dict(zip(row_keys(group), rows, strict=True)))
        done += len(missing)
        unflushed += len(missing)
        if unflushed >= FLUSH_GROUPS:
            store.flush()
            unflushed = 0
        advance(done, total)
    store.flush()
    return done


def lookup(store: ReferenceStore, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> Tensor:
    """[tokens] reference log-probs of a microbatch, in its order."""
    if batch.idle:
        return torch.zeros(len(batch.targets))
    rows = [values for i in batch.group_index for values in store.of(groups[i])]
    return torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0)


@dataclass
class Stored:
    """Log-probs from the store: exact, and free in every step."""

    store: ReferenceStore

    def scores(self, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> tuple[Tensor, HeadInput | None]:
        """([tokens] log-probs, None): the distributions themselves are not stored."""
        return lookup(self.store, batch, groups), None

    def follow(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Do nothing: a stored reference does not move."""

    def state(self) -> dict[str, Tensor]:
        return {}


@dataclass
class Live:
    """A model in memory, scored in every step: a second model, or the policy with its adapter switched off."""

    engine: Engine
    moving: ReferenceConfig  # how it follows the policy
    weights: dict[str, Tensor]  # by name, in float32 so that small steps are not lost; empty where it does not move
    carried: bool = False  # fresh answers bring their reference log-probs with them

    @classmethod
    def of(cls, engine: Engine, moving: ReferenceConfig) -> Live:
        named = engine.policy.module.named_parameters() if moving.update != "never" else ()
        return cls(engine, moving, {name: wide(p.detach()).clone() for name, p in named})

    def scores(self, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> tuple[Tensor, HeadInput | None]:
        """([tokens] log-probs, the head's input), without gradient."""
        rollouts = [groups[i].rollout for i in batch.group_index] if self.carried else []
        rows = [rollout.reference for rollout in rollouts if rollout is not None and rollout.reference]
        if rollouts and len(rows) == len(rollouts):
            logps = [logp for group in rows for completion in group for logp in completion]
            return torch.tensor(logps, dtype=torch.float64).to(wide_type(self.engine.policy.dtype)), None
        return self.computed(batch)

    def head(self, batch: PackedBatch) -> HeadInput:
        """The input of the reference's head for a batch."""
        return self.engine.reference_head(batch)

    def computed(self, batch: PackedBatch) -> tuple[Tensor, HeadInput | None]:
        """`scores` by a pass of the model, whatever the groups bring with them."""
        if self.engine.plain_head:
            return self.engine.score_reference(batch), None
        head = self.head(batch)
        targets = to_device(batch, self.engine.policy.device).targets
        with torch.no_grad():
            return token_logprobs(head.hidden, head.weight, targets, head.bias, head.transform), head

    @torch.no_grad()
    def follow(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Move towards the policy's weights after optimiser step `step` (from 1), where `moving` asks for it."""
        if self.moving.update == "never" or step % self.moving.interval:
            return
        self.engine.policy.settle()
        kind: Literal["hard", "soft"] = "hard" if self.moving.update == "hard" else "soft"
        parameters = dict(self.engine.policy.module.named_parameters())
        for name, weight in self.weights.items():
            moved = tr_dpo_update(weight, wide(weights[name]), step, self.moving.share, self.moving.interval, kind)
            self.weights[name] = moved
            parameters[name].copy_(moved)

    def state(self) -> dict[str, Tensor]:
        return self.weights

    @torch.no_grad()
    def publish(self) -> None:
        """Copy `weights` into the module that computes, after they were read from a checkpoint."""
        self.engine.policy.settle()
        parameters = dict(self.engine.policy.module.named_parameters())
        for name, weight in self.weights.items():
            parameters[name].copy_(weight)


def tr_dpo_update(
    ref: Tensor, pol: Tensor, step: int, alpha: float = 0.6, tau: int = 512, kind: Literal["soft", "hard"] = "soft"
) -> Tensor:
    """The reference after optimiser step `step` (from 1): where tau divides the step `alpha policy + (1 - alpha)
    reference`, or the policy itself with `hard`; else unchanged. `ref` is in float32 or wider, and so is the result
    (TR-DPO, 2404.09656).
    """
    if step % tau:
        return ref
    share = 1.0 if kind == "hard" else alpha
    return share * pol.to(ref.dtype) + (1 - share) * ref
