"""Saving and finding checkpoints. A folder appears under its final name only when everything in it is on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from burnish.errors import StoreError


def write_folder(target: Path, fill: Callable[[Path], None], what: str) -> None:
    """Fill a folder beside `target` and rename it into place; an older `target` is replaced only then.

    Raises StoreError (disk full, no permission) with the old folder untouched.
    """
    temporary = target.with_name(target.name + ".part")
    old = target.with_name(target.name + ".old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fill(temporary)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # torch and safetensors report a full disk as RuntimeError
        shutil.rmtree(temporary, ignore_errors=True)
        kept = f"; the last one saved is still in {target}" if target.exists() else ""
        raise StoreError(f"the {what} could not be written to {target}: {error}{kept}. Free some space") from error


def save(run_dir: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `checkpoints/step-N` and drop all but the newest `keep`."""

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        torch.save(state, folder / "state.pt")
        (folder / "manifest.json").write_text(json.dumps({"step": step, "torch": torch.__version__}) + "\n")

    target = run_dir / "checkpoints" / f"step-{step}"
    write_folder(target, fill, "checkpoint")
    for folder in found(run_dir)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def found(run_dir: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    folders = [
        p for p in (run_dir / "checkpoints").glob("step-*") if (p / "manifest.json").exists() and "." not in p.name
    ]
    return sorted(folders, key=lambda p: int(p.name.removeprefix("step-")))


def load(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise StoreError(f"{folder} cannot be read as a checkpoint: {error}") from error
    return state
