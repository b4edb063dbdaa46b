"""Models of text and images: which of their modules text passes through. Only these are trained; the others stay as the
files hold them, to the bit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def decoder_of(base: Any) -> nn.Module:
    """The transformer that text passes through, without the head."""
    try:
        decoder: nn.Module | None = base.get_decoder()
    except AttributeError:  # some families name a part of a larger model that is not there
        decoder = None
    if decoder is None or decoder is base:
        decoder = getattr(base, base.base_model_prefix, None) or base.model
    return decoder


def unreached(base: Any) -> list[str]:
    """Names of the outermost modules and parameters that text does not pass through; none of a model of text alone."""
    if base.config.get_text_config() is base.config:
        return []
    parts = [decoder_of(base), base.get_input_embeddings(), base.get_output_embeddings(), getattr(base, "score", None)]
    reached = {id(parameter) for part in parts if part is not None for parameter in part.parameters()}
    return list(_outside(base, reached, ""))


def _outside(module: nn.Module, reached: set[int], prefix: str) -> Iterator[str]:
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in reached:
            yield prefix + name
    for name, part in module.named_children():
        ids = {id(parameter) for parameter in part.parameters()}
        if ids and ids.isdisjoint(reached):
            yield prefix + name
        elif ids:
            yield from _outside(part, reached, f"{prefix}{name}.")


def pattern(names: list[str]) -> str | None:
    """A regular expression for the modules of those names and all inside them; None where there are none."""
    return f"({'|'.join(map(re.escape, names))})(\\..*)?" if names else None


def freeze(base: Any) -> None:
    """Leave what text does not reach out of training."""
    for parameter in unreached_parameters(base).values():
        parameter.requires_grad_(False)


def unreached_parameters(base: Any) -> dict[str, nn.Parameter]:
    """What `unreached` names, parameter by parameter."""
    wanted = pattern(unreached(base))
    return {name: p for name, p in base.named_parameters() if wanted is not None and re.fullmatch(wanted, name)}


def line(base: Any, *, adapted: bool) -> str:
    """A sentence for the user; empty for a model of text alone."""
    names = ", ".join(unreached(base))
    if not names:
        return ""
    return f"adapter: not on {names}, which text does not reach" if adapted else (
        f"model: text does not reach {names}, kept as the files have them"
    )  # fmt: skip


def as_stored(base: Any, weights: Mapping[str, Tensor], stored: torch.dtype) -> dict[str, Tensor]:
    """The weights of a model to be saved, those that text does not reach in the files' type where it holds them all."""
    kept = dict(weights)
    for name in unreached_parameters(base).keys() & kept.keys():
        narrow = kept[name].to(stored)
        if torch.equal(narrow.to(kept[name].dtype), kept[name]):
            kept[name] = narrow
    return kept
