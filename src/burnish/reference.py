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
CHUNK_GROUPS = 64  # planned together, so that packs are full


def fill(
    store: ReferenceStore,
    groups: Sequence[EncodedGroup],
    engine: Engine,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compute what the store lacks; returns how many groups that was. `advance(done, total)` reports progress."""
    missing = store.missing(groups)
    unflushed = 0
    for start in range(0, len(missing), CHUNK_GROUPS):
        chunk = missing[start : start + CHUNK_GROUPS]
        for batch in engine.plan(chunk):
            values = engine.score_reference(batch).cpu().numpy()
            pieces = np.split(values, np.cumsum(batch.lengths.numpy())[:-1])
            keys = [key for i in batch.group_index for key in row_keys(chunk[i])]
            for key, piece in zip(keys, pieces, strict=True):
                store.put(key, piece)
        unflushed += len(chunk)
        if unflushed >= FLUSH_GROUPS:
            store.flush()
            unflushed = 0
        advance(start + len(chunk), len(missing))
    store.flush()
    return len(missing)


def lookup(store: ReferenceStore, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> Tensor:
    """[tokens] reference log-probs of a microbatch, in its order."""
    rows = [values for i in batch.group_index for values in store.of(groups[i])]
    return torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0)
