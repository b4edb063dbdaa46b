"""The record of a refresh: one prompt with its answers, and what becomes known of them step by step. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from burnish.data.prompts import Prompt
from burnish.group import EncodedGroup, Feedback, Group, Scores, Unjudged


@dataclass(frozen=True, slots=True)
class Measured:
    """A prompt's answers as the trainer's own models see them.

    Example: `Measured(policy=((-0.7, -0.1), (-1.2,)), reference=((-0.7, -0.2), (-1.1,)), kl=(0.03, 0.01),
    entropy=(1.4, 0.8))` of two answers, two tokens and one token long.
    """

    policy: tuple[tuple[float, ...], ...]  # by answer and token: log-probs, nats
    reference: tuple[tuple[float, ...], ...] = ()  # the same; () without a reference
    values: tuple[tuple[float, ...], ...] = ()  # by answer and token: the value head's; () without one
    kl: tuple[float, ...] = ()  # by answer: exact KL to the reference, nats summed over tokens
    entropy: tuple[float, ...] = ()  # by answer: entropy of the policy, nats summed over tokens
    sampled: tuple[tuple[float, ...], ...] = ()  # by answer and token: the policy's log-probs as a sampler draws, after
    # temperature and truncation; () where those of `policy` are


NOT_JUDGED = Unjudged("not judged yet")
NOT_MEASURED = Measured(())


@dataclass(frozen=True, slots=True)
class Answered:
    """One prompt and its answers. `sample` fills the first three fields, `judge` the next two, `measure` the next,
    and `with_advantages` and the objective's view the last."""

    prompt: Prompt
    texts: Group  # the answers as text, which is what judges read
    encoded: EncodedGroup  # the answers in tokens; `rollout` holds the sampler's log-probs, later the trainer's
    feedback: Feedback = NOT_JUDGED  # the judge's
    gold: Feedback | None = None  # a better judge's, which is only watched
    measured: Measured = NOT_MEASURED
    group: EncodedGroup | None = None  # what the objective trains on; None where the answers teach it nothing

    @property
    def reward(self) -> float | None:
        """Mean score of the answers; None where they were not scored."""
        if not isinstance(self.feedback, Scores):
            return None
        return sum(self.feedback.values) / len(self.feedback.values)


@dataclass(frozen=True, slots=True)
class Refresh:
    """All prompts of a refresh, in the order asked, and figures over them (`figures.py` says which)."""

    answered: Sequence[Answered]
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def unjudged(self) -> str | None:
        """Why nobody could judge any of the answers; None where some were judged."""
        reasons = [a.feedback.reason for a in self.answered if isinstance(a.feedback, Unjudged)]
        return reasons[0] if reasons and len(reasons) == len(self.answered) else None

    @property
    def groups(self) -> list[EncodedGroup | None]:
        """The groups to train on, by prompt; None where the answers teach the objective nothing."""
        return [answered.group for answered in self.answered]
