"""Hidden states x head -> per-token log-probs in float32, a slice of rows at a time; logits are not kept.

Forward keeps two numbers a row, its log-prob and its log-sum-exp. Backward recomputes a slice's logits, turns them into
`softmax - one_hot` in place, and multiplies. With a frozen head (LoRA) nothing is recomputed: the upstream gradient of
a row is a number g, so `d logp / d h = W[y] - softmax(h W^T) W` is taken in forward and scaled by g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from burnish.tensors import wide_type

SLICE_ELEMENTS = 1 << 23  # logits alive at once: 32 MiB in float32
LEAST_ROWS = 256  # thinner slices spend their time rewriting the head's gradient
KEPT_BYTES = 1 << 26  # below this the raw products are kept for backward: a small head costs more time than memory


@dataclass(frozen=True)
class HeadTransform:
    """What a family does to its logits: `softcap * tanh(scale * (h W^T + b) / softcap)`; mostly nothing."""

    scale: float = 1.0
    softcap: float | None = None


def token_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, " tokens"],
    bias: Float[Tensor, " vocab"] | None = None,
    transform: HeadTransform | None = None,
) -> Float[Tensor, " tokens"]:
    """log softmax(head(hidden))[target] for each row, in nats; float32 (float64 for float64 input)."""
    transform = transform or HeadTransform()
    out: Tensor = _TokenLogProb.apply(hidden, weight, bias, targets, transform)  # type: ignore[no-untyped-call]
    return out


@torch.no_grad()
def log_square_sums(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocab width"],
    bias: Float[Tensor, " vocab"] | None = None,
    transform: HeadTransform | None = None,
) -> Float[Tensor, " tokens"]:
    """log sum_v p(v)^2 of each row, without gradient: the log of what a token sampled from p has on average."""
    out = torch.empty(hidden.shape[0], dtype=wide_type(hidden.dtype), device=hidden.device)
    for rows in slices(hidden.shape[0], weight.shape[0]):
        logits = logits_of(product_of(hidden[rows], weight), bias, transform or HeadTransform())
        out[rows] = (2 * logits).logsumexp(-1) - 2 * logits.logsumexp(-1)
    return out


def product_of(hidden: Tensor, weight: Tensor) -> Tensor:
    """The raw products of a slice: in float32 on CUDA, in the compute type on CPU (which has no wider output)."""
    if hidden.is_cuda and hidden.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    return torch.mm(hidden, weight.t())


def logits_of(product: Tensor, bias: Tensor | None, transform: HeadTransform) -> Tensor:
    """Transformed logits of a slice, a copy in the type that sums are taken in (float32, or float64)."""
    logits = product.to(wide_type(product.dtype), copy=True)
    if bias is not None:
        logits += bias
    if transform.scale != 1.0:
        logits *= transform.scale
    if transform.softcap is not None:
        logits.div_(transform.softcap).tanh_().mul_(transform.softcap)
    return logits


def dlogits(
    logits: Tensor, lse: Tensor, targets: Tensor, transform: HeadTransform, upstream: Tensor, kind: torch.dtype
) -> Tensor:
    """upstream x d logp / d raw logits = upstream x (one_hot - softmax) x the transform's slope, in `kind`; `logits` is
    used up. The target's entry is taken in float32: 1 - p would cancel in bfloat16."""
    slope = None
    if transform.softcap is not None:
        slope = 1 - (logits / transform.softcap).square()
    p = logits.sub_(lse[:, None]).exp_()
    column = targets[:, None]
    at_target = 1 - p.gather(1, column)
    if slope is not None:
        p *= slope
        at_target *= slope.gather(1, column)
    factor = (upstream * transform.scale)[:, None]
    grad = p.mul_(-factor).to(kind)
    return grad.scatter_(1, column, (factor * at_target).to(kind))


class _TokenLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, transform: HeadTransform
    ) -> Tensor:
        out = torch.empty(hidden.shape[0], dtype=wide_type(hidden.dtype), device=hidden.device)
        lse = torch.empty_like(out)
        head_trains = weight.requires_grad or (bias is not None and bias.requires_grad)
        shortcut = hidden.requires_grad and not head_trains
        jacobian = torch.empty_like(hidden) if shortcut else None
        small = hidden.shape[0] * weight.shape[0] * hidden.element_size() <= KEPT_BYTES
        keep = small and any(ctx.needs_input_grad[:3]) and head_trains
        products: list[Tensor] = []
        for rows in slices(hidden.shape[0], weight.shape[0]):
            product = product_of(hidden[rows], weight)
            if keep:
                products.append(product)
            logits = logits_of(product, bias, transform)
            column = targets[rows, None]
            out[rows] = torch.log_softmax(logits, dim=-1).gather(1, column)[:, 0]  # a single pass; logsumexp makes four
            lse[rows] = logits.gather(1, column)[:, 0] - out[rows]
            if jacobian is not None:
                ones = torch.ones_like(lse[rows])
                grad = dlogits(logits, lse[rows], targets[rows], transform, ones, weight.dtype)
                torch.mm(grad, weight, out=jacobian[rows])
        ctx.transform, ctx.shortcut = transform, shortcut
        ctx.save_for_backward(jacobian if shortcut else hidden, weight, bias, targets, lse, *products)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (upstream,) = grads
        hidden, weight, bias, targets, lse, *products = ctx.saved_tensors
        if ctx.shortcut:
            return (hidden * upstream[:, None].to(hidden.dtype)), None, None, None, None
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        # float32 accumulation over slices: a bfloat16 sum would lose the small slices
        d_weight = torch.zeros(weight.shape, dtype=lse.dtype, device=weight.device) if need_weight else None
        d_bias = torch.zeros(weight.shape[0], dtype=lse.dtype, device=weight.device) if need_bias else None
        for number, rows in enumerate(slices(hidden.shape[0], weight.shape[0])):
            product = products[number] if products else product_of(hidden[rows], weight)
            logits = logits_of(product, bias, ctx.transform)
            grad = dlogits(logits, lse[rows], targets[rows], ctx.transform, upstream[rows], weight.dtype)
            if d_bias is not None:
                d_bias += grad.sum(0, dtype=d_bias.dtype)
            if d_hidden is not None:
                torch.mm(grad, weight, out=d_hidden[rows])
            if d_weight is not None:
                add_product(d_weight, grad.t(), hidden[rows])
        cast = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, cast, None if d_bias is None else d_bias.to(bias.dtype), None, None


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right` without a second full-size temporary where the types allow it."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right)


def slices(rows: int, vocab: int) -> list[slice]:
    step = max(LEAST_ROWS, SLICE_ELEMENTS // vocab)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
