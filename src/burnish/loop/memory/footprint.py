"""What a microbatch keeps in memory until its backward pass, and what it computes: the engine itself, run on shapes.

The model stands on torch's meta device, where tensors have shapes and no numbers. Its own forward and backward pass run
there; every tensor that autograd keeps is counted once, and every matrix product. Nothing is estimated from a
family's formula, so any architecture that runs there is counted, adapters and mixtures of experts included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from burnish.config import Run
from burnish.engine import attention, logprob, reward_model, weights
from burnish.engine import model as models
from burnish.engine.engine import Engine
from burnish.engine.model import Policy
from burnish.engine.sharding import blocks
from burnish.errors import ModelError
from burnish.group import EncodedGroup


@dataclass(frozen=True)
class Footprint:
    """Of one microbatch. Bytes, and floating-point operations of matrix products (a product of [m, k] with [k, n] is
    2 m k n)."""

    tokens: int  # input tokens
    kept: int  # bytes that autograd keeps from forward to backward
    layer: int  # the most that one transformer layer keeps of it
    inputs: int  # the layers' inputs alone: what gradient checkpointing keeps
    passing: int  # the largest tensors that come and go: slices of logits, gradients of a layer
    forward: int  # operations of the forward pass
    layers_forward: int  # of them in the transformer layers: what checkpointing does again
    backward: int
    in_layers: int  # bytes of `kept` that transformer layers keep
    slices: int  # bytes of `passing` that are slices of logits, however many tokens

    def activations(self, *, checkpointing: bool) -> int:
        """Bytes at the worst moment of a forward and backward pass, weights and their gradients aside."""
        outside = self.kept - self.in_layers
        return self.passing + (outside + self.inputs + self.layer if checkpointing else self.kept)

    def operations(self, *, checkpointing: bool, passes: int) -> int:
        """Of a training step on this microbatch, with so many forward passes without gradient besides."""
        again = self.layers_forward if checkpointing else 0
        return self.forward * (1 + passes) + self.backward + again

    def in_type(self, times: int) -> Footprint:
        """The same in numbers that are so many times as wide."""
        wider = {name: getattr(self, name) * times for name in ("kept", "layer", "inputs", "in_layers")}
        return replace(self, passing=self.slices + (self.passing - self.slices) * times, **wider)

    def at(self, tokens: int) -> Footprint:
        """The same for another number of tokens in groups of the same kind: all in proportion, but for what passes,
        which has a part that does not depend on them."""
        share = tokens / self.tokens
        scaled = {
            name: round(getattr(self, name) * share)
            for name in ("kept", "layer", "inputs", "in_layers", "forward", "layers_forward", "backward")
        }
        return replace(self, tokens=tokens, passing=self.slices + round((self.passing - self.slices) * share), **scaled)


def footprint(policy: Policy, groups: Sequence[EncodedGroup], *, shared: bool, fused_attention: bool) -> Footprint:
    """Run the engine over one microbatch of these groups. `policy` is weightless and on the meta device;
    `fused_attention`: as on a GPU, where no score matrix is kept.

    Raises ModelError for a family that asks for numbers on its way (some recurrent ones do).
    """
    engine = Engine(policy, 1 << 40, shared=shared)
    (batch,) = engine.plan(groups)
    layers = blocks(policy.decoder, int(policy.base.config.get_text_config().num_hidden_layers))
    reason: Exception | None = None
    for change in [None] if shared else [_whole_mask, _without_mask]:
        keeping, counted = _Keeping(policy, layers, change), FlopCounterMode(display=False)
        try:
            with attention_on_shapes(fused_attention), counted, keeping.hooks():
                output = engine.reward(batch)[0] if policy.scalar else engine.score(batch).logps
                forward = counted.get_total_flops()
                in_layers = keeping.operations(counted)
                output.sum().backward()  # type: ignore[no-untyped-call]
            break
        except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
            reason = error
        finally:
            keeping.done()
            policy.module.zero_grad(set_to_none=True)
    else:
        sentence = str(reason).strip().splitlines()[0] if str(reason) else repr(reason)
        raise ModelError(
            f"{policy.path}: this family cannot be run on shapes alone ({sentence}); burnish cannot plan it"
        ) from reason
    width = policy.base.get_input_embeddings().weight.shape[1]
    size = policy.base.get_input_embeddings().weight.element_size()
    rows = batch.input_ids.numel()
    vocabulary = 1 if policy.scalar else policy.head.weight.shape[0]
    slice_rows = min(len(batch.targets), max(logprob.LEAST_ROWS, logprob.SLICE_ELEMENTS // vocabulary))
    slices = 3 * 4 * slice_rows * vocabulary
    passing = slices + 3 * rows * width * size
    return Footprint(
        rows, keeping.total, max(keeping.by_layer, default=0), len(layers) * rows * width * size, passing, forward,
        in_layers, counted.get_total_flops() - forward, sum(keeping.by_layer), slices,
    )  # fmt: skip


class _Keeping:
    """Counts the storages that autograd keeps, and the operations done, inside and outside the layers."""

    def __init__(self, policy: Policy, layers: Sequence[Any], change: Callable[..., Any] | None) -> None:
        """`change`: of what the decoder is called with."""
        self.total = 0
        self.by_layer = [0] * len(layers)
        self._weights = {p.untyped_storage()._cdata for p in policy.module.parameters()}
        self._seen: dict[int, Tensor] = {}  # holds what it has seen, or an address could be used again
        self._now: int | None = None
        self._layers = layers
        self._handles = [
            handle
            for number, layer in enumerate(layers)
            for handle in (
                layer.register_forward_pre_hook(lambda *_, n=number: self._at(n)),
                layer.register_forward_hook(lambda *_: self._at(None)),
            )
        ]
        if change is not None:
            self._handles.append(policy.decoder.register_forward_pre_hook(change, with_kwargs=True))

    def _at(self, layer: int | None) -> None:
        self._now = layer

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights and storage._cdata not in self._seen:
            self._seen[storage._cdata] = tensor
            size = storage.nbytes()
            self.total += size
            if self._now is not None:
                self.by_layer[self._now] += size
        return tensor

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def operations(self, counted: FlopCounterMode) -> int:
        """So far, in the layers: their modules' names end in their numbers."""
        ends = tuple(f".{number}" for number in range(len(self._layers)))
        kind = type(self._layers[0]).__name__
        table = counted.get_flop_counts()
        named = {name: sum(counts.values()) for name, counts in table.items() if name.endswith(ends)}
        depth = min((name.count(".") for name in named), default=0)
        at_depth = sum(value for name, value in named.items() if name.count(".") == depth)
        return at_depth or sum(sum(counts.values()) for name, counts in table.items() if name.endswith(kind))

    def done(self) -> None:
        for handle in self._handles:
            handle.remove()


