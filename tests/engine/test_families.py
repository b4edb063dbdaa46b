"""Packed, shared-prompt log-probs and gradients equal plain per-sequence forwards, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from burnish.engine import attention, canary
from burnish.engine.engine import Engine
from tests.engine.forwards import engine_result, plain_result, policy_of
from tests.zoo import NOT_SHARING, SHARING, tiny

PRUNED = {"llama", "llama_tied", "qwen2", "qwen3", "mistral", "smollm3"}  # their last layer drops unread rows


@pytest.mark.parametrize("family", SHARING)
@pytest.mark.parametrize("budget", [10_000, 30])
def test_shared_layout_equals_plain_forwards(family: str, budget: int) -> None:
    policy = policy_of(family)
    verdict = canary.decide(policy, "auto")
    assert verdict.shared, verdict.line
    expected, expected_gradient = plain_result(policy)
    logps, grad = engine_result(Engine(policy, budget, shared=True, pruned=verdict.pruned))
    assert verdict.pruned or family not in PRUNED
    torch.testing.assert_close(logps, expected, rtol=1e-5, atol=2e-5)
    assert (grad - expected_gradient).abs().max() <= 2e-5 * expected_gradient.abs().max()


@pytest.mark.parametrize("family", NOT_SHARING)
def test_models_that_cannot_share_are_caught_and_fall_back(family: str) -> None:
    policy = policy_of(family)
    verdict = canary.decide(policy, "auto")
    assert not verdict.shared
    expected, expected_gradient = plain_result(policy)
    engine = Engine(policy, 10_000, shared=False, plain_head=verdict.plain_head)
    logps, grad = engine_result(engine)
    torch.testing.assert_close(logps, expected, rtol=1e-4, atol=5e-5)
    assert (grad - expected_gradient).abs().max() <= 5e-5 * expected_gradient.abs().max()


def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' RMSNorms and rotary tables compute in float32 whatever the model's type; here they must not."""
    original = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.dtype == torch.float64 and args[:1] == (torch.float32,):
            return self
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(
        torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else original(self, torch.float32)
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3"])
def test_float64_is_exact(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_float64(monkeypatch)
    policy = policy_of(family, torch.float64)
    attention.register()
    expected, expected_gradient = plain_result(policy)
    policy.base.set_attn_implementation(attention.NAME)
    for budget in (10_000, 40, 1):
        logps, grad = engine_result(Engine(policy, budget, shared=True))
        torch.testing.assert_close(logps, expected, rtol=1e-10, atol=1e-10)
        assert (grad - expected_gradient).abs().max() <= 1e-10 * expected_gradient.abs().max()


def test_the_user_may_force_the_layout_but_not_a_leak() -> None:
    from burnish.errors import ModelError

    assert not canary.decide(policy_of("llama"), "padded").shared
    with pytest.raises(ModelError, match="cannot share prompts"):
        canary.decide(policy_of("mamba"), "shared")


@pytest.mark.parametrize("shared", [True, False])
def test_padding_and_its_content_change_nothing(shared: bool) -> None:
    policy = policy_of("llama")
    canary.decide(policy, "auto" if shared else "padded")
    plain = engine_result(Engine(policy, 10_000, shared=shared, pad_id=0))
    poisoned = engine_result(Engine(policy, 10_000, shared=shared, pad_id=77))
    for ours, theirs in zip(plain, poisoned, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_noise_is_silenced_by_whatever_name_it_has() -> None:
    from burnish.engine.model import silence_dropout

    for family in ("mixtral", "bloom", "falcon", "gpt2"):
        module = tiny(family)
        for part in module.modules():
            for name in ("hidden_dropout", "attention_dropout", "router_jitter_noise", "jitter_noise"):
                if isinstance(getattr(part, name, None), float):
                    setattr(part, name, 0.3)
        silence_dropout(module)
        ids = torch.arange(3, 15)[None]
        with torch.no_grad():
            quiet, training = module.eval()(ids).logits, module.train()(ids).logits
        assert torch.equal(quiet, training), family
