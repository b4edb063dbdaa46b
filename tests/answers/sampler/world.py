"""Two samplers to test with: one without a model, and the in-process sampler on a tiny model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from burnish.answers.sampler import Decoding, Sampled
from burnish.answers.sampler.draw import truncated
from burnish.data.prompts import Prompt
from burnish.engine import canary, model
from burnish.engine.engine import Engine
from burnish.group import EncodedGroup, Unjudged
from tests import zoo


def fraction(*parts: object) -> float:
    """A number from 0 to 1 that is a function of the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


@dataclass
class Fake:
    """Answers with pseudo-random tokens, a function of seed, step, prompt and number of the answer, and of `weights`.

    Every distribution is the same: token t of `vocabulary` has the logit -t/8. `raw`: log-probs are those before
    temperature and truncation.
    """

    vocabulary: int = 300
    terminal: int = 0
    raw: bool = False
    weights: str = ""

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        return [[self._answer(prompt, number, decoding, seed, step) for number in range(k)] for prompt in prompts]

    def _answer(self, prompt: Prompt, number: int, decoding: Decoding, seed: int, step: int) -> Sampled:
        ids: list[int] = []
        logps: list[float] = []
        while len(ids) < decoding.max_new_tokens and self.terminal not in ids:
            u = fraction(seed, step, prompt.key, prompt.ids, number, len(ids), self.weights)
            token, logp = self._draw(u, decoding)
            ids.append(token)
            logps.append(logp)
        return Sampled(tuple(ids), tuple(logps), "stop" if self.terminal in ids else "length")

    def _draw(self, u: float, decoding: Decoding) -> tuple[int, float]:
        """Token 3 is the likeliest, then 4, ...; 0 to 2 come last, so that answers end now and then."""
        size = decoding.top_k or self.vocabulary
        heat = decoding.temperature or 1e-6
        weights = [math.exp(-t / 8 / heat) for t in range(size)]
        total, at = sum(weights), 0
        left = u * total
        while at < size - 1 and left >= weights[at]:
            left -= weights[at]
            at += 1
        logp = math.log(weights[at] / total)
        if self.raw:
            plain = [math.exp(-t / 8) for t in range(self.vocabulary)]
            logp = math.log(plain[at] / sum(plain))
        return (at + 3) % self.vocabulary, logp

    def likeliest(self, text: Sequence[int], decoding: Decoding) -> dict[int, float]:
        """The log-probs of tokens 3 and 4."""
        plain = [-t / 8 for t in range(self.vocabulary)]
        logits = plain if self.raw else [logit / decoding.temperature for logit in plain[: decoding.top_k]]
        whole = math.log(sum(map(math.exp, logits)))
        return {3: logits[0] - whole, 4: logits[1] - whole}

    def publish(self, version: int) -> None:
        raise AssertionError("a server's sampler is not told versions")


def engine_of(family: str, dtype: torch.dtype = torch.float32) -> Engine:
    """A tiny model of the family, laid out as its canary decides."""
    module = zoo.tiny(family, dtype)
    policy = model.Policy(module, module, family, dtype, module.config._attn_implementation)
    verdict = canary.decide(policy, "auto")
    return Engine(policy, 512, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)


def likeliest(engine: Engine, text: Sequence[int], decoding: Decoding) -> dict[int, float]:
    """The log-probs of the two likeliest tokens behind a text, after temperature and truncation."""
    group = EncodedGroup("", tuple(text), ((0,),), (True,), Unjudged())
    with torch.no_grad():
        (head, _) = engine.head_and_values(next(iter(engine.plan([group]))))
        logps = truncated(head.log_probs(slice(None))[1], decoding).log_softmax(-1)[0]
    top = logps.topk(2)
    return dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def score(engine: Engine, text: Sequence[int]) -> list[float]:
    """The log-prob of every token of a text but the first."""
    group = EncodedGroup("", tuple(text[:1]), (tuple(text[1:]),), (True,), Unjudged())
    with torch.no_grad():
        logps: list[float] = engine.score(next(iter(engine.plan([group])))).logps.tolist()
    return logps


def largest_difference(engine: Engine, prompts: Sequence[Prompt], answers: Sequence[Sequence[Sampled]]) -> float:
    """Between sampled log-probs and those that the engine computes for the same tokens, nats."""
    groups = [
        EncodedGroup(prompt.key, prompt.ids, tuple(a.ids for a in row), (True,) * len(row), Unjudged())
        for prompt, row in zip(prompts, answers, strict=True)
    ]
    worst = 0.0
    for batch in engine.plan(groups):
        with torch.no_grad():
            computed = engine.score(batch).logps
        sampled = [logp for i in batch.group_index for answer in answers[i] for logp in answer.logps]
        worst = max(worst, float((computed - torch.tensor(sampled, dtype=computed.dtype)).abs().max()))
    return worst
