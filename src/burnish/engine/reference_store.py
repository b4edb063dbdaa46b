"""Reference log-probs on disk, addressed by content: a sweep over beta, lr or loss computes the reference once.

An entry's key is what its values depend on and nothing else: the model's weights, the compute type, the engine's
version (the folder), and the token ids with the prompt's end (the row). Entries are written in blocks: safetensors
files of `keys` uint8 [entries, 32], `lengths` int64 [entries] and `values` [tokens], their SHA-256 in the metadata. A
block gets its name when it is whole; one that is cut short or altered is deleted and computed again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from burnish.config import ModelConfig
from burnish.engine import weights
from burnish.errors import StoreError
from burnish.group import EncodedGroup

SUFFIX = ".safetensors"
OLD_SUFFIX = ".block"  # of a format of this package's own, which nothing reads any more


def row_key(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """Key of one completion's log-probs: its tokens, its prompt's tokens, and where the one ends."""
    digest = hashlib.sha256(len(prompt_ids).to_bytes(8, "little"))
    digest.update(np.asarray([*prompt_ids, *completion_ids], dtype=np.int64).tobytes())
    return digest.digest()


def row_keys(group: EncodedGroup) -> list[bytes]:
    """Keys of a group's completions, in order."""
    return [row_key(group.prompt_ids, completion) for completion in group.completion_ids]


def weights_hash(model: ModelConfig) -> str:
    """Content hash of a model's weights and configuration, and those of its adapters; a hub name hashes its resolved
    snapshot."""
    origin = weights.origin(model)
    folder = Path(origin.base)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(origin.base))
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"])
    for adapter in origin.adapters:
        files += [adapter / "adapter_config.json", *sorted(adapter.glob("adapter_model.*"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


class ReferenceStore:
    """Per-token log-probs of completions, in memory and in `folder` (float32; float64 where the run computes so).

    on_disk   of several processes one reads and writes, the others are sent what they need
    notes     a sentence about each block that could not be used

    Raises StoreError when the folder cannot be made or written.
    """

    def __init__(self, root: Path, weights: str, dtype: str, engine_version: int, *, on_disk: bool = True) -> None:
        self.on_disk = on_disk
        name = hashlib.sha256(f"{weights}/{dtype}/{engine_version}".encode()).hexdigest()[:24]
        self.folder = root / name
        self.number = np.dtype("<f8" if dtype.startswith("float64") else "<f4")
        self.notes: list[str] = []
        self._rows: dict[bytes, np.ndarray] = {}
        self._unwritten: dict[bytes, np.ndarray] = {}
        if not on_disk:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"reference.store: {root} cannot be made: {error.strerror}. Name another folder"
            ) from error
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            self._load(path)
        self._drop_old_blocks()

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __getitem__(self, key: bytes) -> np.ndarray:
        return self._rows[key]

    def missing(self, groups: Iterable[EncodedGroup]) -> list[EncodedGroup]:
        """Groups of which at least one completion is not stored (each group once, in order)."""
        return [
            g
            for g in groups
            if any(len(c) and k not in self for k, c in zip(row_keys(g), g.completion_ids, strict=True))
        ]

    def of(self, group: EncodedGroup) -> list[np.ndarray]:
        """The group's stored log-probs, one array per completion, of that completion's length."""
        empty = np.zeros(0, dtype=self.number)
        logps = [self._rows[k] if len(c) else empty for k, c in zip(row_keys(group), group.completion_ids, strict=True)]
        for values, completion in zip(logps, group.completion_ids, strict=True):
            if len(values) != len(completion):
                raise StoreError(f"{self.folder}: an entry has {len(values)} log-probs for {len(completion)} tokens")
        return logps

    def put(self, key: bytes, values: np.ndarray) -> None:
        self._rows[key] = self._unwritten[key] = np.ascontiguousarray(values, dtype=self.number)

    def take(self, rows: Mapping[bytes, np.ndarray]) -> None:
        for key, values in rows.items():
            self.put(key, values)

    def held(self, groups: Iterable[EncodedGroup]) -> dict[bytes, np.ndarray]:
        """What is stored of these groups, for processes that have no disk of their own."""
        wanted = {key for group in groups for key in row_keys(group)}
        return {key: values for key, values in self._rows.items() if key in wanted}

    def flush(self) -> None:
        """Write what is new as one block, under a temporary name until it is whole."""
        if not self._unwritten or not self.on_disk:
            self._unwritten.clear()
            return
        block: dict[str, np.ndarray] = {
            "keys": np.frombuffer(b"".join(self._unwritten), dtype=np.uint8).reshape(len(self._unwritten), -1),
            "lengths": np.asarray([len(values) for values in self._unwritten.values()], dtype=np.int64),
            "values": np.concatenate(list(self._unwritten.values())),
        }
        digest = _digest(block)
        try:
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".part")
            with os.fdopen(handle, "wb") as stream:
                stream.write(save(block, {"sha256": digest}))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.folder / f"{digest[:24]}{SUFFIX}")
        except OSError as error:
            raise StoreError(f"reference.store: {self.folder} cannot be written: {error.strerror}") from error
        self._unwritten.clear()

    def _load(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy") as file:
                block = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
                whole = (file.metadata() or {}).get("sha256") == _digest(block)
        except SafetensorError:
            whole = False
        if not whole:
            self.notes.append(f"reference: stored block {path.name} was damaged; it is computed again")
            path.unlink(missing_ok=True)
            return
        ends = np.cumsum(block["lengths"])[:-1]
        rows = np.split(block["values"], ends)
        self._rows.update(zip((key.tobytes() for key in block["keys"]), rows, strict=True))

    def _drop_old_blocks(self) -> None:
        old = list(self.folder.glob(f"*{OLD_SUFFIX}"))
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            self.notes.append(f"reference: stored blocks of an older format ({len(old)}) are computed again")


def _digest(block: Mapping[str, np.ndarray]) -> str:
    """Of the arrays' names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(block):
        digest.update(f"{name} {block[name].dtype.str} {block[name].shape} ".encode())
        digest.update(np.ascontiguousarray(block[name]).tobytes())
    return digest.hexdigest()
