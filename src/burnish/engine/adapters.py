"""A LoRA's first weights, its forward in fewer passes over its output, and adapters that are folded into their base.

peft computes `W x + (B A x) * s` with two extra tensors of the output's size. The scale can be taken on `A x`, which
has only `rank` columns, and the sum inside the product with B: the same numbers in a single pass.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.engine.sharding import assign
from burnish.errors import ModelError
from burnish.tensors import wide

LowRank = dict[str, tuple[Tensor, Tensor]]  # module -> (A [rank, inputs], B [outputs, rank]); its weight gains B A
PREFIX = "base_model.model."  # of modules in an adapter's file


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


def low_rank(module: Any) -> LowRank | None:
    """What an adapter adds to the weights; None where it is more than products of two matrices (a reward model's head,
    which every adapter of a reward model holds, aside)."""
    from peft.tuners.lora.layer import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    settings = module.active_peft_config
    if settings.peft_type != "LORA" or not isinstance(settings.init_lora_weights, bool):
        return None  # others start from a changed base
    added: LowRank = {}
    for name, part in module.get_base_model().named_modules():
        if isinstance(part, AuxiliaryTrainingWrapper) and name != "score":
            return None
        if not isinstance(part, BaseTunerLayer):
            continue
        if type(part) is not Linear or part.lora_variant or part.lora_bias["default"] or settings.bias != "none":
            return None
        layer: Any = part
        down, up = (matrices["default"].weight.detach() for matrices in (layer.lora_A, layer.lora_B))
        added[name] = (down.clone(), up * layer.scaling["default"])
    return added


def stacked(below: Mapping[str, tuple[Tensor, Tensor]], above: Mapping[str, tuple[Tensor, Tensor]]) -> LowRank:
    """The sum of two, as products of a higher rank."""
    both = dict(below)
    for name, (down, up) in above.items():
        if name in both:
            down, up = torch.cat([both[name][0], down]), torch.cat([both[name][1], up], 1)
        both[name] = (down, up)
    return both


def fold(module: Any, folder: Path) -> Any:
    """The model with its adapter added to its weights. Raises ModelError where it is no change of weights."""
    try:
        return module.merge_and_unload().requires_grad_(True)  # an adapter freezes its base
    except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
        raise ModelError(f"the adapter in {folder} cannot be folded into its base: {error}") from error


def save_stacked(module: Any, folded: LowRank, folder: Path, gathered: dict[str, Any] | None) -> None:
    """Write the trained adapter and what was folded into its base as one adapter on that base, of one rank everywhere.
    `gathered` are the weights of a divided model."""
    from peft.utils.save_and_load import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(module, state_dict=gathered)
    trained: LowRank = {}
    for name, part in module.get_base_model().named_modules():
        if f"{PREFIX}{name}.lora_A.weight" in state:
            down, up = (wide(state.pop(f"{PREFIX}{name}.lora_{side}.weight")).cpu() for side in "AB")
            trained[name] = (down, up * part.scaling["default"])
    every = stacked({name: (down.cpu(), up.cpu()) for name, (down, up) in folded.items()}, trained)
    rank = max(down.shape[0] for down, _ in every.values())
    for name, (down, up) in every.items():
        state[f"{PREFIX}{name}.lora_A.weight"] = F.pad(down, (0, 0, 0, rank - down.shape[0]))
        state[f"{PREFIX}{name}.lora_B.weight"] = F.pad(up, (0, rank - up.shape[1]))
    settings = copy.deepcopy(module.active_peft_config)
    settings.r = settings.lora_alpha = rank
    settings.inference_mode, settings.use_rslora, settings.target_modules = True, False, set(every)
    settings.exclude_modules = None
    settings.save_pretrained(str(folder))
    named = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(named, folder / "adapter_model.safetensors", {"format": "pt"})


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
