"""The strength of an adapter: its low-rank change multiplied by a number, for all of its layers or a group of them.

An adapter adds `alpha / r x B A` to a weight, so a copy whose alpha is multiplied has another strength, and the same
tensors. 0 is the base, 1 the adapter as it was trained; above 1 it is extrapolated (ExPO, arXiv 2404.16792, eq. 3).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from burnish.data.folders import ADAPTER
from burnish.engine.adapters import low_rank
from burnish.engine.checkpoint import write_folder
from burnish.errors import ModelError

GROUPS = {"attention": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}


def scaled(adapter: Path, out: Path, strength: float, group: str | None = None) -> Path:
    """Write a copy of an adapter at another strength; of a `group` of layers alone, where one is named, whose others
    are switched off. Returns `out`.

    Raises ModelError where the folder is no LoRA adapter, or its strength is no number of its file; StoreError where
    nothing can be written.
    """
    file = adapter / ADAPTER
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if settings.get("peft_type") != "LORA" or settings.get("use_dora") or settings.get("modules_to_save"):
        raise ModelError(f"{adapter} is no plain LoRA adapter: its strength cannot be set by its alpha")
    alphas = settings.get("alpha_pattern") or {}
    settings["lora_alpha"] = settings["lora_alpha"] * strength
    settings["alpha_pattern"] = {name: alpha * strength for name, alpha in alphas.items()}
    if group is not None:
        for name in settings["target_modules"]:
            if name not in GROUPS[group]:
                settings["alpha_pattern"][name] = 0.0

    def fill(target: Path) -> None:
        target.mkdir()
        for path in sorted(adapter.iterdir()):
            if path.is_file() and path.name != ADAPTER:
                _shared(path, target / path.name)
        (target / ADAPTER).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    write_folder(out, fill, "adapter")
    return out


def set_strength(module: Any, folder: Path, strength: float) -> None:
    """Multiply what an opened adapter adds. Raises ModelError where it is no sum of plain LoRA products."""
    if low_rank(module) is None:
        raise ModelError(f"the adapter in {folder} is no plain LoRA: its change has no strength to set")
    for layer in module.modules():
        if isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling = {name: value * strength for name, value in layer.scaling.items()}


def _shared(source: Path, target: Path) -> None:
    """A hard link where the disk has them: the tensors are the same."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
