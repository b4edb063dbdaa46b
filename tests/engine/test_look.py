"""One product with each head: log-probs, exact KL and entropy, against the textbook; and what the KL is a mean of."""

from __future__ import annotations

import pytest
import torch

from burnish.engine.divergence import HeadInput, expected, look
from burnish.engine.logprob import HeadTransform


def heads(dtype: torch.dtype, softcap: float | None = None) -> tuple[HeadInput, HeadInput, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 6, generator=draw, dtype=torch.float64).to(dtype)
    weights = [torch.randn(40, 6, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2)]
    transform = HeadTransform(0.7, softcap)
    one, other = (HeadInput(hidden, weight, None, transform) for weight in weights)
    return one, other, torch.randint(0, 40, (7,), generator=draw)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_look_is_the_textbook(dtype: torch.dtype, softcap: float | None) -> None:
    policy, reference, targets = heads(dtype, softcap)
    found = look(policy, reference, targets)
    logits = []
    for head in (policy, reference):
        raw = 0.7 * (head.hidden.double() @ head.weight.double().t())
        logits.append((raw if softcap is None else softcap * (raw / softcap).tanh()).log_softmax(-1))
    p, q = logits
    exact = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    at = torch.arange(7)
    assert found.reference is not None and found.kl is not None
    torch.testing.assert_close(found.policy.double(), p[at, targets], **exact)
    torch.testing.assert_close(found.reference.double(), q[at, targets], **exact)
    torch.testing.assert_close(found.kl.double(), (p.exp() * (p - q)).sum(-1), **exact)
    torch.testing.assert_close(found.entropy.double(), -(p.exp() * p).sum(-1), **exact)
    alone = look(policy, None, targets)
    assert alone.kl is None and alone.reference is None and torch.equal(alone.policy, found.policy)


def test_the_same_head_has_no_divergence() -> None:
    policy, _, targets = heads(torch.float32)
    found = look(policy, policy, targets)
    assert found.kl is not None and bool((found.kl == 0).all())


def test_what_has_no_mass_adds_nothing() -> None:
    mass = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    values = torch.tensor([[1.0, 3.0, -torch.inf], [2.0, -torch.inf, 7.0]])
    assert expected(mass, values).tolist() == [2.0, 2.0]
