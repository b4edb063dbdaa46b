"""Float32 masters: nothing of the loaded weights is lost to rounding, and small updates add up."""

from __future__ import annotations

import torch
from torch import nn

from burnish.engine.masters import Masters, adamw


def test_masters_keep_what_bfloat16_would_round_away() -> None:
    layer = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    masters = Masters(layer.named_parameters(), torch.bfloat16)
    assert all(torch.equal(masters.state()[name], before[name]) for name in before)
    assert all(p.dtype == torch.bfloat16 for p in layer.parameters())


def test_gradients_of_microbatches_add_up_in_float32() -> None:
    layer = nn.Linear(4, 1, bias=False)
    masters = Masters(layer.named_parameters(), torch.bfloat16)
    inputs = torch.randn(6, 4).bfloat16()
    for row in inputs:
        layer(row).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(masters.parameters[0].grad, inputs.float().sum(0, keepdim=True), rtol=0, atol=0)


def test_cleared_gradients_leave_nothing_of_a_pass_that_did_not_end() -> None:
    layer = nn.Linear(4, 1, bias=False)
    masters = Masters(layer.named_parameters(), torch.bfloat16)
    layer(torch.ones(1, 4).bfloat16()).sum().backward()
    layer.weight.grad = torch.ones_like(layer.weight)  # memory ran out between the backward pass and the hook
    masters.clear_gradients()
    layer(torch.ones(1, 4).bfloat16()).sum().backward()
    torch.testing.assert_close(masters.parameters[0].grad, torch.ones(1, 4), rtol=0, atol=0)


def test_updates_below_a_bfloat16_step_show_once_they_add_up() -> None:
    layer = nn.Linear(4, 4, bias=False)
    masters = Masters(layer.named_parameters(), torch.bfloat16)
    start = layer.weight.detach().clone()
    optimizer = adamw(masters.parameters, lr=1e-5, betas=(0.9, 0.999), weight_decay=0.0)
    for _ in range(1000):
        masters.parameters[0].grad = torch.ones(4, 4)
        optimizer.step()
        masters.publish()
    moved = (start.float() - layer.weight.float()).mean()
    torch.testing.assert_close(moved, torch.tensor(0.01), rtol=0.1, atol=0)
