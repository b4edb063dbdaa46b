"""From logits to a token and the log-prob it was drawn with.

A token takes one uniform number, so that its draw is a function of seed, step, prompt, answer and position, whatever
the rest of the batch.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from burnish.answers.sampler import Decoding

BLOCK = 64  # tokens whose mass is summed before the cumulative sum: two short sums instead of one over the vocabulary
SMALL_VOCAB = 512  # tokens up to which a single cumulative sum is cheaper
CHUNK = 64  # uniform numbers made at a time


class Uniforms:
    """The uniform numbers of an answer's draws: number t is a function of seed, step, prompt, answer and t."""

    def __init__(self, seed: int, step: int, prompt: str, answer: int) -> None:
        digest = hashlib.sha256(repr((seed, step, prompt, answer)).encode()).digest()
        self._stream = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        self._numbers: list[float] = []

    def __getitem__(self, position: int) -> float:
        while position >= len(self._numbers):
            self._numbers += self._stream.random(CHUNK).tolist()
        return self._numbers[position]


def truncated(logits: Float[Tensor, "rows vocab"], decoding: Decoding) -> Float[Tensor, "rows vocab"]:
    """Logits over the temperature, -inf where top-k and then top-p leave a token out."""
    if decoding.temperature not in (0.0, 1.0):
        logits = logits / decoding.temperature
    if decoding.top_k and decoding.top_k < logits.shape[-1]:
        least = logits.topk(decoding.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if decoding.top_p < 1.0:
        ordered, places = logits.sort(dim=-1, descending=True, stable=True)
        mass = ordered.softmax(-1).cumsum(-1)
        beyond = mass - ordered.softmax(-1) >= decoding.top_p  # the first token that passes the share still counts
        logits = logits.masked_fill(beyond.scatter(-1, places, beyond), float("-inf"))
    return logits


def draw(
    logits: Float[Tensor, "rows vocab"], uniforms: Float[Tensor, " rows"], decoding: Decoding
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """(tokens, their log-probs in nats under the distribution they were drawn from; at temperature 0, under the model's
    own)."""
    if decoding.temperature == 0.0:
        tokens = logits.argmax(-1)
        return tokens, drawn_logps(logits, tokens, decoding)
    logits = logits if decoding.plain else truncated(logits, decoding)
    whole = logits.logsumexp(-1)
    tokens = _inverse((logits - whole[:, None]).exp_(), uniforms)
    return tokens, logits.gather(1, tokens[:, None])[:, 0] - whole


def drawn_logps(
    logits: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"], decoding: Decoding
) -> Float[Tensor, " rows"]:
    """Log-probs, in nats, of tokens that were drawn from the distribution after temperature and truncation.

    At temperature 0 they are the model's own. A token that was drawn was not left out, so its mass counts even where
    these logits put it, by rounding, just beyond the truncation.
    """
    column = tokens[:, None]
    if decoding.temperature != 0.0:
        kept = truncated(logits, decoding)
        logits = kept.scatter(1, column, logits.gather(1, column) / decoding.temperature)
    return logits.log_softmax(-1).gather(1, column)[:, 0]


def _inverse(probs: Tensor, uniforms: Tensor) -> Tensor:
    """The first token whose cumulative mass exceeds the uniform number; it always has mass itself."""
    rows, vocab = probs.shape
    if vocab <= SMALL_VOCAB:
        mass = probs.double().cumsum(-1)
        return torch.searchsorted(mass, below(uniforms.double()[:, None] * mass[:, -1:], mass), right=True)[:, 0]
    if vocab % BLOCK:
        probs = torch.nn.functional.pad(probs, (0, -vocab % BLOCK))
    blocks = probs.view(rows, -1, BLOCK)
    mass = blocks.sum(-1).double().cumsum(-1)
    target = below(uniforms.double()[:, None] * mass[:, -1:], mass)
    block = torch.searchsorted(mass, target, right=True)
    before = torch.where(block > 0, mass.gather(1, (block - 1).clamp(min=0)), 0.0)
    inner = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(-1)
    inside = torch.searchsorted(inner, below(target - before, inner), right=True)
    return (block * BLOCK + inside)[:, 0]


def below(target: Tensor, cumulative: Tensor) -> Tensor:
    """The target, kept from being rounded to the end of the sums or past it."""
    return torch.minimum(target, cumulative[:, -1:] * (1 - 1e-12))
