"""Reference log-probs on disk, addressed by content: a sweep over beta, lr or loss computes the reference once.

An entry's key is what its values depend on and nothing else: the model's weights, the compute type, the engine's
version (the folder), and the token ids with the prompt's end (the row). Entries are written in blocks, each complete
under its own checksum before its name appears; a block that is cut short or altered is set aside and recomputed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from burnish.errors import StoreError
from burnish.group import EncodedGroup

MAGIC = b"burnish-reference-1\n"
KEY_BYTES = 32
DIGEST_BYTES = 32


def row_key(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """Key of one completion's log-probs: its tokens, its prompt's tokens, and where the one ends."""
    digest = hashlib.sha256(len(prompt_ids).to_bytes(8, "little"))
    digest.update(np.asarray([*prompt_ids, *completion_ids], dtype=np.int64).tobytes())
    return digest.digest()


def row_keys(group: EncodedGroup) -> list[bytes]:
    return [row_key(group.prompt_ids, completion) for completion in group.completion_ids]


class ReferenceStore:
    """Per-token log-probs of completions, in memory and in `folder` (float32; float64 where the run computes so).

    Raises StoreError when the folder cannot be made or written.
    """

    def __init__(self, root: Path, weights: str, dtype: str, engine_version: int, *, on_disk: bool = True) -> None:
        self.on_disk = on_disk  # of several processes one reads and writes, the others are told
        name = hashlib.sha256(f"{weights}/{dtype}/{engine_version}".encode()).hexdigest()[:24]
        self.folder = root / name
        self.number = np.dtype("<f8" if dtype.startswith("float64") else "<f4")
        self.rejected: list[str] = []
        self._rows: dict[bytes, np.ndarray] = {}
        self._fresh: dict[bytes, np.ndarray] = {}
        if not on_disk:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"reference.store: {root} cannot be made: {error.strerror}. Name another folder"
            ) from error
        for path in sorted(self.folder.glob("*.block")):
            self._load(path)

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
        found = [self._rows[k] if len(c) else empty for k, c in zip(row_keys(group), group.completion_ids, strict=True)]
        for values, completion in zip(found, group.completion_ids, strict=True):
            if len(values) != len(completion):
                raise StoreError(f"{self.folder}: an entry has {len(values)} log-probs for {len(completion)} tokens")
        return found

    def put(self, key: bytes, values: np.ndarray) -> None:
        self._rows[key] = self._fresh[key] = np.ascontiguousarray(values, dtype=self.number)

    def take(self, rows: Mapping[bytes, np.ndarray]) -> None:
        for key, values in rows.items():
            self.put(key, values)

    def held(self, groups: Iterable[EncodedGroup]) -> dict[bytes, np.ndarray]:
        """What is stored of these groups, for processes that have no disk of their own."""
        wanted = {key for group in groups for key in row_keys(group)}
        return {key: values for key, values in self._rows.items() if key in wanted}

    def flush(self) -> None:
        """Write what is new as one block, under a temporary name until it is whole."""
        if not self._fresh or not self.on_disk:
            self._fresh.clear()
            return
        keys = b"".join(self._fresh)
        lengths = np.asarray([len(v) for v in self._fresh.values()], dtype="<i8").tobytes()
        values = b"".join(v.tobytes() for v in self._fresh.values())
        body = len(self._fresh).to_bytes(8, "little") + keys + lengths + values
        digest = hashlib.sha256(body).digest()
        try:
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".part")
            with os.fdopen(handle, "wb") as stream:
                stream.write(MAGIC + digest + body)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.folder / f"{digest.hex()[:24]}.block")
        except OSError as error:
            raise StoreError(f"reference.store: {self.folder} cannot be written: {error.strerror}") from error
        self._fresh.clear()

    def _load(self, path: Path) -> None:
        data = path.read_bytes()
        start = len(MAGIC) + DIGEST_BYTES
        body = data[start:]
        if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[len(MAGIC) : start]:
            self.rejected.append(path.name)
            path.unlink(missing_ok=True)
            return
        count = int.from_bytes(body[:8], "little")
        keys = body[8 : 8 + KEY_BYTES * count]
        at = 8 + KEY_BYTES * count
        lengths = np.frombuffer(body, dtype="<i8", count=count, offset=at)
        values = np.frombuffer(body, dtype=self.number, offset=at + 8 * count)
        ends = np.cumsum(lengths)
        for i in range(count):
            key = keys[KEY_BYTES * i : KEY_BYTES * (i + 1)]
            self._rows[key] = values[ends[i] - lengths[i] : ends[i]]
