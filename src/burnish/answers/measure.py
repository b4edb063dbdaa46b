"""Fresh answers through the trainer's own engine, policy and reference: log-probs, exact KL, entropy and values.

The KL and the entropy at every token come from the hidden states that the log-probs come from. Estimates of the KL from
the sampled tokens alone have 4 (k1) to 13 (k3) times the variance; the exact one costs a product with the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.answers.answered import Answered, Measured
from burnish.answers.sampler import Decoding
from burnish.answers.sampler.draw import drawn_logps
from burnish.engine.divergence import HeadInput, look
from burnish.engine.engine import Engine, to_device
from burnish.engine.logprob import slices
from burnish.engine.reference import Live
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup
from burnish.tensors import PackedBatch


def measure(engine: Engine, reference: Live | None, answered: Sequence[Answered], decoding: Decoding) -> list[Answered]:
    """The same prompts with `measured`, and with the trainer's log-probs in the rollouts. `decoding`: how the answers
    were drawn."""
    measured = measure_groups(engine, reference, [a.encoded for a in answered], decoding)
    return [_with_measured(a, m) for a, m in zip(answered, measured, strict=True)]


def _with_measured(answered: Answered, measured: Measured) -> Answered:
    encoded = answered.encoded
    assert encoded.rollout is not None
    rollout = replace(encoded.rollout, policy=measured.policy, reference=measured.reference, values=measured.values)
    return replace(answered, measured=measured, encoded=replace(encoded, rollout=rollout))


@torch.no_grad()
def measure_groups(
    engine: Engine, reference: Live | None, groups: Sequence[EncodedGroup], decoding: Decoding
) -> list[Measured]:
    """Every group's answers through policy and reference, packed as a training step packs them."""

    def columns(batch: PackedBatch) -> list[dict[str, tuple[float, ...]]]:
        by_token = {name: c for name, c in _columns(engine, reference, batch, decoding).items() if c is not None}
        pieces = {name: batch.split(column.double().cpu()) for name, column in by_token.items()}
        return [{name: tuple(rows[k].tolist()) for name, rows in pieces.items()} for k in range(len(batch.lengths))]

    module = engine.policy.module
    module.eval()
    by_group = by_completion(engine, groups, columns)
    module.train()
    engine.policy.settle()
    return [_of_group(answers) for answers in by_group]


def _of_group(answers: Sequence[Mapping[str, tuple[float, ...]]]) -> Measured:
    def rows(name: str) -> tuple[tuple[float, ...], ...]:
        return tuple(answer[name] for answer in answers if name in answer)

    return Measured(
        rows("policy"), rows("reference"), rows("values"), tuple(map(sum, rows("kl"))),
        tuple(map(sum, rows("entropy"))), rows("sampled"),
    )  # fmt: skip


def _columns(
    engine: Engine, reference: Live | None, batch: PackedBatch, decoding: Decoding
) -> dict[str, Tensor | None]:
    """By token of a microbatch: log-probs of policy and reference, values, KL and entropy. The last two are missing for
    a head of unknown make, of which only log-probs are to be had. `sampled` is missing where the trainer's distribution
    is the one that is sampled from."""
    beyond = replace(decoding, temperature=decoding.temperature / engine.temperature)  # what the engine does not do
    if engine.plain_head or (reference is not None and reference.engine.plain_head):
        scored = engine.score(batch)
        reference_logps = None if reference is None else reference.computed(batch)[0]
        targets = batch.targets.to(scored.logps.device)
        sampled = None if beyond.plain else drawn_logps(engine.logits(batch), targets, beyond)
        return {"policy": scored.logps, "reference": reference_logps, "values": scored.values, "sampled": sampled}
    on_device = to_device(batch, engine.policy.device)
    head, values = engine.head_and_values(on_device)
    reference_head = None if reference is None else reference.head(batch)
    tokens = look(head, reference_head, on_device.targets)
    sampled = None if beyond.plain else _drawn(head, on_device.targets, beyond)
    return {
        "policy": tokens.policy, "reference": tokens.reference, "values": values, "kl": tokens.kl,
        "entropy": tokens.entropy, "sampled": sampled,
    }  # fmt: skip


def _drawn(head: HeadInput, targets: Tensor, decoding: Decoding) -> Tensor:
    """Log-probs of tokens drawn from the head's distribution after temperature and truncation, a slice at a time."""
    parts = [drawn_logps(head.log_probs(s)[1], targets[s], decoding) for s in slices(len(targets), len(head.weight))]
    return torch.cat(parts) if parts else targets.new_zeros(0, dtype=torch.float32)
