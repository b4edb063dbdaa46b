"""Everything of a run that changes from step to step: gathered for a checkpoint, and put back from one, to the bit.

The rest is a function of the configuration and of the step: the order of the data, the learning rate, what is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from burnish import __version__
from burnish.config import to_toml
from burnish.engine import checkpoint
from burnish.engine.reference import Live
from burnish.errors import JudgeError, StoreError
from burnish.group import EncodedGroup, Unjudged
from burnish.loop import online
from burnish.loop.build import Trainer
from burnish.loop.prepare import Prepared
from burnish.loop.stopping import Best


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Float32 weights, AdamW's moments, and a reference that moves, each under its own name."""
    found = {f"weights/{name}": tensor for name, tensor in trainer.masters.state().items()}
    for name, parameter in zip(trainer.masters.names, trainer.masters.parameters, strict=True):
        for moment, value in trainer.optimizer.state.get(parameter, {}).items():
            found[f"optimizer/{name}/{moment}"] = value
    if isinstance(trainer.reference, Live):
        found |= {f"reference/{name}": tensor for name, tensor in trainer.reference.state().items()}
    if trainer.keeper.best is not None:
        found |= {f"best/{name}": tensor for name, tensor in trainer.keeper.best.weights.items()}
    return found


def facts(trainer: Trainer, done: int) -> dict[str, Any]:
    """What is no tensor, and what says which run this is."""
    return {
        "step": done,
        "seed": trainer.run.seed,
        "running": trainer.running,
        "moved": trainer.moved,
        "world_size": trainer.world.size,
        "data": data_of(trainer.ready),
        "dial": online.state_of(trainer.source, trainer.answerer, trainer.watch),
        "best": None if trainer.keeper.best is None else [trainer.keeper.best.step, trainer.keeper.best.level],
        "looked": trainer.keeper.looked,
        "versions": {"burnish": __version__, "torch": torch.__version__},
        "config": to_toml(trainer.run),
    }


def save(trainer: Trainer, done: int, *, wait: bool = False) -> Path:
    """Write the checkpoint of `done` steps; returns its folder. Raises StoreError."""
    return trainer.writer.save(done, tensors(trainer), facts(trainer, done), wait=wait)


def next_groups(trainer: Trainer, step: int) -> list[EncodedGroup]:
    """The step's groups. Where nobody could judge fresh answers, what was done is saved before it is said."""
    try:
        return trainer.source.next(step)
    except JudgeError as error:
        if not step:
            raise
        where = save(trainer, step, wait=True)
        raise JudgeError(f"{error}. The weights after step {step} are in {where}; run.resume=true goes on") from error


def resume(trainer: Trainer) -> int:
    """Take up the newest checkpoint; returns the number of steps already done. No checkpoint: start from 0."""
    folders = trainer.world.lead(lambda: checkpoint.found(Path(trainer.run.run.dir)))
    if not folders:
        trainer.log.cut_after(0)
        trainer.watch.cut_after(0)
        trainer.progress.note("run.resume: this run has no checkpoint yet; it starts from the beginning")
        return 0
    told = checkpoint.facts_of(folders[-1])
    if told["data"] != data_of(trainer.ready):
        raise StoreError(
            f"run.resume: the training data is not what it was when {folders[-1]} was written (its groups, their order "
            "or their tokens changed); name another run.dir, or put the data back"
        )
    if told["best"] is not None:
        empty = {name: torch.empty_like(tensor) for name, tensor in trainer.masters.state().items()}
        trainer.keeper.best = Best(int(told["best"][0]), float(told["best"][1]), empty)
    _restore(trainer, folders[-1])
    trainer.keeper.looked = int(told["looked"])
    online.restore(told["dial"], trainer.source, trainer.answerer, trainer.watch)
    trainer.watch.cut_after(int(told["step"]))
    trainer.running = told["running"]
    trainer.moved = told["moved"]
    trainer.log.cut_after(int(told["step"]))
    trainer.progress.note(f"resumed after step {told['step']} from {folders[-1]}")
    return int(told["step"])


@torch.no_grad()
def _restore(trainer: Trainer, folder: Path) -> None:
    stored = checkpoint.names(folder)
    for name, parameter in zip(trainer.masters.names, trainer.masters.parameters, strict=True):
        if f"optimizer/{name}/step" in stored:  # a weight that no gradient has reached has no moments
            state = trainer.optimizer.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    own = tensors(trainer)
    read = checkpoint.room_for(own, trainer.world)
    checkpoint.load(folder, read, trainer.world)
    for name, tensor in own.items():
        put(tensor, read[name])
    trainer.masters.publish()
    if isinstance(trainer.reference, Live):
        trainer.reference.publish()


def put(into: Tensor, value: Tensor) -> None:
    """Copy a tensor, or a process's slice of one, from the CPU."""
    if isinstance(into, DTensor) and isinstance(value, DTensor):
        into.to_local().copy_(value.to_local())
    else:
        into.copy_(value)


def data_of(ready: Prepared) -> str:
    """Hash of what the run learns from: its groups, and the prompts that it answers itself."""
    asked = [EncodedGroup(one.key, one.ids, (), (), Unjudged()) for one in ready.asked]
    return fingerprint([*ready.train, *asked])


def fingerprint(groups: Sequence[EncodedGroup]) -> str:
    """Hash of the training groups in token space, in order."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(repr((group.prompt_ids, group.completion_ids, group.feedback)).encode())
    return digest.hexdigest()[:32]
