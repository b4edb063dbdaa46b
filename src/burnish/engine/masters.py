"""Float32 master weights for a bfloat16 module: gradients are added up and updates are made in float32.

At a learning rate of 5e-7 an update is a thousandth of a bfloat16 step and would be lost every time; on the masters
the updates add up until they show.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Masters:
    """The tensors the optimiser steps. For float32 or float64 modules these are the parameters themselves."""

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], dtype: torch.dtype, *, sharded: bool = False,
        wide: Iterable[tuple[str, nn.Parameter]] = (),
    ) -> None:  # fmt: skip
        """`sharded`: the module keeps float32 weights and casts them itself. `wide`: parameters that compute
        in float32, whatever the module's type."""
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.working: list[nn.Parameter] = []
        for name, parameter in named:
            self.names.append(name)
            self.working.append(parameter)
            half = dtype == torch.bfloat16 and not sharded
            self.parameters.append(self._master(parameter) if half else parameter)
        for name, parameter in wide:
            self.names.append(name)
            self.working.append(parameter)
            self.parameters.append(parameter)

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        """A float32 copy, and a hook that moves each microbatch's bfloat16 gradient into its float32 sum."""
        master = nn.Parameter(parameter.detach().float().clone())

        def move(working: Tensor) -> None:
            assert working.grad is not None
            if master.grad is None:
                master.grad = working.grad.float()
            else:
                master.grad += working.grad
            working.grad = None

        parameter.data = parameter.data.to(torch.bfloat16)
        parameter.register_post_accumulate_grad_hook(move)
        return master

    @torch.no_grad()
    def publish(self) -> None:
        """After an update: round the masters into the module that computes."""
        for master, working in zip(self.parameters, self.working, strict=True):
            if master is not working:
                working.copy_(master)

    def clear_gradients(self) -> None:
        """Forget every gradient, also those of a backward pass that ended before it reached the masters."""
        for master, working in zip(self.parameters, self.working, strict=True):
            master.grad = working.grad = None

    def state(self) -> dict[str, Tensor]:
        return {name: master.detach() for name, master in zip(self.names, self.parameters, strict=True)}


def adamw(parameters: list[nn.Parameter], *, lr: float, betas: tuple[float, float], weight_decay: float) -> Any:
    """torch's fused AdamW; decay is left off vectors (norms, biases), as every published recipe does."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=True)
