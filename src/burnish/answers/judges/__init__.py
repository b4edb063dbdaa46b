"""Who says which answers are better: programs that check them, reward models, language models, people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from burnish.group import Feedback, Group

__all__ = ["Judge", "Reports"]


@runtime_checkable
class Judge(Protocol):
    """Judges whole groups. `name` stands in logs. A group that could not be judged gets `Unjudged(reason)`, never a
    zero, and never an exception for what an answer says."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """One feedback a group, in order."""


@runtime_checkable
class Reports(Protocol):
    """A judge that has figures about itself: its bias, what it cost."""

    def report(self) -> Mapping[str, float]:
        """Figures for the log."""
