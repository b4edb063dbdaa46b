"""The records of a ballot: a pair of answers, a task, a vote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.group import Turns

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad")
Origin = Literal["set", "asked"]  # a prompt of the ballot's set, or one that a rater asked


@dataclass(frozen=True, slots=True)
class BallotPair:
    """Two models' answers to one prompt. `a` and `b` are places in the ballot's list of models, a < b.

    Example: `BallotPair("9f2c", "What is 7+5?", 0, 1, "12", "It is 12.")`
    """

    prompt: str  # the prompt's id
    turns: Turns
    a: int
    b: int
    answer_a: str
    answer_b: str
    verdict: float | None = None  # a judge's outcome for a, in [0, 1]
    weight: float = 1.0  # by which it is asked early
    origin: Origin = "set"
    kind: str = ""  # of prompt
    meta: Mapping[str, Any] = field(default_factory=dict)  # what else the prompt's row says

    @property
    def is_alike(self) -> bool:
        """Whether nobody can tell the answers apart: a tie without asking."""
        return self.answer_a.split() == self.answer_b.split()


@dataclass(frozen=True, slots=True)
class Task:
    """A pair as one rater sees it, without a word of whose answer is where."""

    id: str  # random, the same length for all
    pair: int
    turns: Turns
    left: str
    right: str
    number: int  # of this rater's tasks, from 1
    total: int  # that this rater will see, as far as known


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote as figures read it. `outcome` is a's: 1, 0, or 1/2 for a tie or two bad answers."""

    task: str
    pair: int
    prompt: str
    kind: str  # of prompt
    origin: Origin
    a: int
    b: int
    outcome: float
    choice: Choice
    rater: str
    swapped: bool
    repeats: str | None
    seconds: float
    at: float  # seconds since 1970
    length_a: int  # characters
    length_b: int
    names_maker: bool  # one of the answers says who made it
    note: str = ""
    flagged: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a rater sends of a task."""

    task: str
    choice: Choice
    note: str = ""
    flagged: bool = False
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0


Settings = dict[str, Any]  # the ballot's settings, as JSON holds them


def outcome_of(choice: Choice, swapped: bool) -> float:
    """a's outcome of a choice between left and right."""
    if choice in ("tie", "both_bad"):
        return 0.5
    return float((choice == "left") != swapped)
