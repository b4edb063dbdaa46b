"""A policy whose weights, gradients and optimiser states are divided over processes (FSDP2, torch's `fully_shard`).

Each process holds a slice of every parameter, in float32: the masters. A layer's weights are put together just before
it computes, in the type of the computation, and dropped after it; gradients are summed over processes in float32, never
averaged, since every loss is already divided by the whole step's counts. Embedding, head and final norm are the root's:
they are whole `within` a pass.

Weights come straight from the files, each process reading its rows; where transformers has to convert a family's files
(mixtures of experts), or they are no safetensors, the first process loads the model and hands out the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from burnish.engine.distributed import World
from burnish.errors import ModelError

WITHIN = "within_root"  # a method of the root module: what it runs sees the root's weights whole


@contextmanager
def weightless() -> Iterator[None]:
    """Modules that are made inside have parameters on the meta device, without numbers; buffers are real."""
    register = nn.Module.register_parameter

    def without(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # tied parameters must stay the same object
            parameter = _on_meta(parameter)
        register(module, name, parameter)

    nn.Module.register_parameter = without  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _on_meta(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)


def emptied(module: nn.Module) -> dict[str, Tensor]:
    """Take the numbers out of a module's parameters and return them by name; tied parameters stay tied."""
    taken = {name: parameter.detach() for name, parameter in module.named_parameters()}
    twins: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = twins.setdefault(id(parameter), _on_meta(parameter))
            part._parameters[name] = empty
    return taken


def persistent(base: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to a model's files, such as the bias of a router; they are whole on every process."""
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, part in base.named_modules()
        for name, buffer in part.named_buffers(recurse=False)
        if name not in part._non_persistent_buffers_set
    }


def blocks(decoder: nn.Module, count: int) -> list[nn.Module]:
    """The transformer layers. Raises ModelError where they are not in a single list."""
    for part in decoder.modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            return list(part)
    raise ModelError("this model's layers are not in a single list, so it cannot be divided; use one process")


def shard(base: Any, decoder: nn.Module, world: World, *, half: bool) -> None:
    """Divide a weightless model over the world's mesh and allocate its parameters. `half`: compute in bfloat16."""
    kinds = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32} if half else {}
    policy = MixedPrecisionPolicy(**kinds, cast_forward_inputs=False)  # what flows between layers has the right type
    setattr(base, WITHIN, lambda work, *args, **kwargs: work(*args, **kwargs))
    for part in [*blocks(decoder, int(base.config.get_text_config().num_hidden_layers)), base]:
        fully_shard(part, mesh=world.mesh, mp_policy=policy)
    register_fsdp_forward_method(base, WITHIN)
    for part in base.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    device = torch.device(world.mesh.device_type)
    buffers = {name: buffer.to(device, copy=True) for name, buffer in base.named_buffers()}
    base.to_empty(device=device)
    for name, buffer in base.named_buffers():
        buffer.copy_(buffers[name])


def whole(value: Tensor) -> Tensor:
    """A divided tensor put together on every process; any other tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def assign(parameter: Tensor, full: Tensor) -> None:
    """Fill a parameter, or this process's slice of it, from `full`, which every process has."""
    if isinstance(parameter, DTensor):
        divided = distribute_tensor(
            full.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
        parameter.to_local().copy_(divided.to_local())
    else:
        parameter.copy_(full)


@torch.no_grad()
def hand_out(named: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> None:
    """Fill divided parameters, one by one, from the first process's `full`; in the other processes `full` is empty."""
    for name, parameter in named.items():
        assert isinstance(parameter, DTensor)
        source = full[name] if name in full else torch.empty(parameter.shape)
        source = source.to(device=parameter.device, dtype=parameter.dtype)
        divided = distribute_tensor(source, parameter.device_mesh, parameter.placements, src_data_rank=0)
        parameter.to_local().copy_(divided.to_local())


class Files:
    """A model folder's safetensors, read by rows."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._where: dict[str, Any] = {}
        for file in sorted(folder.glob("*.safetensors")):
            opened = safe_open(file, framework="pt")  # type: ignore[no-untyped-call]
            self._where |= dict.fromkeys(opened.keys(), opened)

    def hold(self, shapes: Mapping[str, torch.Size], twins: Collection[str] = ()) -> bool:
        """Whether the files hold every tensor under its name and in its shape, and but for `twins`, the second names
        of tied ones, no other."""
        return (
            bool(self._where)
            and self._where.keys() <= shapes.keys() | set(twins)
            and all(
                name in self._where and self._where[name].get_slice(name).get_shape() == list(size)
                for name, size in shapes.items()
            )
        )

    def whole(self, name: str) -> Tensor:
        """A tensor, on the CPU."""
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor

    @torch.no_grad()
    def fill(self, name: str, parameter: DTensor) -> None:
        """Read this process's rows of a parameter."""
        local = parameter.to_local()
        first = _first_row(parameter)
        rows = self._where[name].get_slice(name)
        local.copy_(rows[first : first + local.shape[0]] if local.shape[0] else local)


def _first_row(parameter: DTensor) -> int:
    """The first row of this process: FSDP2 divides dimension 0 as `torch.chunk` does."""
    mesh = parameter.device_mesh
    axis = mesh.ndim - 1  # shards are the last axis, behind replicas
    size, rank = mesh.size(axis), mesh.get_local_rank(axis)
    per = -(-parameter.shape[0] // size)
    return min(rank * per, parameter.shape[0])


def converted(model_type: str) -> bool:
    """Whether transformers may rename or merge this family's tensors when it loads them."""
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    except ImportError:
        return True
    return bool(get_checkpoint_conversion_mapping(model_type))


def gathered(
    module: nn.Module, kind: torch.dtype, *, trained_only: bool, wide: Collection[str] = ()
) -> dict[str, Tensor]:
    """The whole weights, in the first process only, on the CPU, in the type they are saved in; buffers and `wide` stay
    as they are."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    weights: dict[str, Any] = get_model_state_dict(module, options=options)
    twins = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    twins -= {name for name, _ in module.named_parameters()}  # of two tied names the file holds the first
    kept = {name: value for name, value in weights.items() if name not in twins}
    wide = {*wide, *(name for name, _ in module.named_buffers())}
    return {
        name: value if name in wide or not value.is_floating_point() else value.to(kind) for name, value in kept.items()
    }


def run_within(base: Any, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run `work` while the root's weights are whole."""
    return getattr(base, WITHIN)(work, *args, **kwargs)


def settle(base: Any) -> None:
    """Divide again what the last pass without gradient left whole, so that the next pass reads the current weights."""
    for part in base.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def move_in(module: nn.Module, slices: Mapping[str, Tensor]) -> None:
    """Let a divided model take over the slices of another model, without copying what keeps its type."""
    wanted = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    tied = {id(p): name for name, p in module.named_parameters()}
    every = {name: slices[tied[id(p)]] for name, p in module.named_parameters(remove_duplicate=False)}
    module.load_state_dict(every, strict=False, assign=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(wanted[name])
