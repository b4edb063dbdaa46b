"""The one record of burnish: a prompt, K completions, and some feedback on them.

K=1 with a yes/no label is KTO's record, K=2 with one preference is a DPO pair, K=n with scores is a ranked list or
an on-policy group. Chosen and rejected are indices into `completions`, never prefixes of names. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, e.g. `Message("user", "What is 7+5?")`."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)  # tool_calls, name, ... passed to the chat template


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `messages` is a string (plain text) or the assistant's (and tools') turns that follow the prompt."""

    messages: str | tuple[Message, ...]
    model: str | None = None  # who wrote it, where known
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per completion, higher is better."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """One yes/no per completion: desirable or not."""

    values: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Preferences:
    """`(winner, loser, weight)` triples of completion indices; weight 1.0 is a plain vote."""

    triples: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """No feedback, and why; a judge that fails gives this, never a zero."""

    reason: str = "no feedback in the data"


Feedback = Scores | Labels | Preferences | Unjudged


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt (plain text or messages), its K completions, and the feedback on them.

    `where` is `file:row` for error messages; it takes no part in the content hash.
    """

    prompt: str | tuple[Message, ...]
    completions: tuple[Completion, ...]
    feedback: Feedback = field(default_factory=Unjudged)
    id: str = ""
    source: str = ""  # name of the data set, for per-source figures
    where: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group in token space, as `render.Renderer.encode` makes it.

    `prompt_ids` ends where generation would begin; each of `completion_ids` is what generation would have produced,
    end-of-turn token included (`ended[k]` is False where the text was cut or no end-of-turn token exists).
    """

    id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    ended: tuple[bool, ...]
    feedback: Feedback
    source: str = ""
    where: str = ""
