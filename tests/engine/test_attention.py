"""The shared-prefix kernels against dense masked attention, one completion at a time; and the keys varlen gathers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from burnish.engine import attention
from burnish.engine.attention import Layout, attend, gather_keys
from burnish.engine.pack import pack
from burnish.errors import ModelError
from burnish.group import EncodedGroup, Unjudged

SHAPES = [((5,), ((3, 2),)), ((7, 1), ((4, 1, 6), (2,))), ((1, 9), ((2, 2, 2, 2, 2, 2, 5), (8, 3)))]


def layout_of(prompts: tuple[int, ...], branches: tuple[tuple[int, ...], ...]) -> Layout:
    groups = [
        EncodedGroup(str(i), (0,) * p, tuple((0,) * n for n in c), (True,) * len(c), Unjudged())
        for i, (p, c) in enumerate(zip(prompts, branches, strict=True))
    ]
    (batch,) = pack(groups, 10_000, shared=True)
    return Layout.of(batch)


def dense(q: Any, k: Any, v: Any, layout: Layout, window: int | None, softcap: float | None, sinks: Any) -> Any:
    """Every branch alone with its prompt, ordinary causal attention; rows put back where they stand."""
    heads, total, _ = q.shape
    k, v = (x.repeat_interleave(heads // x.shape[0], dim=0) for x in (k, v))
    out = torch.zeros(total, heads, v.shape[-1], dtype=q.dtype)
    for group in layout.spans:
        for branch in group.branches:
            rows = [*range(group.prompt.start, group.prompt.stop), *range(branch.start, branch.stop)]
            n = len(rows)
            s = q[:, rows] @ k[:, rows].transpose(1, 2) / math.sqrt(q.shape[-1])
            s = s if softcap is None else softcap * torch.tanh(s / softcap)
            distance = torch.arange(n)[:, None] - torch.arange(n)[None]
            s = s.masked_fill((distance < 0) | (distance >= (window or n)), float("-inf"))
            if sinks is not None:
                s = torch.cat([s, sinks[:, None, None].expand(-1, n, 1)], dim=-1)
            p = s.softmax(-1)[..., :n]
            values = (p @ v[:, rows]).transpose(0, 1)
            out = out.index_copy(0, torch.tensor(rows), values)
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("softcap", "sinks"), [(None, False), (2.0, False), (None, True)])
@pytest.mark.parametrize("kernel", ["whole group", "decomposed", "sdpa"])
def test_kernels_equal_dense_attention(
    monkeypatch: pytest.MonkeyPatch, shape: Any, window: int | None, softcap: float | None, sinks: bool, kernel: str
) -> None:
    if kernel != "whole group":
        monkeypatch.setattr(attention, "WHOLE_GROUP_ROWS", 0)
    if kernel == "sdpa":
        monkeypatch.setattr(attention, "PLAIN_TILE_SCORES", 0)
    layout = layout_of(*shape)
    total = len(layout.positions)
    torch.manual_seed(0)
    inputs = [torch.randn(h, total, d, dtype=torch.float64) for h, d in ((4, 6), (2, 6), (2, 5))]
    inputs += [torch.randn(4, dtype=torch.float64)] if sinks else []
    weight = torch.randn(total, 4, 5, dtype=torch.float64)
    results = []
    for which in ("ours", "dense"):
        q, k, v, *rest = [x.clone().requires_grad_() for x in inputs]
        sink = rest[0] if rest else None
        if which == "ours":
            out = attend(
                torch.nn.Identity(), q[None], k[None], v[None], None,
                sliding_window=window, softcap=softcap, s_aux=sink, shared_layout=layout,
            )[0][0]  # fmt: skip
        else:
            out = dense(q, k, v, layout, window, softcap, sink)
        (out * weight).sum().backward()
        results.append([out.detach(), *(x.grad for x in (q, k, v, *rest))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_varlen_gather_is_the_same_attention(shape: Any) -> None:
    """What varlen attention is defined to do (causal at the bottom right of each segment), on the gathered keys."""
    layout = layout_of(*shape)
    plan = gather_keys(layout)
    total = len(layout.positions)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, total, 4, dtype=torch.float64) for _ in range(3))
    out = torch.zeros(total, 2, 4, dtype=torch.float64)
    for i in range(len(plan.query_starts) - 1):
        rows = slice(int(plan.query_starts[i]), int(plan.query_starts[i + 1]))
        keys = plan.keys[int(plan.key_starts[i]) : int(plan.key_starts[i + 1])]
        n, m = rows.stop - rows.start, len(keys)
        assert n <= plan.longest_query and m <= plan.longest_key
        scores = q[:, rows] @ k[:, keys].transpose(1, 2) / 2.0
        scores = scores.masked_fill(torch.ones(n, m).tril(m - n) == 0, float("-inf"))
        out[rows] = (scores.softmax(-1) @ v[:, keys]).transpose(0, 1)
    torch.testing.assert_close(out, dense(q, k, v, layout, None, None, None))


def test_a_layer_that_drops_the_layout_is_refused() -> None:
    x = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ModelError, match="does not pass keyword arguments on"):
        attend(torch.nn.Identity(), x, x, x, None)
