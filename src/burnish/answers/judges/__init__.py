"""Who says which answers are better: programs that check them, reward models, language models, people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from burnish.group import Completion, Feedback, Group, Message

__all__ = ["Judge", "Reports", "asked", "text_of"]


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


def text_of(completion: Completion) -> str:
    """What the answer says: plain text as it is; of messages, the last one's content."""
    messages = completion.messages
    return messages if isinstance(messages, str) else messages[-1].content if messages else ""


def asked(group: Group) -> str:
    """The prompt as one text, with the roles of a conversation named."""
    prompt: str | tuple[Message, ...] = group.prompt
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{m.role}: {m.content}" for m in prompt)
