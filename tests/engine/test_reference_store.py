"""The reference store: what is stored comes back to the bit; what is damaged is never used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from burnish.engine.reference_store import ReferenceStore, row_key, row_keys
from burnish.errors import StoreError
from burnish.group import EncodedGroup, Unjudged


def group(name: str, prompt: tuple[int, ...], *completions: tuple[int, ...]) -> EncodedGroup:
    return EncodedGroup(name, prompt, completions, (True,) * len(completions), Unjudged())


def filled(root: Path, groups: list[EncodedGroup]) -> ReferenceStore:
    store = ReferenceStore(root, "w", "float32", 1)
    draw = np.random.default_rng(0)
    for g in groups:
        for key, completion in zip(row_keys(g), g.completion_ids, strict=True):
            store.put(key, draw.normal(size=len(completion)).astype(np.float32))
    store.flush()
    return store


def test_round_trip_is_exact_and_addressed_by_content(tmp_path: Path) -> None:
    groups = [group("a", (1, 2), (3, 4), (5,)), group("b", (1,), (2, 3, 4))]
    written = filled(tmp_path, groups)
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    renamed = group("another name", (1, 2), (3, 4), (5,))
    assert again.missing([renamed]) == []
    for ours, theirs in zip(again.of(renamed), written.of(groups[0]), strict=True):
        assert np.array_equal(ours, theirs)


def test_the_boundary_is_part_of_the_key() -> None:
    assert row_key((1, 2), (3,)) != row_key((1,), (2, 3))


@pytest.mark.parametrize(
    ("weights", "dtype", "version"), [("x", "float32", 1), ("w", "bfloat16", 1), ("w", "float32", 2)]
)
def test_other_weights_dtype_or_engine_share_nothing(tmp_path: Path, weights: str, dtype: str, version: int) -> None:
    groups = [group("a", (1,), (2,))]
    filled(tmp_path, groups)
    assert ReferenceStore(tmp_path, weights, dtype, version).missing(groups) == groups


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage"])
def test_a_damaged_block_is_set_aside_and_recomputed(tmp_path: Path, damage: str) -> None:
    groups = [group("a", (1,), (2, 3))]
    store = filled(tmp_path, groups)
    (block,) = store.folder.glob("*.block")
    data = bytearray(block.read_bytes())
    if damage == "cut":
        data = data[:-3]
    elif damage == "flip":
        data[-1] ^= 1
    else:
        data = bytearray(b"no block at all")
    block.write_bytes(bytes(data))
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    assert again.missing(groups) == groups
    assert again.rejected == [block.name]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"reference\.store"):
        ReferenceStore(tmp_path / "file" / "store", "w", "float32", 1)
