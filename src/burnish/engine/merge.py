"""Folding an adapter into its base model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from burnish.engine.checkpoint import write_folder
from burnish.errors import ModelError


def merge(adapter_dir: str, out_dir: str) -> None:
    """Fold an adapter into its base model and write a plain model folder. Raises ModelError for anything else."""
    folder = Path(adapter_dir)
    if (folder / "model" / "adapter_config.json").exists():
        folder = folder / "model"
    if not (folder / "adapter_config.json").exists():
        raise ModelError(f"{adapter_dir} holds no adapter_config.json; name an adapter's folder, or a run's")
    out = Path(out_dir)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ModelError(f"{out_dir} is not an empty folder; name a new one")
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftConfig
    from transformers import AutoConfig, AutoTokenizer

    try:
        adapter = PeftConfig.from_pretrained(str(folder))
        kind = AutoConfig.from_pretrained(adapter.base_model_name_or_path).dtype
        scalar = adapter.task_type == "SEQ_CLS"
        auto: Any = AutoPeftModelForSequenceClassification if scalar else AutoPeftModelForCausalLM
        model: Any = auto.from_pretrained(folder, dtype=torch.float32, **({"num_labels": 1} if scalar else {}))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} could not be loaded with its base model: {str(error).splitlines()[0]}") from error
    merged = model.merge_and_unload()  # in float32, then written in the base's type
    about = folder / "reward.json"
    if about.exists():  # a reward model: its padding token is in the adapter's folder
        merged.config.get_text_config().pad_token_id = json.loads(about.read_text())["pad_token_id"]

    def fill(target: Path) -> None:
        merged.to(kind or torch.float32).save_pretrained(target)
        if about.exists():
            shutil.copy(about, target / about.name)
        AutoTokenizer.from_pretrained(folder).save_pretrained(target)

    write_folder(out, fill, "merged model")
