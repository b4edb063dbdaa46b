"""A LoRA layer's forward in fewer passes over its output.

peft computes `W x + (B A x) * s` with two extra tensors of the output's size. The scale can be taken on `A x`, which
has only `rank` columns, and the sum inside the product with B: the same number, one pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def fuse(module: torch.nn.Module) -> int:
    """Give every plain LoRA layer (one adapter, no variant such as DoRA) the fused forward; returns how many."""
    from peft.tuners.lora.layer import Linear

    layers = [part for part in module.modules() if type(part) is Linear and not part.lora_variant]
    for layer in layers:
        _bind(layer)
    return len(layers)


def _bind(layer: Any) -> None:
    whole = layer.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        (name, *others) = layer.active_adapters or [None]
        plain = not (args or kwargs or others or layer.disable_adapters or layer.merged)
        if not plain or name not in layer.lora_A or layer.lora_A[name].weight.dtype != x.dtype:
            out: Tensor = whole(x, *args, **kwargs)
            return out
        rows = x.flatten(0, -2)
        low = F.linear(layer.lora_dropout[name](rows), layer.lora_A[name].weight) * layer.scaling[name]
        sum_: Tensor = layer.base_layer(rows).addmm_(low, layer.lora_B[name].weight.t())
        return sum_.view(*x.shape[:-1], -1)

    layer.forward = forward
