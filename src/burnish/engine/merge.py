"""Folding an adapter into its base model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from burnish.config import ModelConfig
from burnish.data.folders import ADAPTER
from burnish.data.tokenizers import load_tokenizer
from burnish.engine import adapters, reward_model, weights
from burnish.engine.checkpoint import write_folder
from burnish.engine.strength import set_strength
from burnish.errors import ModelError


def merge(
    adapter_dir: str, out_dir: str, strength: float = 1.0, *, trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> str:  # fmt: skip
    """Fold an adapter, at a `strength`, into its base model and write a plain model folder; returns a line that names
    both. Of adapters on one another the strength is the last one's.

    Raises ModelError for anything but an adapter, and where its base does not fit; StoreError where nothing can be
    written. A failure leaves nothing behind.
    """
    folder = Path(adapter_dir)
    if (folder / "model" / ADAPTER).exists():
        folder = folder / "model"
    if not (folder / ADAPTER).exists():
        raise ModelError(f"{adapter_dir} holds no {ADAPTER}; name an adapter's folder, or a run's")
    out = Path(out_dir)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ModelError(f"{out_dir} is not an empty folder; name a new one")
    model = ModelConfig(
        path=str(folder), dtype="float32", trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )
    tokenizer = load_tokenizer(model.path, trust_remote_code=trust_remote_code)
    config, companions = weights.configuration(model), weights.companions(model.path)
    merged = _merged(model, strength)  # in float32, then written in the base's type
    text = config.get_text_config()
    merged.config.get_text_config().use_cache = getattr(text, "use_cache", True)
    about = folder / reward_model.ABOUT
    if about.exists():  # a reward model: its padding token is in the adapter's folder
        merged.config.get_text_config().pad_token_id = reward_model.about_of(folder).get("pad_token_id")

    def fill(target: Path) -> None:
        merged.to(weights.stored_type(model)).save_pretrained(target)
        if about.exists():
            shutil.copy(about, target / about.name)
        tokenizer.save_pretrained(target)
        for name, content in companions.items():
            (target / name).write_bytes(content)

    write_folder(out, fill, "merged model")
    return weights.origin(model).line()


def _merged(model: ModelConfig, strength: float) -> Any:
    """The base, and the adapters one after the other."""
    origin = weights.origin(model)
    scalar = weights.has_scalar_head(origin.adapters[-1])
    merged = weights.load_base(model, quantize=False, scalar=scalar, place="host")
    for folder in origin.adapters:
        opened = weights.open_adapter(merged, folder, trained="SEQ_CLS" if scalar else "CAUSAL_LM")
        if folder == origin.adapters[-1] and strength != 1.0:
            set_strength(opened, folder, strength)
        merged = adapters.fold(opened, folder)
    broken = [name for name, value in merged.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(f"{folder} is not merged: {broken[0]} would hold numbers that are not finite")
    return merged
