"""The reference store: what is stored comes back to the bit; what is damaged is never used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

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
    for read, computed in zip(again.of(renamed), written.of(groups[0]), strict=True):
        assert read.dtype == computed.dtype == np.float32 and np.array_equal(read, computed)


def test_each_flush_adds_a_block_and_half_filled_groups_are_missing(tmp_path: Path) -> None:
    first, second = group("a", (1, 2), (3, 4), (5,)), group("b", (1, 2), (3, 4), (6, 7))
    store = filled(tmp_path, [first])
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    assert again.missing([first, second]) == [second]
    again.put(row_key((1, 2), (6, 7)), np.float32([-0.5, -0.25]))
    again.flush()
    assert len(list(store.folder.iterdir())) == 2
    whole = ReferenceStore(tmp_path, "w", "float32", 1)
    assert whole.missing([first, second]) == []
    assert [row.tolist() for row in whole.of(second)] == [store.of(first)[0].tolist(), [-0.5, -0.25]]


def test_a_block_is_a_safetensors_file_with_its_digest(tmp_path: Path) -> None:
    store = filled(tmp_path, [group("a", (1,), (2, 3), (4,))])
    (path,) = store.folder.iterdir()
    with safe_open(path, framework="numpy") as file:
        assert file.get_tensor("keys").shape == (2, 32) and file.get_tensor("lengths").tolist() == [2, 1]
        assert file.get_tensor("values").shape == (3,)
        assert path.name == f"{file.metadata()['sha256'][:24]}.safetensors"


def test_float64_is_kept(tmp_path: Path) -> None:
    wide = ReferenceStore(tmp_path, "w", "float64/highest", 1)
    wide.put(row_key((1,), (2,)), np.asarray([-1 / 3]))
    wide.flush()
    (row,) = ReferenceStore(tmp_path, "w", "float64/highest", 1).of(group("a", (1,), (2,)))
    assert row.dtype == np.float64 and row.tolist() == [-1 / 3]


def test_the_boundary_is_part_of_the_key() -> None:
    assert row_key((1, 2), (3,)) != row_key((1,), (2, 3))


@pytest.mark.parametrize(
    ("weights", "dtype", "version"), [("x", "float32", 1), ("w", "bfloat16", 1), ("w", "float32", 2)]
)
def test_other_weights_dtype_or_engine_share_nothing(tmp_path: Path, weights: str, dtype: str, version: int) -> None:
    groups = [group("a", (1,), (2,))]
    filled(tmp_path, groups)
    assert ReferenceStore(tmp_path, weights, dtype, version).missing(groups) == groups


@pytest.mark.parametrize("damage", ["cut", "value", "key", "type", "digest", "no digest", "garbage", "empty"])
def test_a_damaged_block_is_deleted_and_computed_again(tmp_path: Path, damage: str) -> None:
    groups = [group("a", (1,), (2, 3))]
    store = filled(tmp_path, groups)
    (path,) = store.folder.iterdir()
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")  # where the arrays begin
    flipped = {"value": len(data) - 1, "key": data.index(row_key((1,), (2, 3))), "digest": data.index(b'sha256":"') + 9}
    if damage in flipped:
        at = flipped[damage]
        data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    damaged = {
        "cut": data[:-3], "type": data[:start].replace(b"F32", b"I32") + data[start:],
        "no digest": data.replace(b"sha256", b"sha257"), "garbage": b"no block at all", "empty": b"",
    }.get(damage, data)  # fmt: skip
    path.write_bytes(damaged)
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    assert again.missing(groups) == groups
    assert again.notes == [f"reference: stored block {path.name} was damaged; it is computed again"]
    assert list(store.folder.iterdir()) == []


def test_an_interrupted_write_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    groups = [group("a", (1,), (2, 3))]
    store = filled(tmp_path, groups)
    (path,) = store.folder.iterdir()
    path.rename(store.folder / "tmp1234.part")
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    assert again.missing(groups) == groups and again.notes == []


def test_blocks_of_the_older_format_are_computed_again(tmp_path: Path) -> None:
    groups = [group("a", (1,), (2, 3))]
    folder = ReferenceStore(tmp_path, "w", "float32", 1).folder
    (folder / "0123.block").write_bytes(b"burnish-reference-1\n")
    again = ReferenceStore(tmp_path, "w", "float32", 1)
    assert again.missing(groups) == groups
    assert again.notes == ["reference: stored blocks of an older format (1) are computed again"]
    assert ReferenceStore(tmp_path, "w", "float32", 1).notes == []


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"reference\.store"):
        ReferenceStore(tmp_path / "file" / "store", "w", "float32", 1)
