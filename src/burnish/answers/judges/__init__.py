"""Judges: feedback on groups of answers, from programs, reward models, language models, or people.

A judge takes whole groups and gives each a `Feedback`. A failed judge leaves its group `Unjudged`; it never scores it 0
and never raises for the text of an answer. No torch in this wing but in `reward`.

In what order to read it:

    __init__        the protocol
    panel           a run's judges from its tables, and several of them as one
    verifier        named checks and users' functions; checks: the table of checks; answers: final answers;
                    ifeval: IFEval's instructions; check_process: checks that may hang; sandbox, guard: programs
    reward          reward models; ensemble: several of them as one score
    llm             a language model behind an endpoint; template: its prompts; chat_reply: its replies;
                    ledger: its cost, and the replies so far
    human           people's votes

How to add to it. A check: a function of a `checks.Request` and its row in `checks.TABLE`. A kind of judge: a table with
a `kind` in `config.online`, a module with `make(table)`, and a line in `panel._make`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from burnish.group import Feedback, Group

__all__ = ["Judge", "Reports", "Stateful"]


@runtime_checkable
class Judge(Protocol):
    """Judges whole groups. A group that could not be judged gets `Unjudged(reason)`."""

    @property
    def name(self) -> str:
        """The judge's name in logs."""

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """The feedback on each group, in order."""


@runtime_checkable
class Reports(Protocol):
    """A judge with figures about itself: its bias, its cost."""

    def report(self) -> Mapping[str, float]:
        """Figures for the log."""


@runtime_checkable
class Stateful(Protocol):
    """A judge with something that a checkpoint holds: what it has spent."""

    def state(self) -> dict[str, Any]:
        """What `restore` takes, as JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
