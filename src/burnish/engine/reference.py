"""The reference of a run: stored log-probs, or a model that stands in memory and may move.

Stored: computed where they are missing, before the first update. `initial` is the policy itself before it moves (for an
adapter: the adapter switched off), so no second model is held. Live: for objectives that need its whole distribution,
and for references that follow the policy (TR-DPO, 2404.09656; exponential moving average).
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
    """Compute what the store lacks; returns how many groups that was. `advance(done, total)` reports progress.

    A chunk is the groups of one training step, and is packed as that step will pack it: the same rows go through the
    same products, and the margins of an untouched policy are exactly 0, in bfloat16 too.
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
        """A stored reference stays where it is."""

    def state(self) -> dict[str, Tensor]:
        return {}


@dataclass
class Live:
    """A model in memory, scored beside the policy in every step: a copy of its own, or the adapter switched off.

    `moving` says how it follows the policy; its weights are then kept in float32, whatever it computes in, or small
    steps would be rounded away.
    """

    engine: Engine
    moving: ReferenceConfig
    weights: dict[str, Tensor]  # float32, by name; empty where it does not move
    carried: bool = False  # fresh answers bring their reference log-probs with them

    @classmethod
    def of(cls, engine: Engine, moving: ReferenceConfig) -> Live:
        named = engine.policy.module.named_parameters() if moving.update != "never" else ()
        return cls(engine, moving, {name: wide(p.detach()).clone() for name, p in named})

    def scores(self, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> tuple[Tensor, HeadInput | None]:
        """([tokens] log-probs, what its distributions are made of), without gradient."""
        known = [groups[i].rollout for i in batch.group_index] if self.carried else []
        if known and all(one is not None and one.reference for one in known):
            rows = [value for one in known if one is not None for row in one.reference for value in row]
            return torch.tensor(rows, dtype=torch.float64).to(wide_type(self.engine.policy.dtype)), None
        return self.computed(batch)

    def head(self, batch: PackedBatch) -> HeadInput:
        """What the reference's head turns into distributions over a batch."""
        return self.engine.reference_head(batch)

    def computed(self, batch: PackedBatch) -> tuple[Tensor, HeadInput | None]:
        """The same by a pass of the model, whatever the groups bring with them."""
        if self.engine.plain_head:
            return self.engine.score_reference(batch), None
        head = self.head(batch)
        targets = to_device(batch, self.engine.policy.device).targets
        with torch.no_grad():
            return token_logprobs(head.hidden, head.weight, targets, head.bias, head.transform), head

    @torch.no_grad()
    def follow(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """After optimiser step `step` (from 1): move towards the policy's weights where the configuration says so."""
        if self.moving.update == "never" or step % self.moving.interval:
            return
        self.engine.policy.settle()
        kind: Literal["hard", "soft"] = "hard" if self.moving.update == "hard" else "soft"
        parameters = dict(self.engine.policy.module.named_parameters())
        for name, own in self.weights.items():
            moved = tr_dpo_update(own, wide(weights[name]), step, self.moving.share, self.moving.interval, kind)
            self.weights[name] = moved
            parameters[name].copy_(moved)

    def state(self) -> dict[str, Tensor]:
        return self.weights

    @torch.no_grad()
    def publish(self) -> None:
        """After `weights` were read from a checkpoint: into the module that computes."""
        self.engine.policy.settle()
        parameters = dict(self.engine.policy.module.named_parameters())
        for name, own in self.weights.items():
            parameters[name].copy_(own)


def tr_dpo_update(
    ref: Tensor, pol: Tensor, step: int, alpha: float = 0.6, tau: int = 512, kind: Literal["soft", "hard"] = "soft"
) -> Tensor:
    """After optimiser step `step` (from 1), where tau divides it: `alpha policy + (1 - alpha) reference`, or the policy
    itself with `hard`; else the reference as it is. Both in float32 or wider; what comes back is the reference's own.
    """
    if step % tau:
        return ref
    share = 1.0 if kind == "hard" else alpha
    return share * pol.to(ref.dtype) + (1 - share) * ref
