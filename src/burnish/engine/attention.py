"""Attention where K branches share a prompt in a flat row: who attends to whom, and the kernels that compute it.

A token sees its past: prompt tokens see the prompt so far, branch tokens see the whole prompt and their branch so far.
Nothing sees another branch or another group. The rule is cut into *tiles* (some query rows against some key
rows under one mask), and a kernel runs the tiles:

* plain    matrix products with a hand-written backward; the fastest on CPU at short lengths, and the only one that
           knows logit soft-capping (Gemma 2) and attention sinks (gpt-oss)
* sdpa     torch's fused attention per tile; for long tiles, whose score matrix should not be stored
* varlen   CUDA's variable-length flash attention, one call, with each branch's keys gathered as [prompt; branch]

The layout reaches the kernel as a keyword argument of the model call, so that gradient checkpointing's recomputation
sees the layout it was called with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.errors import ModelError
from burnish.tensors import GroupSpans, PackedBatch, Span, wide, wide_type

NAME = "burnish_shared_prefix"  # holds none of the substrings transformers dispatches on
KEYWORD = "shared_layout"
WHOLE_GROUP_ROWS = 512  # groups up to this many rows run as a single masked tile: one call costs less than many
PLAIN_TILE_SCORES = 1 << 20  # per head; larger tiles use sdpa and keep no score matrix


@dataclass(frozen=True)
class Tile:
    """The query rows `rows` against the key rows of `keys`, concatenated in order."""

    rows: Span
    keys: tuple[Span, ...]

    @property
    def scores(self) -> int:
        return self.rows.length * sum(span.length for span in self.keys)


@dataclass
class Layout:
    """The tiles of one microbatch and their masks, shared by all layers; `calls` is counted for the canary."""

    spans: tuple[GroupSpans, ...]
    positions: Tensor  # [T]
    segments: Tensor  # [T]: 0 where the row is its group's prompt, else 1 + the branch's number in the microbatch
    keep: Tensor | None = None  # rows the last layer's feed-forward part is asked for; None: all
    calls: int = 0
    windows: set[int | None] = field(default_factory=set)  # the sliding windows that layers asked for
    masks: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict)
    gathers: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(batch: PackedBatch) -> Layout:
        segments = torch.zeros(batch.input_ids.shape[1], dtype=torch.long, device=batch.input_ids.device)
        number = 0
        for group in batch.spans:
            for branch in group.branches:
                number += 1
                segments[branch.start : branch.stop] = number
        return Layout(batch.spans, batch.position_ids[0], segments)

    def see(self, key: Tensor, value: Tensor) -> None:
        """Take a layer's keys and values [key heads, T, width]: nothing in training, and kept by a sampler's layout."""

    def tiles(self) -> Iterator[Tile]:
        for group in self.spans:
            rows = Span(group.start, group.stop - group.start)
            if rows.length <= WHOLE_GROUP_ROWS and rows.length**2 <= 2 * _needed_scores(group):
                yield Tile(rows, (rows,))
                continue
            if group.prompt.length:
                yield Tile(group.prompt, (group.prompt,))
            for branch in group.branches:
                if branch.length:
                    yield Tile(branch, (group.prompt, branch))

    def bias(self, tile: Tile, window: int | None) -> Tensor:
        """float32 [rows, keys], 0 where attended and -inf elsewhere; cached for the other layers. (On CPU adding it is
        four times faster than filling by a boolean mask.)"""
        key = (tile.rows.start, tile.keys[0].start, window)
        if key not in self.masks:
            rows = slice(tile.rows.start, tile.rows.stop)
            where, who = self.positions[rows, None], self.segments[rows, None]
            at, whose = (torch.cat([x[k.start : k.stop] for k in tile.keys]) for x in (self.positions, self.segments))
            visible = (where >= at) & ((who == whose) | (whose == 0))
            if window is not None:
                visible &= where - at < window
            self.masks[key] = torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, float("-inf"))
        return self.masks[key]


@runtime_checkable
class DecodeStep(Protocol):
    """What takes a layout's place while answers are sampled: each row is the newest token of an answer, whose past the
    sampler keeps.

    `attend(q [H, B, D], k [H_kv, B, D], v, scale, window, softcap, sinks)` gives [B, H, D_v].
    """

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor: ...  # fmt: skip


def _needed_scores(group: GroupSpans) -> int:
    return group.prompt.length**2 + sum(b.length * (group.prompt.length + b.length) for b in group.branches)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    shared_layout: Layout | DecodeStep | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function registered with transformers: query [1, H, T, D], key and value [1, H_kv, T, D] -> [1, T, H, D_v].

    Raises ModelError if the layer did not pass the layout on, or asks for dropout inside attention.
    """
    if shared_layout is None:
        raise ModelError(f"{type(module).__name__} does not pass keyword arguments on to its attention")
    if dropout:
        raise ModelError("attention dropout is not supported in the shared-prompt layout; set it to 0")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = query[0], key[0], value[0]
    if not isinstance(shared_layout, Layout):
        return shared_layout.attend(q, k, v, scale, sliding_window, softcap, s_aux)[None], None
    shared_layout.calls += 1
    shared_layout.windows.add(sliding_window)
    shared_layout.see(k, v)
    plain_only = softcap is not None or s_aux is not None
    if q.is_cuda and not plain_only and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] == v.shape[-1]:
        out = _varlen(q, k, v, shared_layout, scale, sliding_window)
    elif plain_only or all(tile.scores <= PLAIN_TILE_SCORES for tile in shared_layout.tiles()):
        plan = _PlainPlan(shared_layout, scale, sliding_window, softcap)
        out = _Plain.apply(q, k, v, s_aux, plan)  # type: ignore[no-untyped-call]
    else:
        out = _sdpa(q, k, v, shared_layout, scale, sliding_window)
    return out[None], None


