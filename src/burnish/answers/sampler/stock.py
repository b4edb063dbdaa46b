"""Sampling for models that cannot share prompts (recurrent layers, chunked attention).

transformers' `generate` runs with its cache, and the package's `draw` in place of its sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from burnish.answers.sampler import Decoding, Sampled
from burnish.answers.sampler.draw import Uniforms, draw
from burnish.data.prompts import Prompt
from burnish.engine.model import Policy


class DrawingProcessor:
    """A logits processor that draws the tokens, and masks all others, so that greedy search takes the drawn ones."""

    def __init__(self, rows: Sequence[tuple[int, int]], uniforms: Sequence[Uniforms], decoding: Decoding) -> None:
        self.rows, self.uniforms, self.decoding = rows, uniforms, decoding
        self.tokens: list[list[int]] = []
        self.logps: list[list[float]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        position = len(self.tokens)
        drawn = [uniforms[position] for uniforms in self.uniforms]
        numbers = torch.tensor(drawn, dtype=torch.float64, device=scores.device)
        logits = scores if scores.dtype == torch.float64 else scores.float()
        tokens, logps = draw(logits, numbers, self.decoding)
        self.tokens.append(tokens.tolist())
        self.logps.append(logps.tolist())
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


def answer_padded(
    policy: Policy, terminal: frozenset[int], prompts: Sequence[Prompt], k: int, decoding: Decoding,
    seed: int, step: int, rows: int,
) -> list[list[Sampled]]:  # fmt: skip
    """For each prompt its k answers, `rows` of them at a time; prompts of like lengths come together, padded on the
    left."""
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number].ids))
    keys = [(number, j) for number in order for j in range(k)]
    answers: dict[tuple[int, int], Sampled] = {}
    for start in range(0, len(keys), rows):
        answers |= _batch(policy, terminal, prompts, keys[start : start + rows], decoding, seed, step)
    return [[answers[number, j] for j in range(k)] for number in range(len(prompts))]


def _batch(
    policy: Policy, terminal: frozenset[int], prompts: Sequence[Prompt], rows: Sequence[tuple[int, int]],
    decoding: Decoding, seed: int, step: int,
) -> dict[tuple[int, int], Sampled]:  # fmt: skip
    from transformers import GenerationConfig, LogitsProcessorList

    drawing = DrawingProcessor(rows, [Uniforms(seed, step, prompts[number].key, j) for number, j in rows], decoding)
    width = max(len(prompts[number].ids) for number, _ in rows)
    ids = torch.tensor([[0] * (width - len(p.ids)) + list(p.ids) for p in (prompts[number] for number, _ in rows)])
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in (len(prompts[number].ids) for number, _ in rows)])
    ids, mask = ids.to(policy.device), mask.to(policy.device)
    ends = sorted(terminal)
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, do_sample=False, use_cache=True,
        eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0,
    )  # fmt: skip
    options: dict[str, Any] = {"logits_processor": LogitsProcessorList([drawing]), "generation_config": settings}
    with policy.stock(), _without_generation_config(policy.base):
        policy.base.generate(input_ids=ids, attention_mask=mask, **options)
    return {row: _cut(drawing, number, terminal) for number, row in enumerate(rows)}


@contextmanager
def _without_generation_config(base: Any) -> Iterator[None]:
    """Hide the model's generation_config, whose values (repetition penalties, suppressed tokens) would fill in for
    settings that are not given."""
    from transformers import GenerationConfig

    original, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = original


def _cut(drawing: DrawingProcessor, row: int, terminal: frozenset[int]) -> Sampled:
    ids = [tokens[row] for tokens in drawing.tokens]
    end = next((position for position, token in enumerate(ids) if token in terminal), None)
    size = len(ids) if end is None else end + 1
    return Sampled(
        tuple(ids[:size]), tuple(logps[row] for logps in drawing.logps[:size]), "length" if end is None else "stop"
    )
