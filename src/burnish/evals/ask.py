"""One prompt put to several models: the quickest look at what training did.

A model is a model's or adapter's folder, a hub name, a run's folder (its finished model, else its newest checkpoint),
or one checkpoint of a run, `RUN/checkpoints/step-N`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish import config as configuration
from burnish.answers.sampler import Decoding, Sampled
from burnish.answers.sampler.process import ProcessSampler
from burnish.config import Run
from burnish.data.identity import prompt_key
from burnish.data.prompts import Prompt
from burnish.data.render import Renderer
from burnish.data.tokenizers import load_tokenizer
from burnish.engine import checkpoint, model, weights
from burnish.errors import ModelError
from burnish.evals.implicit import frozen_engine
from burnish.group import Group, Message


@dataclass(frozen=True)
class Place:
    """Where a model lies. `run` and `checkpoint` are set for a checkpoint, whose weights go on those of run.model."""

    name: str
    run: Run
    checkpoint: Path | None = None

    def renderer(self) -> Renderer:
        """How the model is asked. Raises ModelError where it has no tokenizer."""
        model = self.run.model
        return Renderer.of(self.run.data, load_tokenizer(model.path, trust_remote_code=model.trust_remote_code))


@dataclass(frozen=True)
class Replies:
    """A model's answers to a prompt. `seconds` is what they took together."""

    model: str
    texts: tuple[str, ...]
    sampled: tuple[Sampled, ...]
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(len(answer.ids) for answer in self.sampled)


def places(paths: Sequence[str], settings: Run) -> list[Place]:
    """Where each model lies, with distinct names. Raises ModelError for a folder that holds none; reads no weights."""
    found = [_place(path, settings) for path in paths]
    names: list[str] = []
    for place in found:
        again = sum(name.split("#")[0] == place.name for name in names)
        names.append(f"{place.name}#{again + 1}" if again else place.name)
    return [Place(name, place.run, place.checkpoint) for name, place in zip(names, found, strict=True)]


def _place(path: str, settings: Run) -> Place:
    folder = Path(path).expanduser()
    if folder.is_dir() and (folder / checkpoint.MANIFEST).exists():
        return _at(folder, settings)
    if folder.is_dir() and (folder / "config.toml").exists() and not (folder / "config.json").exists():
        if (folder / "model").is_dir():
            return Place(folder.resolve().name, _with_model(settings, {"path": str(folder / "model")}))
        if saved := checkpoint.folders(folder):
            return _at(saved[-1], settings)
        raise ModelError(f"{path} holds a run with neither a finished model nor a checkpoint: there is nobody to ask")
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise ModelError(f"there is no folder {path}")
    name = folder.parent.name if folder.name == "model" and folder.parent.name else folder.name
    return Place(name, _with_model(settings, {"path": path}))


def _at(folder: Path, settings: Run) -> Place:
    """A checkpoint in the run's folder, two levels up."""
    run_dir = folder.resolve().parents[1]
    if not (run_dir / "config.toml").exists():
        raise ModelError(
            f"{folder} lies in no run's folder: {run_dir / 'config.toml'}, which names its model, is missing"
        )
    of_run = configuration.load_partly(str(run_dir / "config.toml"))
    asked = settings.model_copy(update={"model": of_run.model, "adapter": of_run.adapter})
    return Place(f"{run_dir.name}@{folder.name.removeprefix('step-')}", asked, folder)


def _with_model(settings: Run, update: dict[str, Any]) -> Run:
    return settings.model_copy(update={"model": settings.model.model_copy(update=update)})


class Respondent:
    """A loaded model that answers prompts. Raises ModelError where it cannot be loaded."""

    def __init__(self, place: Place) -> None:
        run = place.run
        self.name, self.run = place.name, run
        self.renderer = place.renderer()
        self.tokenizer = self.renderer.tokenizer
        if place.checkpoint is None:
            policy = model.open_policy(run.model)
        else:
            policy = model.load_policy(run.model, run.adapter)
            _take_up(policy, place.checkpoint)
        ends = frozenset(self.renderer.terminal) | weights.ends(run.model)
        self.engine = frozen_engine(policy, run)
        self.sampler = ProcessSampler(self.engine, ends)

    def __call__(self, prompt: Group, k: int, decoding: Decoding, seed: int) -> Replies:
        """K answers to a prompt; the same seed draws by the same numbers for every model."""
        began = time.perf_counter()
        ((texts, sampled),) = self.answers([prompt], k, decoding, seed)
        return Replies(self.name, texts, sampled, time.perf_counter() - began)

    def answers(
        self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int
    ) -> list[tuple[tuple[str, ...], tuple[Sampled, ...]]]:
        """(texts, tokens) of the k answers to each prompt."""
        encoded = self.renderer.encode_many(prompts)
        asked = [Prompt(prompt_key(p), e.prompt_ids, p) for p, e in zip(prompts, encoded, strict=True)]
        drawn = self.sampler(asked, k, decoding, seed, 0)
        return [(tuple(map(self._text, answers)), tuple(answers)) for answers in drawn]

    def _text(self, answer: Sampled) -> str:
        text: str = self.tokenizer.decode(answer.ids, skip_special_tokens=True)
        return text.strip()


def _take_up(policy: model.Policy, folder: Path) -> None:
    """The trained weights of a checkpoint, into the model that the run began with. Raises StoreError."""
    named = {f"weights/{name}": parameter.data for name, parameter in policy.trainable()}
    into = {name: torch.empty_like(tensor, dtype=_stored(tensor), device="cpu") for name, tensor in named.items()}
    checkpoint.load(folder, into)
    for name, tensor in named.items():
        tensor.copy_(into[name])


def _stored(tensor: Tensor) -> torch.dtype:
    """Checkpoints hold float32, whatever a model computes in; float64 stays."""
    return torch.promote_types(tensor.dtype, torch.float32)


def question(text: str, system: str = "") -> Group:
    """A user's prompt as a group without answers; with a system turn where one is given."""
    turns = (Message("system", system),) if system else ()
    return Group((*turns, Message("user", text)) if system else text, ())