# ---------------------------------------------------------------------------------------------------------- plain


@dataclass(frozen=True)
class _PlainPlan:
    layout: Layout
    scale: float
    window: int | None
    softcap: float | None


def _rows_of(x: Tensor, spans: tuple[Span, ...]) -> Tensor:
    """[heads, rows, D] of some spans, contiguous."""
    if len(spans) == 1:
        return x[:, spans[0].start : spans[0].stop].contiguous()
    return torch.cat([x[:, span.start : span.stop] for span in spans], dim=1)


def _probabilities(
    q: Tensor, k: Tensor, bias: Tensor, plan: _PlainPlan, sinks: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """softmax of one tile in the wide type, plus the sink's share and the soft-cap's slope where they exist.

    q [H_kv, G * n, D], already scaled (the G query heads of a key head stacked), k [H_kv, m, D] -> [H, n, m]. On CPU
    torch's softmax takes half the time in float32 that it takes in bfloat16, casts included.
    """
    rows, keys = bias.shape
    scores = wide(torch.bmm(q, k.transpose(1, 2)).view(-1, rows, keys))
    slope = None
    if plan.softcap is not None:
        scores = scores.div_(plan.softcap).tanh_()
        slope = 1 - scores.square()
        scores = scores.mul_(plan.softcap)
    scores.add_(bias)
    if sinks is None:
        return torch.softmax(scores, dim=-1), None, slope
    column = sinks.to(scores.dtype)[:, None, None].expand(-1, rows, 1)
    whole = torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)
    return whole[..., :-1], whole[..., -1], slope


