"""Everything of a run that changes from step to step: gathered for a checkpoint, and put back from one, to the bit.

The rest is a function of the configuration and of the step: the order of the data, the learning rate, what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from burnish import __version__
from burnish.config import Run, to_toml
from burnish.data import clock
from burnish.data.identity import fingerprint
from burnish.engine import checkpoint
from burnish.engine.distributed import World
from burnish.engine.reference import Live
from burnish.errors import StoreError
from burnish.group import EncodedGroup, Unjudged
from burnish.loop.build import Trainer
from burnish.loop.prepare import Prepared
from burnish.loop.watch import Best

FORMAT = 4  # of the facts; another number is another layout


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Float32 weights, AdamW's moments, and a reference that moves, each under its own name."""
    named = {f"weights/{name}": tensor for name, tensor in trainer.masters.state().items()}
    for name, parameter in zip(trainer.masters.names, trainer.masters.parameters, strict=True):
        for moment, value in trainer.optimizer.state.get(parameter, {}).items():
            named[f"optimizer/{name}/{moment}"] = value
    if isinstance(trainer.reference, Live):
        named |= {f"reference/{name}": tensor for name, tensor in trainer.reference.state().items()}
    if trainer.best.best is not None:
        named |= {f"best/{name}": tensor for name, tensor in trainer.best.best.weights.items()}
    return named


def facts(trainer: Trainer, done: int) -> dict[str, Any]:
    """What is no tensor, and what says which run this is."""
    best, answerer = trainer.best.best, trainer.answerer
    return {
        "format": FORMAT,
        "step": done,
        "seed": trainer.run.seed,
        "began": clock.now().isoformat(),  # the time that templates write
        "running": trainer.running,
        "moved": trainer.moved,
        "world_size": trainer.world.size,
        "data": _data_of(trainer.prepared),
        "judge_inputs": trainer.prepared.judge_inputs,
        "judges": trainer.judges.state(),
        "source": trainer.source.state(),
        "advantages": {} if answerer is None else {name: dict(values) for name, values in answerer.state.items()},
        "monitor": trainer.monitor.state(),
        "best": None if best is None else [best.step, best.level],
        "refreshes": trainer.best.refreshes,
        "versions": {"burnish": __version__, "torch": torch.__version__},
        "config": to_toml(trainer.run),
    }


def save(trainer: Trainer, done: int, *, wait: bool = False) -> Path:
    """Write the checkpoint of `done` steps; returns its folder. Raises StoreError."""
    return trainer.writer.save(done, tensors(trainer), facts(trainer, done), wait=wait)


@contextmanager
def clock_stopped(run: Run, world: World) -> Iterator[None]:
    """Inside, templates write the time at which the run began, as its newest checkpoint has it; now, where it begins.

    Raises StoreError where the checkpoint cannot be read.
    """

    def began() -> datetime:
        folders = checkpoint.folders(Path(run.run.dir)) if run.run.resume else []
        kept = checkpoint.facts_of(folders[-1]).get("began") if folders else None
        return clock.now() if kept is None else datetime.fromisoformat(str(kept))

    with clock.stopped(world.lead(began)):
        yield


def resume(trainer: Trainer) -> int:
    """Take up the newest checkpoint; returns the number of steps already done. No checkpoint: start from 0.

    Raises StoreError where the data or what judges read changed since, or where another version of burnish wrote the
    checkpoint.
    """
    folders = trainer.world.lead(lambda: checkpoint.folders(Path(trainer.run.run.dir)))
    if not folders:
        trainer.progress.note("run.resume: this run has no checkpoint yet; it starts from the beginning")
        return 0
    saved = checkpoint.facts_of(folders[-1])
    _refuse_other(saved, folders[-1], trainer.prepared)
    if saved["best"] is not None:
        empty = {name: torch.empty_like(tensor) for name, tensor in trainer.masters.state().items()}
        trainer.best.best = Best(int(saved["best"][0]), float(saved["best"][1]), empty)
    _restore(trainer, folders[-1])
    done = int(saved["step"])
    trainer.best.refreshes = int(saved["refreshes"])
    trainer.judges.restore(saved["judges"])
    if saved["source"]:
        trainer.source.restore(saved["source"])
    if trainer.answerer is not None:
        trainer.answerer.state = saved["advantages"]
    trainer.monitor.restore(saved["monitor"])
    trainer.running = saved["running"]
    trainer.moved = saved["moved"]
    trainer.progress.note(f"resumed after step {done} from {folders[-1]}")
    return done


def _refuse_other(saved: Mapping[str, Any], folder: Path, prepared: Prepared) -> None:
    if saved.get("format") != FORMAT:
        raise StoreError(
            f"run.resume: {folder} has the layout of another version of burnish, which this one does not read; go on "
            "with the version that began the run, or name another run.dir"
        )
    if saved["data"] != _data_of(prepared):
        raise StoreError(
            f"run.resume: the training data is not what it was when {folder} was written (its groups, their order "
            "or their tokens changed); name another run.dir, or put the data back"
        )
    if saved["judge_inputs"] != prepared.judge_inputs:
        raise StoreError(
            f"run.resume: what the judges read is not what it was when {folder} was written (fields of the prompts' "
            "rows, votes, a template, a schema or a reward model changed); name another run.dir, or put it back"
        )


@torch.no_grad()
def _restore(trainer: Trainer, folder: Path) -> None:
    stored = checkpoint.names(folder)
    for name, parameter in zip(trainer.masters.names, trainer.masters.parameters, strict=True):
        if f"optimizer/{name}/step" in stored:  # a weight that no gradient has reached has no moments
            state = trainer.optimizer.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    named = tensors(trainer)
    read = checkpoint.room_for(named, trainer.world)
    checkpoint.load(folder, read, trainer.world)
    for name, tensor in named.items():
        _put(tensor, read[name])
    trainer.masters.publish()
    if isinstance(trainer.reference, Live):
        trainer.reference.publish()


def _put(into: Tensor, value: Tensor) -> None:
    """Copy a tensor, or a process's slice of one, from the CPU."""
    if isinstance(into, DTensor) and isinstance(value, DTensor):
        into.to_local().copy_(value.to_local())
    else:
        into.copy_(value)


def _data_of(prepared: Prepared) -> str:
    """Hash of what the run learns from: its groups, and the prompts that it answers itself."""
    prompts = [EncodedGroup(prompt.key, prompt.ids, (), (), Unjudged()) for prompt in prepared.prompts]
    return fingerprint([*prepared.train, *prompts])
