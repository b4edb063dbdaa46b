"""The fused RMSNorm is transformers', in values and gradients; families that norm otherwise keep their own."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from burnish.engine.norms import _RMSNorm, fuse
from tests.zoo import tiny


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_values_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    results = []
    rows, grad = torch.randn(2, 5, 16).to(dtype), torch.randn(2, 5, 16).to(dtype)
    start = torch.rand(16) + 0.5
    for fused in (False, True):
        norm = LlamaRMSNorm(16)
        norm.weight.data = start.clone()
        assert not fused or fuse(norm) == 1
        norm.to(dtype)
        x = rows.clone().requires_grad_()
        out = norm(x)
        out.backward(grad)
        results.append((out.detach(), x.grad, norm.weight.grad))
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert torch.equal(results[0][0], results[1][0]) or dtype == torch.float32


def test_gradcheck() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *v: _RMSNorm.apply(*v, 1e-6), (x, weight))


def test_other_norms_are_told_apart() -> None:
    assert fuse(Gemma2RMSNorm(8)) == 0  # 1 + w
    assert fuse(tiny("gpt2")) == 0
    llama = tiny("llama")
    before = {name: p.clone() for name, p in llama.named_parameters()}
    assert fuse(llama) == 5
    assert all(torch.equal(before[name], p) for name, p in llama.named_parameters())