def _whole_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """transformers asks whether a mask has gaps, which is a number; a mask that is made, it takes."""
    rows, width = kwargs["attention_mask"].shape
    return args, {**kwargs, "attention_mask": torch.ones(rows, 1, width, width, dtype=torch.bool, device="meta")}


def _without_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """And for families in which nothing attends."""
    return args, {name: value for name, value in kwargs.items() if name != "attention_mask"}


@contextmanager
def attention_on_shapes(fused: bool) -> Iterator[None]:
    """Fused attention as its kernels keep it, also where torch would fall back to a score matrix for want of numbers;
    `fused`: wherever a GPU's kernel would be used."""
    before, tiles = F.scaled_dot_product_attention, attention.PLAIN_TILE_SCORES
    F.scaled_dot_product_attention = _fused  # type: ignore[assignment]
    attention.PLAIN_TILE_SCORES = 0 if fused else tiles
    try:
        yield
    finally:
        F.scaled_dot_product_attention, attention.PLAIN_TILE_SCORES = before, tiles


def _fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    out: Tensor = _Fused.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call]
    return out


class _Fused(torch.autograd.Function):
    """Keeps queries, keys, values, output and one number a row; computes two products forward and five backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        times = query.shape[-3] // key.shape[-3]
        wide = value.repeat_interleave(times, -3)
        out = (query @ key.repeat_interleave(times, -3).mT) @ wide
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32), mask)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, key, value, _, _, _ = ctx.saved_tensors
        times = query.shape[-3] // key.shape[-3]
        wide_key, wide_value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        scores = query @ wide_key.mT
        d_scores = grads[0] @ wide_value.mT
        shape = (*key.shape[:-3], key.shape[-3], times, *key.shape[-2:])
        d_key = (d_scores.mT @ query).reshape(shape).sum(-3)
        d_value = (scores.mT @ grads[0]).reshape((*shape[:-1], value.shape[-1])).sum(-3)
        return d_scores @ wide_key, d_key, d_value, None


def shapes_of(run: Run, *, scalar: bool) -> Policy:
    """The run's model on the meta device, in the types it computes in. Quantised weights stand as plain ones."""
    adapter = run.adapter.model_copy(update={"kind": "lora"}) if run.adapter.kind == "qlora" else run.adapter
    if scalar:
        base = weights.load_base(run.model, quantize=False, scalar=True, place="nowhere")
        reward_model.require_head(base, run.model.path)
        module = base if adapter.kind == "none" else models.add_adapter(base, adapter, scalar=True)
        policy = Policy(module, base, run.model.path, weights.DTYPES[run.model.dtype], "sdpa", scalar=True)
        if run.reward.train == "head":
            reward_model.train_head_only(module)
    else:
        policy = models.load_policy(run.model, adapter, place="nowhere")
    policy.module.to("meta")
    if getattr(policy.base.config.get_text_config(), "num_experts_per_tok", None):
        policy.dtype = torch.bfloat16  # on shapes the experts' grouped product knows no other type
    models.cast_for_compute(policy)
    policy.module.train()
    return policy


def with_shared_prompts(policy: Policy) -> None:
    """Give a model on shapes the attention of the shared layout."""
    attention.register()
    policy.base.set_attn_implementation(attention.NAME)
