"""The value head of PPO: how much reward is still to come, read off the state in which each token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from burnish.engine.engine import Engine
from burnish.tensors import PackedBatch, wide_type


@dataclass
class ValueHead:
    """A linear layer on hidden states: the policy's own, or those of a model beside it (`trunk`) that learns values
    alone. It starts at 0 everywhere, so that the first advantages are the rewards themselves."""

    linear: nn.Linear
    trunk: Engine | None = None

    @classmethod
    def on(cls, engine: Engine, trunk: Engine | None = None) -> ValueHead:
        """A fresh head for an engine's policy. Raises nothing: every causal LM has hidden states."""
        read = trunk or engine
        width = read.policy.head.weight.shape[1]
        wide = wide_type(read.policy.dtype)
        linear = nn.Linear(width, 1, dtype=wide, device=read.policy.device)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return cls(linear, trunk)

    def __call__(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """hidden [tokens, width] of the policy, for a shared trunk -> values [tokens], float32 or wider."""
        if self.trunk is not None:
            hidden = self.trunk.head_input(batch)[0].hidden
        values: Tensor = self.linear(hidden.to(self.linear.weight.dtype))[:, 0]
        return values

    def trainable(self) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
        """(the head's weights, those of its own trunk), by name."""
        head = [(f"value_head.{name}", parameter) for name, parameter in self.linear.named_parameters()]
        if self.trunk is None:
            return head, []
        named = self.trunk.policy.decoder.named_parameters()
        return head, [(f"value_trunk.{name}", parameter) for name, parameter in named]
