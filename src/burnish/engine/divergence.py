"""The KL divergence over the whole vocabulary from a reference to the policy, at every position; no logits are kept.

`KL(q || p) = sum_v q(v) (log q(v) - log p(v))`, q the reference's distribution, p the policy's. Forward keeps nothing
of either but the hidden states; backward computes a slice's logits of both again and multiplies by `p - q`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from burnish.engine.logprob import HeadTransform, add_product, logits_of, product_of, slices
from burnish.tensors import wide_type


@dataclass(frozen=True)
class HeadInput:
    """The input of an output head: hidden states, the head's weights, and the family's transform of the logits."""

    hidden: Float[Tensor, "tokens width"]
    weight: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"] | None
    transform: HeadTransform

    def log_probs(self, rows: slice) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows vocab"]]:
        """(log-softmax, transformed logits) of some rows, in float32 or wider."""
        logits = logits_of(product_of(self.hidden[rows], self.weight), self.bias, self.transform)
        return logits.log_softmax(-1), logits


def kl_from_reference(policy: HeadInput, reference: HeadInput) -> Float[Tensor, " tokens"]:
    """KL(reference || policy) of each row, in nats, at least 0; gradient reaches the policy alone."""
    out: Tensor = _Divergence.apply(  # type: ignore[no-untyped-call]
        policy.hidden, policy.weight, policy.bias, policy.transform, reference
    )
    return out


@dataclass(frozen=True)
class RowStatistics:
    """What the distributions over the vocabulary say of each row, in nats."""

    policy: Float[Tensor, " tokens"]  # log-prob of the target under the policy
    entropy: Float[Tensor, " tokens"]  # of the policy
    reference: Float[Tensor, " tokens"] | None = None  # log-prob of the target under the reference, where there is one
    kl: Float[Tensor, " tokens"] | None = None  # KL(policy || reference)


@torch.no_grad()
def look(policy: HeadInput, reference: HeadInput | None, targets: Int[Tensor, " tokens"]) -> RowStatistics:
    """The statistics of each row, from a single product with each head.

    `KL(policy || reference)` summed over an answer that the policy sampled has the KL between the two distributions
    over answers as its mean (chain rule), with far less variance than the sampled tokens' own log-ratios.
    """
    dtype = wide_type(policy.hidden.dtype)
    count, device = policy.hidden.shape[0], policy.hidden.device
    columns = [torch.empty(count, dtype=dtype, device=device) for _ in range(2 if reference is None else 4)]
    for rows in slices(count, policy.weight.shape[0]):
        p, which = policy.log_probs(rows)[0], targets[rows, None]
        mass = p.exp()
        negative_entropy = expected(mass, p)
        columns[0][rows], columns[1][rows] = p.gather(1, which)[:, 0], -negative_entropy
        if reference is not None:
            q = reference.log_probs(rows)[0]
            columns[2][rows], columns[3][rows] = q.gather(1, which)[:, 0], negative_entropy - expected(mass, q)
    return RowStatistics(*columns)


def expected(mass: Tensor, values: Tensor) -> Tensor:
    """sum_v mass(v) values(v) of each row; what has no mass adds nothing, even where its value is infinite."""
    sums = torch.bmm(mass[:, None, :], values[:, :, None])[:, 0, 0]
    if bool(sums.isnan().any()):
        sums = torch.where(mass == 0, 0.0, mass * values).sum(-1)
    return sums


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, transform: HeadTransform, reference: HeadInput
    ) -> Tensor:
        out = torch.empty(hidden.shape[0], dtype=wide_type(hidden.dtype), device=hidden.device)
        policy = HeadInput(hidden, weight, bias, transform)
        for rows in slices(hidden.shape[0], weight.shape[0]):
            p, q = policy.log_probs(rows)[0], reference.log_probs(rows)[0]
            # a token that the reference gives no mass adds nothing, whatever the policy gives it
            out[rows] = torch.where(q == -torch.inf, 0.0, q.exp() * (q - p)).sum(-1)
        ctx.save_for_backward(hidden, weight, bias)
        ctx.transform, ctx.reference = transform, reference
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (upstream,) = grads
        hidden, weight, bias = ctx.saved_tensors
        policy, transform = HeadInput(hidden, weight, bias, ctx.transform), ctx.transform
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=upstream.dtype, device=weight.device) if need_weight else None
        d_bias = torch.zeros(weight.shape[0], dtype=upstream.dtype, device=weight.device) if need_bias else None
        for rows in slices(hidden.shape[0], weight.shape[0]):
            p, logits = policy.log_probs(rows)
            slope = (p.exp() - ctx.reference.log_probs(rows)[0].exp()) * (upstream[rows, None] * transform.scale)
            if transform.softcap is not None:
                slope *= 1 - (logits / transform.softcap).square()
            grad = slope.to(weight.dtype)
            if d_bias is not None:
                d_bias += grad.sum(0, dtype=d_bias.dtype)
            if d_hidden is not None:
                torch.mm(grad, weight, out=d_hidden[rows])
            if d_weight is not None:
                add_product(d_weight, grad.t(), hidden[rows])
        cast = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, cast, None if d_bias is None else d_bias.to(bias.dtype), None, None
