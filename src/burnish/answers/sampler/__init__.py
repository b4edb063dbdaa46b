"""Sampling: K completions of each prompt, with the log-probs that they were sampled with.

    process   `ProcessSampler`: the policy that is being trained answers, in this process
    cache     its keys and values, and the attention of a decoding step
    draw      from logits to a token and its log-prob
    stock     the same for models that cannot share a prompt, through transformers' `generate`
    remote    `ServerSampler`: a server answers over HTTP; no torch

To add a sampler, write a class with the two methods of `Sampler`, and choose it in `loop.samplers`.
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
    the fewest that hold `top_p` of the mass, and normalised again. Temperature 0 takes the likeliest token."""

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
    """An answer. `logps` are nats, one a token, of the distribution that it was drawn from: after temperature and
    truncation; at temperature 0, of the model's own. `finish` is "stop" where the last token ends the answer, "length"
    where it was cut.

    Example: `Sampled((310, 12, 2), (-0.7, -1.9, -0.1), "stop")`.
    """

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish: Finish


@runtime_checkable
class Sampler(Protocol):
    """Answers prompts. An answer is a function of seed, step, prompt and its number, whatever the rest of the batch."""

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order."""

    def publish(self, version: int) -> None:
        """Take up the policy's weights as they are after `version` optimiser steps."""
