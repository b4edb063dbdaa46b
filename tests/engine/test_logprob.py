"""The fused head equals log-softmax of the full logits: values, gradients, every transform, trained or frozen head."""

from __future__ import annotations

import pytest
import torch

from burnish.engine import logprob
from burnish.engine.logprob import HeadTransform, token_logprobs

TRANSFORMS = [HeadTransform(), HeadTransform(scale=0.25), HeadTransform(softcap=3.0), HeadTransform(0.5, 2.0)]


def plain(h: torch.Tensor, w: torch.Tensor, y: torch.Tensor, b: torch.Tensor | None, t: HeadTransform) -> torch.Tensor:
    logits = h @ w.t()
    if b is not None:
        logits = logits + b
    logits = logits * t.scale
    if t.softcap is not None:
        logits = t.softcap * torch.tanh(logits / t.softcap)
    return logits.log_softmax(-1).gather(1, y[:, None])[:, 0]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kept", [0, 1 << 26])
def test_equals_plain_log_softmax(
    monkeypatch: pytest.MonkeyPatch, transform: HeadTransform, bias: bool, frozen: bool, kept: int
) -> None:
    monkeypatch.setattr(logprob, "KEPT_BYTES", kept)
    monkeypatch.setattr(logprob, "LEAST_ROWS", 1)
    monkeypatch.setattr(logprob, "SLICE_ELEMENTS", 23 * 4)  # several slices, the last one short
    torch.manual_seed(0)
    tensors = [torch.randn(11, 7, dtype=torch.float64), torch.randn(23, 7, dtype=torch.float64)]
    tensors += [torch.randn(23, dtype=torch.float64)] if bias else []
    y, g = torch.randint(0, 23, (11,)), torch.randn(11, dtype=torch.float64)
    results = []
    for function in (token_logprobs, plain):
        h, w, *rest = [x.clone().requires_grad_(not frozen or x is tensors[0]) for x in tensors]
        b = rest[0] if rest else None
        out = function(h, w, y, b, transform)
        (out * g).sum().backward()
        results.append([out.detach(), h.grad, w.grad, None if b is None else b.grad])
    for ours, theirs in zip(*results, strict=True):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    torch.manual_seed(1)
    h = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(6, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 5, 2, 2])
    assert torch.autograd.gradcheck(lambda *x: token_logprobs(x[0], x[1], y, x[2], HeadTransform(0.7, 2.5)), (h, w, b))


def test_bfloat16_input_gives_float32_output_close_to_exact() -> None:
    torch.manual_seed(2)
    h, w = torch.randn(64, 32).bfloat16(), (0.2 * torch.randn(500, 32)).bfloat16()
    y = torch.randint(0, 500, (64,))
    out = token_logprobs(h, w, y)
    assert out.dtype == torch.float32
    exact = plain(h.double(), w.double(), y, None, HeadTransform())
    # The product is rounded to bfloat16 once (relative 2^-9 of logits up to about 5); the softmax is float32.
    assert (out.double() - exact).abs().max() < 0.03


def test_no_completion_tokens_give_no_log_probs() -> None:
    out = token_logprobs(torch.randn(0, 4, requires_grad=True), torch.randn(9, 4), torch.zeros(0, dtype=torch.long))
    assert out.shape == (0,)
