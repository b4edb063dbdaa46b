"""Reference log-probs for a run: taken from the store, computed where they are missing, before the first update.

`initial` is the policy itself before it moves (for an adapter: the adapter switched off), so no second model is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from burnish.engine import Engine
from burnish.group import EncodedGroup
from burnish.store import ReferenceStore, row_keys
from burnish.tensors import PackedBatch

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
    total = sum(len(store.missing(chunk)) for chunk in chunks)
    done = unflushed = 0
    for chunk in chunks:
        wanted = {id(group) for group in store.missing(chunk)}
        for batch in engine.plan(chunk) if wanted else []:
            if not any(id(chunk[i]) in wanted for i in batch.group_index):
                continue
            values = engine.score_reference(batch).cpu().numpy()
            pieces = np.split(values, np.cumsum(batch.lengths.numpy())[:-1])
            owners = [chunk[i] for i in batch.group_index for _ in chunk[i].completion_ids]
            keys = [key for i in batch.group_index for key in row_keys(chunk[i])]
            for owner, key, piece in zip(owners, keys, pieces, strict=True):
                if id(owner) in wanted:
                    store.put(key, piece)
        done += len(wanted)
        unflushed += len(wanted)
        if unflushed >= FLUSH_GROUPS:
            store.flush()
            unflushed = 0
        if wanted:
            advance(done, total)
    store.flush()
    return done


def lookup(store: ReferenceStore, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> Tensor:
    """[tokens] reference log-probs of a microbatch, in its order."""
    rows = [values for i in batch.group_index for values in store.of(groups[i])]
    return torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0)
