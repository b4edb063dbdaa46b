"""Near copies of prompts, by MinHash over short runs of characters, with bands to find the candidates.

One-permutation MinHash (Li, Owen & Zhang 2012) with densification by rotation (Shrivastava & Li 2014): one hash of each
run of 32 bytes (about eight words), the smallest in each of 64 bins; 256 bytes a text. Two texts are near copies if
four fifths of their bins agree, which estimates the Jaccard similarity of their runs.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 64
BANDS = 16  # of four bins: texts 0.8 alike share a band with probability 1 - (1 - 0.8^4)^16 = 0.9998
WINDOW = 32
ALIKE = 0.8
READ = 8192  # bytes of a text that are compared
FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], dtype=np.uint64)

Signature = NDArray[np.uint32]


def signature(text: str) -> Signature | None:
    """The 64 bin minima of a normalised text; None where it is shorter than two windows (digests detect exact
    copies)."""
    raw = np.frombuffer(text.encode()[:READ], dtype=np.uint8).astype(np.uint64)
    if len(raw) < 2 * WINDOW:
        return None
    size, hashed = 1, raw + np.uint64(1)
    factor = 0x9E3779B97F4A7C15
    while size < WINDOW:  # hash of a run of 2n = hash of its first half x factor^n + hash of its second
        power = np.uint64(pow(factor, size, 1 << 64))
        hashed = hashed[:-size] * power + hashed[size:]
        size *= 2
    hashed ^= hashed >> np.uint64(31)
    hashed *= np.uint64(0xBF58476D1CE4E5B9)
    hashed ^= hashed >> np.uint64(29)
    hashed.sort()
    bins = hashed >> np.uint64(58)
    first = np.searchsorted(bins, np.arange(BINS, dtype=np.uint64))
    filled = first < len(hashed)
    filled[filled] = bins[first[filled]] == np.flatnonzero(filled).astype(np.uint64)
    out = np.zeros(BINS, dtype=np.uint32)
    out[filled] = (hashed[first[filled]] >> np.uint64(20)).astype(np.uint32)
    where = np.flatnonzero(filled)
    empty = np.flatnonzero(~filled)
    donors = where[np.searchsorted(where, empty) % len(where)]  # the next filled bin to the right, round the end
    out[empty] = out[donors] + ((empty - donors) % BINS).astype(np.uint32)
    return out


@dataclass
class Sketches:
    """The signatures of many texts, 260 bytes each, and which row each belongs to."""

    rows: array[int] = field(default_factory=lambda: array("l"))
    bins: array[int] = field(default_factory=lambda: array("I"))

    def add(self, text: str, row: int) -> None:
        bins = signature(text)
        if bins is not None:
            self.rows.append(row)
            self.bins.frombytes(bins.tobytes())

    def matrix(self) -> Signature:
        return np.frombuffer(self.bins, dtype=np.uint32).reshape(-1, BINS) if len(self.rows) else _NONE


_NONE = np.zeros((0, BINS), dtype=np.uint32)


def copies(texts: Signature, earlier: Signature = _NONE) -> NDArray[np.bool_]:
    """[n]: whether each text is a near copy of an `earlier` text, or, where none are given, of a text before it.

    Candidates share a band; a text is compared with its four neighbours and the first four in the same bucket, so a
    template that everything follows does not make it quadratic.
    """
    every = np.concatenate([earlier, texts])
    copied = np.zeros(len(every), dtype=bool)
    for band in range(BANDS if len(every) else 0):
        keys = every[:, band * 4 : band * 4 + 4].astype(np.uint64) @ FACTORS
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        starts = np.searchsorted(sorted_keys, sorted_keys)
        place = np.arange(len(every))
        for step in range(4):
            for other in (place - 1 - step, starts + step):
                fits = (other >= starts) & (other < place)
                left, right = order[place[fits]], order[other[fits]]
                if len(earlier):
                    across = (left >= len(earlier)) & (right < len(earlier))
                    left, right = left[across], right[across]
                left, right = left[~copied[left]], right[~copied[left]]
                copied[left] |= (every[left] == every[right]).mean(1) >= ALIKE
    return copied[len(earlier) :]