class _Plain(torch.autograd.Function):
    """Attention by matrix products, tile by tile; keeps each tile's probabilities in the compute type."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, plan: _PlainPlan) -> Tensor:
        heads, total, _ = q.shape
        out = torch.zeros(total, heads, v.shape[-1], dtype=v.dtype, device=v.device)
        kept: list[Tensor | None] = []
        training = any(ctx.needs_input_grad[:4])
        for tile in plan.layout.tiles():
            qt, kt, vt = _rows_of(q, (tile.rows,)), _rows_of(k, tile.keys), _rows_of(v, tile.keys)
            stacked = (qt * plan.scale).view(k.shape[0], -1, q.shape[-1])
            probabilities, sink, slope = _probabilities(stacked, kt, plan.layout.bias(tile, plan.window), plan, sinks)
            p = probabilities.to(v.dtype)
            result = torch.bmm(p.view(k.shape[0], -1, p.shape[-1]), vt)
            out[tile.rows.start : tile.rows.stop] = result.view(heads, tile.rows.length, -1).transpose(0, 1)
            if training:
                kept += [p, sink, slope]
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, sinks, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, sinks, *kept = ctx.saved_tensors
        plan: _PlainPlan = ctx.plan
        d_out = grads[0]
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_sinks = None if sinks is None else torch.zeros(sinks.shape, dtype=wide_type(q.dtype), device=q.device)
        kv_heads = k.shape[0]
        for number, tile in enumerate(plan.layout.tiles()):
            p, sink, slope = kept[3 * number : 3 * number + 3]
            qt = (_rows_of(q, (tile.rows,)) * plan.scale).view(kv_heads, -1, q.shape[-1])
            kt, vt = _rows_of(k, tile.keys), _rows_of(v, tile.keys)
            dt = d_out[tile.rows.start : tile.rows.stop].transpose(0, 1).contiguous().view(kv_heads, -1, v.shape[-1])
            stacked = p.view(kv_heads, -1, p.shape[-1])
            _add_rows(d_v, tile.keys, torch.bmm(stacked.transpose(1, 2), dt))
            d_p = torch.bmm(dt, vt.transpose(1, 2)).view(p.shape)
            if d_sinks is not None:
                d_sinks -= (sink * (p.to(d_sinks.dtype) * d_p).sum(-1)).sum(-1)
            d_s = torch._softmax_backward_data(d_p, p, -1, p.dtype)  # p (d_p - sum p d_p); a sink's share has no d_p
            if slope is not None:
                d_s = d_s * slope
            d_s = d_s.to(q.dtype).view(kv_heads, -1, p.shape[-1])
            d_q[:, tile.rows.start : tile.rows.stop] += plan.scale * torch.bmm(d_s, kt).view(
                q.shape[0], -1, q.shape[-1]
            )
            _add_rows(d_k, tile.keys, torch.bmm(d_s.transpose(1, 2), qt))
        return d_q, d_k, d_v, None if d_sinks is None else d_sinks.to(sinks.dtype), None


def _add_rows(total: Tensor, spans: tuple[Span, ...], values: Tensor) -> None:
    at = 0
    for span in spans:
        total[:, span.start : span.stop] += values[:, at : at + span.length]
        at += span.length


# ----------------------------------------------------------------------------------------------------------- sdpa


def _sdpa(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None) -> Tensor:
    pieces = []
    for tile in layout.tiles():
        keys, values = (torch.cat([x[:, s.start : s.stop] for s in tile.keys], dim=1) for x in (k, v))
        piece = F.scaled_dot_product_attention(
            q[None, :, tile.rows.start : tile.rows.stop],
            keys[None],
            values[None],
            attn_mask=layout.bias(tile, window) == 0,
            scale=scale,
            enable_gqa=q.shape[0] != k.shape[0],
        )
        pieces.append(piece[0].transpose(0, 1))
    return torch.cat(pieces)


# --------------------------------------------------------------------------------------------------------- varlen


@dataclass(frozen=True)
class Gather:
    """Keys of every segment laid end to end, and where each segment's queries and keys begin."""

    keys: Tensor  # [sum of m] row numbers
    query_starts: Tensor  # int32 [segments + 1]
    key_starts: Tensor
    longest_query: int
    longest_key: int


def gather_keys(layout: Layout) -> Gather:
    """Segments in row order: each prompt sees itself, each branch sees [prompt; itself], causal at the bottom right."""
    keys: list[int] = []
    queries, key_starts = [0], [0]
    longest = [0, 0]
    for group in layout.spans:
        for segment, before in [(group.prompt, 0), *((branch, group.prompt.length) for branch in group.branches)]:
            if segment.length:
                keys += range(group.prompt.start, group.prompt.start + before)
                keys += range(segment.start, segment.stop)
                queries.append(queries[-1] + segment.length)
                key_starts.append(len(keys))
                longest = [max(longest[0], segment.length), max(longest[1], before + segment.length)]
    device = layout.positions.device
    starts = [torch.tensor(x, dtype=torch.int32, device=device) for x in (queries, key_starts)]
    return Gather(torch.tensor(keys, device=device), starts[0], starts[1], longest[0], longest[1])


def _varlen(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if "varlen" not in layout.gathers:
        layout.gathers["varlen"] = gather_keys(layout)
    plan: Gather = layout.gathers["varlen"]
    by_row = [x.transpose(0, 1) for x in (q, k, v)]
    options: dict[str, Any] = {"scale": scale, "window_size": (window - 1 if window else -1, 0)}
    if q.shape[0] != k.shape[0] and "enable_gqa" in inspect.signature(varlen_attn).parameters:
        options["enable_gqa"] = True  # torch >= 2.12 asks for it by name; 2.11 just accepts fewer key heads
    out = varlen_attn(
        by_row[0].contiguous(),
        by_row[1].index_select(0, plan.keys),
        by_row[2].index_select(0, plan.keys),
        plan.query_starts,
        plan.key_starts,
        plan.longest_query,
        plan.longest_key,
        **options,
    )
    assert isinstance(out, Tensor)
    return out


def register() -> None:
    """Make the kernel known to transformers under `NAME`. No mask function is registered: no mask is then built."""
    from transformers import AttentionInterface

    interface: Callable[[str, Any], None] = AttentionInterface.register
    interface(NAME, attend)
