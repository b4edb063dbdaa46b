"""A LoRA's first weights, and its forward in fewer passes over its output.

peft computes `W x + (B A x) * s` with two extra tensors of the output's size. The scale can be taken on `A x`, which
has only `rank` columns, and the sum inside the product with B: the same numbers in a single pass.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.engine.sharding import assign


def fuse(module: torch.nn.Module) -> int:
    """Give every plain LoRA layer (one adapter, no variant such as DoRA) the fused forward; returns their number."""
    from peft.tuners.lora.layer import Linear

    layers = [part for part in module.modules() if type(part) is Linear and not part.lora_variant]
    for layer in layers:
        _bind(layer)
    return len(layers)


@torch.no_grad()
def initialise(module: torch.nn.Module, seed: int) -> None:
    """A uniform in +-1/sqrt(inputs), B zero (2106.09685, section 4.1, with peft's distribution); each matrix drawn by
    the seed and its name, so that any division over processes starts from the same numbers."""
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        if "lora_B" in parts:
            assign(parameter, torch.zeros(parameter.shape))
        elif "lora_A" in parts:
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            draw = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
            bound = parameter.shape[1] ** -0.5
            assign(parameter, torch.empty(parameter.shape).uniform_(-bound, bound, generator=draw))


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
