"""Random draws are a function of their keys alone. (Intervals are tested in `reports/rewards/test_intervals.py`.)"""

from __future__ import annotations

import hashlib

import numpy as np

from burnish.stats import seed_sequence


def test_integers_seed_as_numpy_lets_them() -> None:
    ours, theirs = np.random.default_rng(seed_sequence(3, 14)), np.random.default_rng((3, 14))
    assert ours.random(9).tolist() == theirs.random(9).tolist()


def test_a_name_enters_as_two_words_of_its_digest() -> None:
    digest = hashlib.sha256(b"dropout/0").digest()
    words = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
    assert (
        seed_sequence(3, 14, "dropout/0").generate_state(4).tolist()
        == np.random.SeedSequence((3, 14, *words)).generate_state(4).tolist()
    )


def test_other_keys_draw_other_numbers() -> None:
    keys = [(0, 1), (1, 0), (0, 1, "a"), (0, 1, "b"), (0, "a", 1)]
    assert len({tuple(seed_sequence(*key).generate_state(2).tolist()) for key in keys}) == len(keys)
