"""What a model's name stands for on disk: a whole model, or adapters on one. Neither torch nor weights are loaded.

An adapter's folder is accepted wherever a model's is: its own configuration names the base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from burnish.errors import ModelError

ADAPTER = "adapter_config.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


@dataclass(frozen=True)
class Origin:
    """Where a model's weights lie.

    Example: `Origin("/models/llama", (Path("/runs/sft/model"),))`, an adapter on a model.
    """

    base: str  # folder or hub name of a whole model
    adapters: tuple[Path, ...] = ()  # folders, in the order in which they go on the base

    def line(self, role: str = "model") -> str:
        """A sentence for the user, empty for a whole model. `role`: what it is to a run."""
        return f"{role}: the adapter {self}" if self.adapters else ""

    def __str__(self) -> str:
        return " on ".join([*map(str, self.adapters[::-1]), f"its base {self.base}"]) if self.adapters else self.base


def origin_of(path: str, *, allow_pickle: bool = False) -> Origin:
    """The whole model behind a folder or hub name, and the adapters on it. Hub names of whole models pass unseen.

    Raises ModelError for a folder that holds neither or both, whose base is not there, or whose weights are pickles
    where those are not allowed.
    """
    adapters: list[Path] = []
    while (folder := _folder(path)) is not None and (folder / ADAPTER).exists():
        _require_adapter(folder, allow_pickle)
        if folder in adapters:
            raise ModelError(f"model.path: {folder} is an adapter that names itself as its base")
        adapters.append(folder)
        path = _base_of(folder)
    if folder is not None:
        _require_model(folder, allow_pickle)
    return Origin(path, tuple(adapters[::-1]))


def model_chain(path: str) -> list[str]:
    """An adapter's folder, then what it goes on, down to the folder or hub name of the whole model; that alone for a
    whole model. What an adapter's folder lacks beside the weights is taken from the next one.

    Raises ModelError as `origin_of` does for adapters."""
    names: list[str] = []
    while (folder := _any_folder(path)) is not None and (folder / ADAPTER).is_file():
        if str(folder) in names:
            raise ModelError(f"model.path: {folder} is an adapter that names itself as its base")
        names.append(str(folder))
        path = _base_of(folder)
    return [*names, path]


def home_of(path: str, *files: str) -> str:
    """The first of a model's chain that holds one of the files; the whole model where none does."""
    *adapters, base = model_chain(path)
    return next((folder for folder in adapters if any((Path(folder) / name).is_file() for name in files)), base)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` says. Raises ModelError where it cannot be read."""
    try:
        return dict(json.loads((folder / ADAPTER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / ADAPTER} cannot be read: {error}") from error


def _folder(path: str) -> Path | None:
    """The folder on this machine; None for the hub name of a whole model."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"model.path: {path} is a file; name the folder that holds config.json and the weights")
    if _looks_local(path):
        raise ModelError(f"model.path: there is no folder {path}")
    return _adapter_on_hub(path)


def _any_folder(path: str) -> Path | None:
    folder = Path(path).expanduser()
    return folder if folder.is_dir() else None if _looks_local(path) else _adapter_on_hub(path)


def _looks_local(path: str) -> bool:
    return path.startswith((".", "/", "~")) or path.count("/") > 1


@cache
def _adapter_on_hub(name: str) -> Path | None:
    """The snapshot of a hub adapter; None for any other hub name."""
    from huggingface_hub import snapshot_download
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        return Path(snapshot_download(name)) if find_adapter_config_file(name) else None
    except OSError:  # no connection, or no such name: the loader of the model says which
        return None


def _require_model(folder: Path, allow_pickle: bool) -> None:
    if not (folder / "config.json").exists():
        raise ModelError(f"model.path: {folder} holds no config.json, so it is not a Hugging Face model folder")
    if any(folder.glob("*.safetensors")):
        return
    if not any(folder.glob("*.bin")):
        raise ModelError(f"model.path: {folder} has a config.json but no weights (*.safetensors or *.bin)")
    _refuse_pickles(folder, allow_pickle)


def _require_adapter(folder: Path, allow_pickle: bool) -> None:
    whole = [file.name for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_")]
    whole += [file.name for file in folder.glob("pytorch_model*.bin")]
    if whole:
        raise ModelError(
            f"model.path: {folder} holds both a whole model ({min(whole)}) and an adapter ({ADAPTER}); give each a "
            "folder of its own"
        )
    if (folder / "adapter_model.safetensors").exists():
        return
    if not (folder / "adapter_model.bin").exists():
        raise ModelError(f"model.path: {folder} has an {ADAPTER} but no weights (adapter_model.safetensors)")
    _refuse_pickles(folder, allow_pickle)


def _refuse_pickles(folder: Path, allow_pickle: bool) -> None:
    if not allow_pickle:
        raise ModelError(
            f"model.path: the weights in {folder} are pickles (*.bin), which may run any program when they are read. "
            "Save them as safetensors, or set model.allow_pickle=true if you trust where they come from"
        )


def _base_of(adapter: Path) -> str:
    """The base that an adapter names: a path, also from the adapter's own folder, or a hub name."""
    name = str(adapter_settings(adapter).get("base_model_name_or_path") or "")
    if not name:
        raise ModelError(f"{adapter / ADAPTER} names no base model (base_model_name_or_path)")
    for folder in (Path(name).expanduser(), adapter / name):
        if folder.is_dir():
            return str(folder)
    if _looks_local(name):
        raise ModelError(f"{adapter} is an adapter on {name}, and there is no such folder")
    return name
