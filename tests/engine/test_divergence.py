"""The KL over the vocabulary and log sum p^2 from the head, against their formulas on whole logits (float64)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from burnish.engine import logprob
from burnish.engine.divergence import HeadInput, kl_from_reference
from burnish.engine.logprob import HeadTransform, log_square_sums

TRANSFORMS = [HeadTransform(), HeadTransform(scale=0.3), HeadTransform(scale=2.0, softcap=3.0)]


def head(seed: int, transform: HeadTransform, bias: bool = True) -> HeadInput:
    draw = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(n, 8, generator=draw, dtype=torch.float64) for n in (13, 31))
    offset = torch.randn(31, generator=draw, dtype=torch.float64) if bias else None
    return HeadInput(hidden, weight, offset, transform)


def whole(given: HeadInput) -> Tensor:
    """log-softmax of `softcap tanh(scale (h W^T + b) / softcap)`, every logit at once."""
    logits = given.hidden @ given.weight.t()
    logits = given.transform.scale * (logits if given.bias is None else logits + given.bias)
    if given.transform.softcap:
        logits = given.transform.softcap * torch.tanh(logits / given.transform.softcap)
    return logits.log_softmax(-1)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("sliced", [False, True])
def test_kl_and_its_gradient(transform: HeadTransform, sliced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if sliced:
        monkeypatch.setattr(logprob, "LEAST_ROWS", 3)
        monkeypatch.setattr(logprob, "SLICE_ELEMENTS", 1)
    policy, reference = head(0, transform), head(1, transform)
    leaves = [x.requires_grad_(True) for x in (policy.hidden, policy.weight, policy.bias) if x is not None]
    upstream = torch.linspace(-1, 2, 13, dtype=torch.float64)
    q, p = whole(reference), whole(policy)
    expected = (q.exp() * (q - p)).sum(-1)
    theirs = torch.autograd.grad(expected @ upstream, leaves)
    found = kl_from_reference(policy, reference)
    ours = torch.autograd.grad(found @ upstream, leaves)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_kl_is_zero_where_both_are_one_and_reaches_only_the_policy() -> None:
    policy = head(0, HeadTransform())
    policy.hidden.requires_grad_(True)
    reference = HeadInput(policy.hidden.detach(), policy.weight, policy.bias, policy.transform)
    found = kl_from_reference(policy, reference)
    assert torch.equal(found, torch.zeros_like(found))
    found.sum().backward()
    assert policy.hidden.grad is not None and float(policy.hidden.grad.abs().max()) < 1e-15
    moving = HeadInput(
        head(1, HeadTransform()).hidden.requires_grad_(True), policy.weight, policy.bias, policy.transform
    )
    kl_from_reference(policy, moving).sum().backward()
    assert moving.hidden.grad is None


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_log_square_sums(transform: HeadTransform) -> None:
    given = head(2, transform, bias=False)
    found = log_square_sums(given.hidden, given.weight, given.bias, given.transform)
    torch.testing.assert_close(found, whole(given).exp().square().sum(-1).log(), rtol=1e-12, atol=0)
