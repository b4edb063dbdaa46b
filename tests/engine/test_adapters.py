"""The fused LoRA forward is peft's, in values and gradients, and steps aside wherever peft does something else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from burnish.engine.adapters import fuse
from tests.zoo import tiny


def adapted(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    module = get_peft_model(tiny("llama", torch.float64), config).double()
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1)
    return module.eval()


def result(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    logits = module(torch.arange(3, 15)[None]).logits
    logits.square().mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return logits.detach(), gradient


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}])
def test_values_and_gradients_are_pefts(settings: dict[str, Any]) -> None:
    module = adapted(**settings)
    expected = result(module)
    assert fuse(module) == 2 * 7
    for ours, theirs in zip(result(module), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_it_steps_aside() -> None:
    module = adapted()
    fuse(module)
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        with module.disable_adapter():
            off = module(ids).logits
        base = tiny("llama", torch.float64)(ids).logits
        torch.testing.assert_close(off, base, rtol=1e-10, atol=1e-12)
        on = module(ids).logits
        module.merge_adapter()
        torch.testing.assert_close(module(ids).logits, on, rtol=1e-8, atol=1e-10)
    assert fuse(adapted(use_dora=True)) == 0
