"""Packed, shared-prompt log-probs and gradients equal plain per-sequence forwards, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from burnish.engine import attention, canary
from burnish.engine.engine import Engine
from burnish.engine.model import Policy
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup, Unjudged
from burnish.tensors import PackedBatch
from tests.zoo import NOT_SHARING, SHARING, tiny

VOCABULARY = 120
PRUNED = {"llama", "llama_tied", "qwen2", "qwen3", "mistral", "smollm3"}  # their last layer drops unread rows


def policy_of(family: str, dtype: torch.dtype = torch.float32) -> Policy:
    module = tiny(family, dtype, VOCABULARY)
    return Policy(module, module, family, dtype, module.config._attn_implementation)


def groups() -> list[EncodedGroup]:
    """K = 1, 2 and 7; a one-token prompt; one-token answers; answers that share a first token; longer than windows."""
    draw = torch.Generator().manual_seed(3)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (n,), generator=draw).tolist())

    shape = [(11, (9,)), (14, (8, 5)), (1, (3, 1)), (6, (1, 2, 3, 4, 5, 6, 12))]
    made = []
    for i, (prompt, lengths) in enumerate(shape):
        first = ids(1)
        made.append(
            EncodedGroup(
                str(i), ids(prompt), tuple(first + ids(n - 1) for n in lengths), (True,) * len(lengths), Unjudged()
            )
        )
    return made


def engine_result(engine: Engine, coefficient: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """All log-probs in order, and the gradient of a weighted sum that tells tokens apart."""

    def forward_backward(batch: PackedBatch) -> tuple[torch.Tensor, ...]:
        logps = engine.score(batch).logps
        (logps * torch.cos(coefficient * batch.targets.to(logps))).sum().backward()
        return batch.split(logps.detach())

    pieces = [piece for rows in by_completion(engine, groups(), forward_backward) for piece in rows]
    return torch.cat(pieces), gradient(engine.policy.module)


def plain_result(policy: Policy, coefficient: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle: every prompt + completion alone, the model's own forward and its own logits."""
    out = []
    with policy.stock():
        for group in groups():
            for completion in group.completion_ids:
                ids = torch.tensor([[*group.prompt_ids, *completion]])
                logits = policy.module(input_ids=ids, use_cache=False).logits[0, len(group.prompt_ids) - 1 : -1]
                logits = logits if logits.dtype == torch.float64 else logits.float()
                targets = torch.tensor(completion)
                logps = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
                (logps * torch.cos(coefficient * targets.to(logps))).sum().backward()
                out.append(logps.detach())
    return torch.cat(out), gradient(policy.module)


def gradient(module: Any) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return found


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
