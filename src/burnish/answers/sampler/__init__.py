"""Where fresh answers come from: K completions of each prompt, with the log-probs that they were sampled with.

Two samplers keep to one protocol, `Sampler`: `process.ProcessSampler` answers with the policy that is being trained, in
this process; `remote.ServerSampler` asks a server over HTTP. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from burnish.data.prompts import Prompt

Finish = Literal["stop", "length"]


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
class Sampled:
    """One answer. `logps` are nats, one a token, of the distribution it was drawn from: after temperature and
    truncation. `finish` is "stop" where the last token ends the answer, "length" where it was cut."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish: Finish


@runtime_checkable
class Sampler(Protocol):
    """Answers prompts. What is drawn is a function of seed, step, prompt and number of the answer, whatever else stands
    in the batch."""

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order."""

    def publish(self, version: int) -> None:
        """Take up the policy's weights as they are after `version` optimiser steps."""
