"""The last layer's feed-forward part, computed only for rows that predict a completion token.

After the last attention everything is row by row, and more than half of the rows (prompts, but for their last token)
predict nothing. Layers of the plain pre-norm shape skip those rows, and `canary.py` proves it on the loaded model. Any
other layer keeps its forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from burnish.engine.attention import KEYWORD

PRE_NORM = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


def last_layer(decoder: nn.Module) -> nn.Module | None:
    """The decoder's last layer if it has the plain pre-norm shape and nothing but a norm follows it."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    layer = layers[-1]
    return layer if {name for name, _ in layer.named_children()} == PRE_NORM else None


def install(layer: Any) -> None:
    """Replace the layer's forward: where the layout names rows to keep, the others are dropped."""
    whole = layer.forward

    def forward(hidden_states: Tensor, **kwargs: Any) -> Tensor:
        layout = kwargs.get(KEYWORD)
        if layout is None or layout.keep is None:
            out: Tensor = whole(hidden_states, **kwargs)
            return out
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        kept = hidden_states.index_select(1, layout.keep) + attended.index_select(1, layout.keep)
        fed: Tensor = layer.mlp(layer.post_attention_layernorm(kept))
        pruned: Tensor = kept + fed
        return pruned

    layer.forward = forward
    layer.whole_forward = whole


def remove(layer: Any) -> None:
    """Put the layer's stock forward back."""
    layer.forward = layer.whole_forward


def kept_rows(predict_rows: Tensor) -> tuple[Tensor, Tensor]:
    """(rows to keep, each once; place of every predicting row among them)."""
    keep, place = torch.unique(predict_rows, return_inverse=True)
    return keep, place
