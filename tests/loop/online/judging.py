"""Judges for tests: cheap functions of an answer's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def digits(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """How much of the answer is small digits: something that a policy can learn in a few steps."""
    return sum(sign in "01234" for sign in answer) / max(1, len(answer)) + 0.01 * (len(answer) % 7)


def same(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """Nothing is better than anything else."""
    return 1 / 3


def fewer(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """The opposite of `digits`: what it likes, this does not."""
    return -digits(prompt, answer, meta)


def silent(prompt: str, answer: str, meta: Mapping[str, Any]) -> None:
    """Cannot say."""


def picky(prompt: str, answer: str, meta: Mapping[str, Any]) -> float | None:
    """Cannot say of prompts that begin with an even digit."""
    return None if prompt.strip("_")[0] in "02468" else digits(prompt, answer, meta)


def extreme(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """Loses its sense of measure over prompts that begin with an even digit."""
    return 1e38 if prompt.strip("_")[0] in "02468" else digits(prompt, answer, meta)


def tired(prompt: str, answer: str, meta: Mapping[str, Any]) -> float | None:
    """Cannot say any more from the third step on."""
    return None if step_of(meta) >= 3 else digits(prompt, answer, meta)


def absent(prompt: str, answer: str, meta: Mapping[str, Any]) -> float | None:
    """Cannot say in the first and the third step."""
    return None if step_of(meta) in (0, 2) else digits(prompt, answer, meta)


def step_of(meta: Mapping[str, Any]) -> int:
    """The step that an answer was given for, which its id names."""
    return int(meta["id"].rpartition("@")[2].partition("/")[0].partition("#")[0])


def unsteady(prompt: str, answer: str, meta: Mapping[str, Any]) -> float | None:
    """Cannot say in two steps of every five."""
    return None if step_of(meta) % 5 in (1, 2) else digits(prompt, answer, meta)
