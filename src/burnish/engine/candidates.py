"""Scorers of answers, still on disk: reward models, ensembles of them, and policies trained against a reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish import config as configuration
from burnish.config import Run
from burnish.engine import reward_model
from burnish.errors import ModelError


@dataclass(frozen=True)
class Candidate:
    """A scorer still on disk: a reward model, or a policy that was trained against a reference."""

    name: str
    folder: Path
    run: Run | None  # of a policy: how it was trained

    @property
    def implicit(self) -> bool:
        return self.run is not None


def find(paths: Sequence[str]) -> list[tuple[str, list[Candidate]]]:
    """(name, its members) of every path: a model, a run's folder, or a run with members. No weights are loaded.

    Raises ModelError where a path holds none of these.
    """
    ensembles, names = [], set[str]()
    for path in paths:
        folder = Path(path)
        if not folder.is_dir():
            raise ModelError(f"there is no folder {path}: name reward models, or runs of policies, by their folders")
        name = folder.parent.name if folder.name == "model" and folder.parent.name else folder.resolve().name
        while name in names:
            name += "'"
        names.add(name)
        members = sorted(folder.glob("member-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        inner = [(f"{name}/{member.name}", member) for member in members] or [(name, folder)]
        ensembles.append((name, [_candidate(member, place) for member, place in inner]))
    return ensembles


def _candidate(name: str, folder: Path) -> Candidate:
    saved = folder / "model" if (folder / "model").is_dir() else folder
    if _is_reward_model(saved):
        return Candidate(name, saved, None)
    file = folder / "config.toml" if (folder / "config.toml").exists() else folder.parent / "config.toml"
    if not file.exists():
        raise ModelError(
            f"{folder} is no reward model, and no run's folder with its config.toml, which would say against which "
            "reference its policy was trained"
        )
    run = configuration.load_partly(str(file))
    if not (saved / "config.json").exists() and not (saved / "adapter_config.json").exists():
        raise ModelError(f"{folder} holds no finished model (its folder model/ is missing)")
    return Candidate(name, saved, run)


def _is_reward_model(folder: Path) -> bool:
    if (folder / reward_model.ABOUT).exists():
        return True
    for name, key in (("adapter_config.json", "task_type"), ("config.json", "architectures")):
        if (folder / name).exists():
            kind = str(json.loads((folder / name).read_text()).get(key))
            return "SEQ_CLS" in kind or "SequenceClassification" in kind
    return False
