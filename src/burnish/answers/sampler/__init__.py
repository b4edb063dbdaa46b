"""Where fresh answers come from: K completions of each prompt, with the log-probs that they were sampled with.

Two samplers keep to one protocol: `process.Sampler` answers with the policy that is being trained, in this process;
`remote.Sampler` asks a server over HTTP. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Finish = Literal["stop", "length"]
Tell = Callable[[int, int, int, float], None]  # (which prompt, which answer, token, its log-prob), as they come


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are drawn: from the softmax of logits / temperature, cut to the `top_k` likeliest (0: all), then to
    the fewest that hold `top_p` of the mass, and made to sum to 1 again. Temperature 0 takes the likeliest."""

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    @property
    def plain(self) -> bool:
        """Whether answers are drawn from the model's own distribution, unchanged."""
        return self.temperature == 1.0 and self.top_p == 1.0 and self.top_k == 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be answered: token ids up to where the answer begins. `id` seeds what is drawn."""

    id: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer. `logps` are nats, one a token, of the distribution it was drawn from: after temperature and
    truncation. `finish` is "stop" where the last token ends the answer, "length" where it was cut."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish: Finish


@runtime_checkable
class Sampler(Protocol):
    """Answers prompts. What is drawn is a function of (seed, step), prompt and number of the answer, whatever else
    stands in the batch; `moment` is (seed, step)."""

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, moment: tuple[int, int], tell: Tell | None = None
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order."""

    def publish(self, version: int) -> None:
        """Take up the policy's weights as they are after `version` optimiser steps."""
