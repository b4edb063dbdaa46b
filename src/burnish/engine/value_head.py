"""The value head of PPO: the reward still to come, read off the hidden state in which each token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from burnish.engine.engine import Engine
from burnish.tensors import PackedBatch, wide_type


@dataclass
class ValueHead:
    """A linear layer on hidden states: the policy's, or those of a second model (`backbone`) that learns only values.

    It starts at 0 everywhere, so that the first advantages are the rewards themselves.
    """

    linear: nn.Linear
    backbone: Engine | None = None

    @classmethod
    def on(cls, engine: Engine, backbone: Engine | None = None) -> ValueHead:
        """A fresh head for an engine's policy; every causal LM has the hidden states it needs."""
        read = backbone or engine
        width = read.policy.head.weight.shape[1]
        linear = nn.Linear(width, 1, dtype=wide_type(read.policy.dtype), device=read.policy.device)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return cls(linear, backbone)

    def __call__(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """hidden [tokens, width] of the policy, for a shared backbone -> values [tokens], float32 or wider."""
        if self.backbone is not None:
            hidden = self.backbone.head_input(batch)[0].hidden
        values: Tensor = self.linear(hidden.to(self.linear.weight.dtype))[:, 0]
        return values

    def trainable(self) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
        """(the head's weights, those of a second backbone), by name."""
        head = [(f"value_head.{name}", parameter) for name, parameter in self.linear.named_parameters()]
        if self.backbone is None:
            return head, []
        named = self.backbone.policy.decoder.named_parameters()
        return head, [(f"value_backbone.{name}", parameter) for name, parameter in named]
